"""Every config: it parses, builds, follows the recipe and has the published size."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from focalnet_mm import ARCHS
from focalnet_mm.data.shapes import STUFF_CLASSES, THING_CLASSES
from focalnet_mm.run.build import build_model
from focalnet_mm.zoo.rows import read_zoo
from focalnet_mm.zoo.sizes import model_size
from tests.configs.test_ablations import ABLATIONS, SAME_RECIPE
from tests.helpers.tools import ROOT

CONFIGS = sorted(path.relative_to(ROOT / 'configs') for path in (ROOT / 'configs').glob('*/*.py'))
MASK_RCNN = [f'maskrcnn_focalnet_{size}{field}_{schedule}.py'
             for size in 'tsb' for field in ('', '_srf') for schedule in ('1x', '3x')]
DEEP = [f'maskrcnn_focalnet_{size}_deep_1x.py' for size in 'tsb']
SIZES = dict(t='tiny', s='small', b='base')

# Those with Objects365 have tests of their own; of those that share a recipe, two stand for all.
STEPPED = [path for path in CONFIGS if 'o365' not in path.name and path.stem not in SAME_RECIPE - {
    'focalnet_t_sliding_window_in1k', 'maskrcnn_focalnet_t_sum_1x'}]

ROWS = {row.name: row for row in read_zoo(ROOT)}
WEIGHTS = 'https://github.com/microsoft/FocalNet/releases/download/v1.0.0/'
# The recipes of the authors' configs for stochastic depth.
STOCHASTIC_DEPTH = {('t', '1x'): 0.1, ('t', '3x'): 0.3, ('s', '1x'): 0.2, ('s', '3x'): 0.5, ('b', '1x'): 0.3,
                    ('b', '3x'): 0.5}


def load(name):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    remove_scopes(cfg._cfg_dict)
    return cfg


def remove_scopes(node):
    """mmengine marks what is inherited from another library with that library's name."""
    if isinstance(node, dict):
        node.pop('_scope_', None)
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        remove_scopes(child)


def test_the_fifteen_mask_rcnns_are_there():
    assert {Path('mmdet', name) for name in MASK_RCNN + DEEP} <= set(CONFIGS)


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_parses_and_says_where_its_data_comes_from(path):
    cfg = load(path)
    assert cfg.default_scope == path.parts[0]
    assert 'focalnet_mm' in cfg.custom_imports.imports
    assert cfg.data_source
    assert cfg.model.backbone.type == 'FocalNet'


@pytest.mark.slow
@pytest.mark.parametrize('name', ROWS)
def test_size(name):
    """Parameters within 1% and FLOPs within 5% of the published ones, and just those that the metafile says."""
    row = ROWS[name]
    transformer = 'DINO' in row.collection or 'Mask2Former' in row.collection
    if transformer and name != 'mask2former_focalnet_t_50e_instance':
        # Their attention runs for real, up to a minute a model: `focalnet-mm zoo sizes` counts all of them.
        model = build_model(load(row.config.removeprefix('configs/')), 'meta')
        assert sum(p.numel() for p in model.parameters()) == row.size.parameters
        assert row.published_flops is None
        return
    assert model_size(ROOT / row.config, row.input_size) == row.size
    if row.published_parameters is None:
        return
    if name in ('maskrcnn_focalnet_t_1x', 'maskrcnn_focalnet_t_3x'):
        # What the paper's table says does not fit its own kernels.
        assert row.note
    else:
        assert row.size.parameters / 1e6 == pytest.approx(row.published_parameters, rel=0.01)
    if row.published_flops is not None:
        assert row.size.flops / 1e9 == pytest.approx(row.published_flops, rel=0.05)


