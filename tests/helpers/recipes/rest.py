"""What recipes don't state: there our configs are the library's own one of the method."""

import re

from mmengine.config import Config

from .listed import LIBRARIES_OWN, counterpart
from .plain import leaves, plain

# What mmengine's runner and the evaluation with test-time augmentation read; all else in a config is a name for later.
READ = ('model', 'data_preprocessor', 'train_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
         'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'test_evaluator',
         'default_hooks', 'custom_hooks', 'load_from', 'resume', 'env_cfg', 'log_processor', 'log_level', 'visualizer',
         'default_scope', 'randomness', 'tta_model', 'tta_pipeline', 'model_wrapper_cfg', 'sync_bn',
         'find_unused_parameters', 'activation_checkpointing', 'efficient_conv_bn_eval', 'compile')
# Paths that recipes decide, in every library.
_DECIDED = [
    r'model\.backbone\..*',
    r'model\.data_preprocessor\.(size|pad_size_divisor)',
    r'param_scheduler\..*',
    r'train_cfg\.(max_epochs|max_iters)',
    r'auto_scale_lr\.base_batch_size',
    r'train_dataloader\.batch_size',
    r'tta_pipeline\..*',
]
_DECIDED_BY_LIBRARY = {
    # All of the model but initial weights: `model.*` of the recipes is the whole config.
    'mmdet': [r'model\.(?!data_preprocessor\.)(?!.*(init_cfg|pretrained)).*',
              r'optim_wrapper\..*', r'train_dataloader\.dataset\.filter_cfg\.filter_empty_gt'],
    'mmseg': [r'optim_wrapper\..*', r'model\.(?!data_preprocessor\.)(?!.*(init_cfg|pretrained)).*'],
    'mmpretrain': [r'optim_wrapper\.(type|clip_grad\..*)', r'data_preprocessor\.num_classes',
                   r'model\.train_cfg\.augments.*',
                   r'model\.head\.(num_classes|in_channels|loss\.label_smooth_val)',
                   r'(train|test)_dataloader\.dataset\.pipeline\.1\.(scale|interpolation)',
                   r'test_dataloader\.dataset\.pipeline\.2\.crop_size'],
}
# Recipes of DINO are in words of their own, which leave out what mmdet's configs have in more detail.
_DECIDED_OF_DINO = [
    r'optim_wrapper\..*', r'model\.num_feature_levels', r'model\.neck\.(in_channels\.\d|bias|num_outs)',
    r'model\.(encoder|decoder)\.layer_cfg\.(self|cross)_attn_cfg\.num_levels',
    r'model\.positional_encoding\.(offset|temperature)', r'train_dataloader\.dataset\.filter_cfg\.filter_empty_gt']


def rest(name, cfg):
    """Paths of a config at which it differs from the library's, though no recipe decides them.

    Args:
        name (str): Name of the config, below configs/.
        cfg (dict): The config as :func:`load` gives it.

    Returns:
        dict: Path → (value of the library, value of ours), ``'absent'`` where one has none.
    """
    theirs, ours = (dict(_paths(node)) for node in (libraries_own(name), cfg))
    pairs = {path: (theirs.get(path, 'absent'), ours.get(path, 'absent')) for path in sorted({*theirs, *ours})}
    return {f'config.{path}': pair for path, pair in pairs.items() if pair[0] != pair[1] and not decided(name, path)}


def decided(name, path):
    """Whether a recipe decides what stands at a path."""
    patterns = _DECIDED_OF_DINO if '/dino_' in name else _DECIDED_BY_LIBRARY[name.partition('/')[0]]
    return any(re.fullmatch(pattern, path) for pattern in (*_DECIDED, *patterns))


_CACHE = {}


def libraries_own(name):
    """The library's own config of a method, plain."""
    bases = tuple(counterpart(name, LIBRARIES_OWN))
    if bases not in _CACHE:
        found = {}
        for base in bases:
            package, _, file = base.partition('::')
            folder = __import__(package).__path__[0]
            found = Config._merge_a_into_b(Config.fromfile(f'{folder}/.mim/configs/{file}')._cfg_dict, found)
        _CACHE[bases] = plain(found)
    return _CACHE[bases]


def _paths(cfg):
    for key in ('dataloader', 'evaluator'):
        # Both sides of this are true of all of the libraries' configs.
        yield f'val_{key} is test_{key}', cfg[f'val_{key}'] == cfg[f'test_{key}']
    for key in READ:
        # The model's own wins.
        if key in cfg and not (key == 'data_preprocessor' and 'data_preprocessor' in cfg['model']):
            for path, value in leaves(_without_augmentation(cfg[key], key)):
                yield '.'.join(map(str, (key, *path))), value


def _without_augmentation(node, key):
    """A data loader whose pipeline only loads and packs: recipes state what is between, but for classification."""
    pipeline = node.get('dataset', {}).get('pipeline', ()) if key.endswith('_dataloader') and node else ()
    if not pipeline or any(step['type'] == 'PackInputs' for step in pipeline):
        return node
    kept = [step for step in pipeline if step['type'].startswith(('Load', 'Pack'))]
    return dict(node, dataset=dict(node['dataset'], pipeline=kept))
