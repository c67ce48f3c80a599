"""Learning rate and weight decay of each parameter: as our config has it, and as the authors' rule has it."""

import re

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from focalnet_mm.run.build import build_model

from .models import quiet

# detectron2's list, which detrex takes; what it lacks is in no model here.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def groups(path, change=None):
    """The model of a config and its parameters' settings, by mmengine's own constructor.

    Args:
        path (Path): The config.
        change (Callable, optional): What is done to the config before.

    Returns:
        tuple: The model, on the meta device, and name → (learning rate, weight decay).
    """
    cfg = Config.fromfile(path)
    # Mixed precision needs a GPU, and is nothing to the groups.
    cfg.optim_wrapper['type'] = 'OptimWrapper'
    for key in ('loss_scale', 'dtype'):
        cfg.optim_wrapper.pop(key, None)
    if change:
        change(cfg)
    with quiet():
        model = build_model(cfg, 'meta')
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[parameter]: (group['lr'], group['weight_decay'])
             for group in wrapper.optimizer.param_groups for parameter in group['params']}
    return model, found


def of_rule(model, recipe):
    """Name → (learning rate, weight decay) of a model's parameters, by the rule of a recipe.

    Raises:
        AssertionError: The recipe's patterns pick other parameters than its rule.
    """
    lr, decay = recipe['optimizer.lr'], recipe['optimizer.weight_decay']
    # The classification code knows no slow backbones.
    slow = lr and lr * recipe.get('optimizer.backbone_lr_mult', 1.0)
    without = _without_decay(model, recipe['no_decay_rule'])
    if recipe['no_decay_rule']['kind'] == 'mmengine' or 'no_decay' in recipe:
        patterns = {name for name, _ in model.named_parameters()
                    if any(re.search(pattern, name) for pattern in recipe['no_decay'])}
        assert patterns == without, sorted(patterns ^ without)
    return {name: (slow if name.startswith('backbone.') else lr, 0.0 if name in without else decay)
            for name, _ in model.named_parameters()}


def _without_decay(model, rule):
    """Names of the parameters that a rule leaves without decay."""
    named = dict(model.named_parameters())
    if rule['kind'] == 'substring':
        return {name for name in named if any(key in name for key in rule['keys'])}
    if rule['kind'] == '1-d-or-bias':
        return {name for name, parameter in named.items() if parameter.dim() == 1 or name.endswith('.bias')}
    assert rule['kind'] in ('module-type', 'mmengine')
    keys = [key for key in rule.get('custom_keys', ()) if ' ' not in key]
    of_norms = {f'{owner}.{name}' for owner, module in model.named_modules() if isinstance(module, _NORMS)
                for name, _ in module.named_parameters(recurse=False)}
    return of_norms | {name for name in named if any(key in name for key in keys)}