def test_panoptic_model_has_the_known_size():
    assert ROWS['mask2former_focalnet_l_100e_panoptic'].size.parameters / 1e6 == pytest.approx(226.1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize('path', STEPPED, ids=str)
def test_step_and_prediction(path, batch, build, thin_config):
    cfg = thin_config(path)
    model, wrapper = build(cfg)
    groups = {id(p): group for group in wrapper.optimizer.param_groups for p in group['params']}
    slow = cfg.model.type in ('DINO', 'Mask2Former') or cfg.model.get('decode_head', {}).get(
        'type') == 'Mask2FormerHead'
    slow = slow and 'shapes' not in path.name
    for name, parameter in model.backbone.named_parameters():
        group = groups[id(parameter)]
        if re.search(r'(^|\.)(norm\d?|ln)\.|gamma_\d', name):
            assert group['weight_decay'] == 0, name
        elif name.endswith('weight'):
            assert group['weight_decay'] == cfg.optim_wrapper.optimizer.weight_decay > 0, name
        assert group['lr'] == pytest.approx(cfg.optim_wrapper.optimizer.lr * (0.1 if slow else 1)), name
    for name, parameter in model.named_parameters():
        if not name.startswith('backbone'):
            assert groups[id(parameter)]['lr'] == pytest.approx(cfg.optim_wrapper.optimizer.lr), name

    model.train()
    losses, _ = model.parse_losses(model(**model.data_preprocessor(batch(cfg), True), mode='loss'))
    losses.backward()
    assert torch.isfinite(losses)
    assert not [name for name, p in model.backbone.named_parameters() if p.grad is None or not p.grad.any()]
    wrapper.step()
    model.eval()
    predictions = model.test_step(batch(cfg))
    assert len(predictions) == 2


@pytest.mark.parametrize('name', MASK_RCNN + DEEP)
def test_recipe_of_mask_rcnn(name):
    cfg = load(f'mmdet/{name}')
    size, schedule = re.fullmatch(r'maskrcnn_focalnet_(\w).*_(\dx).py', name).groups()
    kind = 'deep' if 'deep' in name else 'srf' if 'srf' in name else 'lrf'
    epochs, steps = dict(zip(('1x', '3x'), ((12, [9, 11]), (36, [27, 33]))))[schedule]

    backbone = cfg.model.backbone
    assert backbone.arch == f'{SIZES[size]}-{kind}'
    assert backbone.focal_windows == 9
    assert backbone.out_indices == (0, 1, 2, 3)
    expected = dict(t=0.2, s=0.2, b=0.3)[size] if kind == 'deep' else STOCHASTIC_DEPTH[size, schedule]
    assert backbone.drop_path_rate == expected
    channels = ARCHS[backbone.arch]['embed_dims']
    assert cfg.model.neck.in_channels == [channels * 2**i for i in range(4)]
    if kind == 'deep':
        assert 'init_cfg' not in backbone
        assert 'published no weights' in (ROOT / 'configs' / 'mmdet' / name).read_text()
    else:
        assert backbone.init_cfg == dict(type='Pretrained', checkpoint=(
            'https://github.com/microsoft/FocalNet/releases/download/v1.0.0/'
            f'focalnet_{SIZES[size]}_{kind}.pth'))

    wrapper = cfg.optim_wrapper
    assert wrapper.type == 'AmpOptimWrapper'
    assert wrapper.optimizer == dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05)
    assert 'clip_grad' not in wrapper
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.train_cfg.max_epochs == epochs
    warm_up, decay = cfg.param_scheduler
    assert warm_up == dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
    assert decay == dict(type='MultiStepLR', by_epoch=True, begin=0, end=epochs, milestones=steps, gamma=0.1)
    assert cfg.val_evaluator.metric == ['bbox', 'segm']

    _, _, flip, choice, _ = cfg.train_dataloader.dataset.pipeline
    assert flip == dict(type='RandomFlip', prob=0.5)
    (plain,), (first, crop, second) = choice.transforms
    scales = [(short, 1333) for short in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)]
    assert plain.scales == second.scales == scales
    assert first.scales == [(400, 1333), (500, 1333), (600, 1333)]
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))


def check_crop(pipeline):
    """Multi-scale 480 to 800 with the crop of DETR; the last value of a scale is the long side."""
    flip, choice = pipeline[2:4]
    assert flip == dict(type='RandomFlip', prob=0.5)
    (plain,), (first, crop, second) = choice.transforms
    assert plain.scales == second.scales == [(short, 1333) for short in range(480, 801, 32)]
    assert [short for short, _ in first.scales] == [400, 500, 600]
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))


def check_weights(backbone, name):
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=f'{WEIGHTS}{name}.pth')


@pytest.mark.parametrize('field', ['lrf', 'srf'])
@pytest.mark.parametrize('method', ['cascade_maskrcnn', 'atss', 'sparsercnn'])
def test_recipe_of_the_other_detectors(method, field):
    cfg = load(f'mmdet/{method}_focalnet_t{"_srf" if field == "srf" else ""}_3x.py')
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.focal_windows, backbone.drop_path_rate) == (f'tiny-{field}', (11, 9, 9, 7), 0.3)
    check_weights(backbone, f'focalnet_tiny_{field}')
    check_crop(cfg.train_dataloader.dataset.pipeline)
    assert cfg.train_cfg.max_epochs == 36
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.type, warm_up.start_factor, warm_up.end, warm_up.by_epoch) == ('LinearLR', 0.001, 500, False)
    assert (decay.type, decay.milestones, decay.gamma) == ('MultiStepLR', [27, 33], 0.1)
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_size == 2
    wrapper = cfg.optim_wrapper
    sparse = method == 'sparsercnn'
    assert wrapper.type == ('OptimWrapper' if sparse else 'AmpOptimWrapper')
    assert wrapper.optimizer == dict(type='AdamW', lr=2.5e-5 if sparse else 1e-4, betas=(0.9, 0.999),
                                     weight_decay=1e-4 if sparse else 0.05)
    assert wrapper.get('clip_grad') == (dict(max_norm=1, norm_type=2) if sparse else None)
    assert cfg.val_evaluator.metric == (['bbox', 'segm'] if method == 'cascade_maskrcnn' else 'bbox')
    if method == 'cascade_maskrcnn':
        stds = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
        assert [head.bbox_coder.target_stds for head in cfg.model.roi_head.bbox_head] == stds
        for head in cfg.model.roi_head.bbox_head:
            assert head.type == 'Shared4Conv1FCBBoxHead'
            assert head.norm_cfg.type == 'SyncBN'
            assert head.reg_decoded_bbox
            assert not head.reg_class_agnostic
            assert head.loss_bbox == dict(type='GIoULoss', loss_weight=10.0)
    elif sparse:
        assert cfg.model.rpn_head.num_proposals == cfg.model.test_cfg.rcnn.max_per_img == 300


@pytest.mark.parametrize(('name', 'arch', 'weights', 'drop_path', 'scales', 'epochs'), [
    ('t_4scale_12e', 'tiny-lrf', 'focalnet_tiny_lrf', 0.1, 4, 12),
    ('s_4scale_12e', 'small-lrf', 'focalnet_small_lrf', 0.1, 4, 12),
    ('b_4scale_12e', 'base-lrf', 'focalnet_base_lrf', 0.1, 4, 12),
    ('l_fl3_4scale_12e', 'large-fl3', 'focalnet_large_lrf_384', 0.2, 4, 12),
    ('l_fl3_4scale_36e', 'large-fl3', 'focalnet_large_lrf_384', 0.2, 4, 36),
    ('l_fl4_4scale_12e', 'large-fl4', 'focalnet_large_lrf_384_fl4', 0.2, 4, 12),
    ('l_fl4_5scale_12e', 'large-fl4', 'focalnet_large_lrf_384_fl4', 0.2, 5, 12),
    ('l_fl4_5scale_36e', 'large-fl4', 'focalnet_large_lrf_384_fl4', 0.4, 5, 36),
    ('h_fl4_5scale_36e', 'huge-fl4', None, 0.4, 5, 36)])
def test_recipe_of_dino(name, arch, weights, drop_path, scales, epochs):
    cfg = load(f'mmdet/dino_focalnet_{name}.py')
    model, backbone = cfg.model, cfg.model.backbone
    assert (backbone.arch, backbone.drop_path_rate) == (arch, drop_path)
    # As pretrained, and as detrex has it.
    assert 'focal_windows' not in backbone
    assert backbone.get('normalize_modulator') == (False if arch == 'large-fl4' else None)
    if weights:
        check_weights(backbone, weights)
    else:
        assert 'init_cfg' not in backbone
    assert backbone.out_indices == ((1, 2, 3) if scales == 4 else (0, 1, 2, 3))
    assert model.neck.num_outs == scales
    assert model.get('num_feature_levels', 4) == scales
    assert model.encoder.layer_cfg.self_attn_cfg.num_levels == scales
    assert model.decoder.layer_cfg.cross_attn_cfg.num_levels == scales
    assert model.neck.in_channels == [ARCHS[arch]['embed_dims'] * 2**i for i in backbone.out_indices]
    assert (model.positional_encoding.temperature, model.positional_encoding.offset) == (10000, -0.5)
    assert model.num_queries == 900
    wrapper = cfg.optim_wrapper
    assert wrapper.optimizer == dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4)
    assert wrapper.clip_grad.max_norm == 0.1
    assert cfg.train_cfg.max_epochs == epochs
    assert [(step.type, step.milestones) for step in cfg.param_scheduler] == [
        ('MultiStepLR', [11] if epochs == 12 else [33])]
    assert cfg.auto_scale_lr.base_batch_size == 16
    check_crop([None, None, *cfg.train_dataloader.dataset.pipeline[2:]])


@pytest.mark.parametrize(('path', 'swin', 'arch', 'windows', 'queries'), [
    ('mmdet/mask2former_focalnet_l_100e_panoptic.py',
     'mmdet::mask2former/mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic.py', 'large-fl4', None, 200),
    ('mmdet/mask2former_focalnet_t_50e_instance.py',
     'mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py', 'tiny-lrf', 9, 100),
    ('mmdet/mask2former_focalnet_l_50e_instance.py',
     'mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py', 'large-fl4', None, 100),
    ('mmseg/mask2former_focalnet_l_160k.py',
     'mmseg::mask2former/mask2former_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640.py', 'large-fl4', None, 100)])
def test_recipe_of_mask2former(path, swin, arch, windows, queries):
    """The library's recipe for Swin with the backbone exchanged."""
    cfg = load(path)
    package, name = swin.split('::')
    reference = Config.fromfile(
        Path(__import__(package).__file__).parent / '.mim' / 'configs' / name)
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.get('focal_windows'), backbone.drop_path_rate) == (arch, windows, 0.3)
    check_weights(backbone, 'focalnet_tiny_lrf' if arch == 'tiny-lrf' else 'focalnet_large_lrf_384_fl4')
    head = 'panoptic_head' if package == 'mmdet' else 'decode_head'
    assert cfg.model[head].num_queries == queries
    assert cfg.model[head].in_channels == [ARCHS[arch]['embed_dims'] * 2**i for i in range(4)]
    for key in ('train_dataloader', 'val_dataloader', 'val_evaluator', 'train_cfg', 'param_scheduler',
                'auto_scale_lr', 'data_preprocessor'):
        assert cfg[key] == reference[key], key
    for key in ('optimizer', 'clip_grad', 'type'):
        assert cfg.optim_wrapper[key] == reference.optim_wrapper[key]
    for config in (cfg, reference):
        config.model.pop('backbone')
        config.model[head].pop('in_channels')
    assert cfg.model == reference.model


@pytest.mark.parametrize('size', 'tsb')
@pytest.mark.parametrize('field', ['lrf', 'srf'])
def test_recipe_of_upernet(size, field):
    cfg = load(f'mmseg/upernet_focalnet_{size}{"_srf" if field == "srf" else ""}_160k.py')
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.focal_windows, backbone.drop_path_rate) == (f'{SIZES[size]}-{field}', 9, 0.3)
    check_weights(backbone, f'focalnet_{SIZES[size]}_{field}')
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01)
    assert cfg.optim_wrapper.get('clip_grad') is None
    warm_up, poly = cfg.param_scheduler
    assert warm_up == dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500)
    assert poly == dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, end=160000, by_epoch=False)
    assert cfg.train_cfg.max_iters == 160000
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.crop_size == cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 150
    channels = [ARCHS[backbone.arch]['embed_dims'] * 2**i for i in range(4)]
    assert cfg.model.decode_head.in_channels == channels
    assert cfg.model.auxiliary_head.in_channels == channels[2]


@pytest.mark.parametrize('path', [path for path in CONFIGS if path.parts[0] == 'mmpretrain'
                                  and path.stem not in ABLATIONS], ids=str)
def test_recipe_of_classifiers(path):
    cfg = load(path)
    size, *kind = path.stem.split('_')[1:-1]
    kind = '-'.join(kind) or 'lrf'
    backbone = cfg.model.backbone
    sizes = dict(SIZES, l='large', xl='xlarge', h='huge')
    assert backbone.arch == f'{sizes[size]}-{kind}'
    arch = ARCHS[backbone.arch]
    assert cfg.model.head.in_channels == arch['embed_dims'] * 2 ** (len(arch['depths']) - 1)
    assert backbone.out_indices == (len(arch['depths']) - 1,)
    # As in the authors' yaml files; they have none for the deep variants, which take that of their size.
    depth = 0.5 if path.stem.endswith('in22k') else 0.2 if kind == 'iso' else dict(t=0.2, s=0.3, b=0.5)[size]
    assert backbone.drop_path_rate == depth
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999))
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    if path.stem.endswith('in22k'):
        assert cfg.model.head.num_classes == 21842
        return
    assert cfg.model.head.num_classes == 1000
    assert cfg.train_cfg.max_epochs == 300
    resize, crop = cfg.test_dataloader.dataset.pipeline[1:3]
    assert (resize.scale, resize.edge, resize.interpolation) == (256, 'short', 'bicubic')
    assert crop.crop_size / resize.scale == 0.875


def test_schedules_differ_in_nothing_else():
    for size in 'tsb':
        short, long = (load(f'mmdet/maskrcnn_focalnet_{size}_{schedule}.py').to_dict() for schedule in ('1x', '3x'))
        for cfg in (short, long):
            cfg['model']['backbone'].pop('drop_path_rate')
            cfg.pop('param_scheduler')
            cfg['train_cfg'].pop('max_epochs')
        assert short == long


@pytest.mark.slow
@pytest.mark.parametrize('path', [path for path in CONFIGS if 'shapes' in path.name], ids=str)
def test_shapes_configs_are_their_methods(path, build, thin_config):
    """Of the built-in data set's classes, and thinner, but the same model and optimizer."""
    real = {'maskrcnn': 't_1x', 'mask2former': 'l_100e_panoptic', 'dino': 't_4scale_12e', 'upernet': 't_160k'}
    method = path.name.split('_focalnet')[0]
    cfg = load(path)
    reference = load(path.with_name(f'{method}_focalnet_{real.get(method, "t_3x")}.py'))
    assert cfg.model.type == reference.model.type
    assert cfg.optim_wrapper.optimizer.type == reference.optim_wrapper.optimizer.type
    semantic = method in ('upernet', 'mask2former')
    for split in ('train', 'val', 'test'):
        metainfo = cfg[f'{split}_dataloader'].dataset.metainfo
        assert metainfo.classes == (THING_CLASSES + STUFF_CLASSES if semantic else THING_CLASSES)
        assert len(metainfo.palette) == len(metainfo.classes)
    assert cfg.data_root in str(cfg.train_dataloader.dataset.data_root)
    model, _ = build(thin_config(path))
    counts = {module.num_classes for name, module in model.named_modules()
              if hasattr(module, 'num_classes') and name != 'rpn_head'}
    assert counts == {9 if semantic else 5}


def test_model_index_names_every_config():
    named = {Path(row.config).relative_to('configs') for row in ROWS.values()}
    assert named == {path for path in CONFIGS if 'shapes' not in path.name}
    assert all(row.name == Path(row.config).stem for row in ROWS.values())
