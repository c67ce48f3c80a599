"""What is published, and which config of ours it belongs to."""

import json
import re

from tests.helpers.tools import ROOT

from .plain import flat
from .training import in_one_form

_SIZES = dict(t='tiny', s='small', b='base', l='large', xl='xlarge', h='huge')
_DATA = ROOT / 'tests' / 'data' / 'recipes'

# Config of ours, below configs/ and without ending → its published recipe. Groups are filled in, sizes by their names.
COUNTERPARTS = {
    r'mmdet/maskrcnn_focalnet_(\w)_(1x|3x)': 'mask_rcnn_{}_lrf_{}',
    r'mmdet/maskrcnn_focalnet_(\w)_srf_(1x|3x)': 'mask_rcnn_{}_srf_{}',
    r'mmdet/maskrcnn_focalnet_(\w)_deep_1x': 'mask_rcnn_{}_deeper_1x',
    r'mmdet/cascade_maskrcnn_focalnet_(t)_3x': 'cascade_mask_rcnn_{}_lrf_3x',
    r'mmdet/cascade_maskrcnn_focalnet_(t)_srf_3x': 'cascade_mask_rcnn_{}_srf_3x',
    r'mmdet/atss_focalnet_(t)_3x': 'atss_{}_lrf_3x',
    r'mmdet/atss_focalnet_(t)_srf_3x': 'atss_{}_srf_3x',
    r'mmdet/sparsercnn_focalnet_(t)_3x': 'sparse_rcnn_{}_lrf_3x',
    r'mmdet/sparsercnn_focalnet_(t)_srf_3x': 'sparse_rcnn_{}_srf_3x',
    r'mmdet/dino_focalnet_([tsb])_(4scale_12e)': 'dino_{}_lrf_{}',
    r'mmdet/dino_focalnet_(l)_(fl._.scale_..e)': 'dino_{}_{}',
    # Nobody has published a file of H: all but the backbone is compared with L.
    r'mmdet/dino_focalnet_h_(fl4_5scale_36e)': 'dino_large_{}',
    r'mmdet/mask2former_focalnet_(l)_100e_panoptic': 'mask2former_{}_panoptic',
    r'mmdet/mask2former_focalnet_([tl])_50e_instance': 'mask2former_{}_instance',
    r'mmseg/mask2former_focalnet_(l)_160k': 'mask2former_{}_ade20k',
    r'mmseg/upernet_focalnet_(\w)_160k': 'upernet_{}_lrf_160k',
    r'mmseg/upernet_focalnet_(\w)_srf_160k': 'upernet_{}_srf_160k',
    r'mmpretrain/focalnet_(\w)_in1k': 'classification_{}_lrf',
    # Nobody has published a yaml of the deep ones: all but the network is compared with their size.
    r'mmpretrain/focalnet_(\w)_deep_in1k': 'classification_{}_lrf',
    r'mmpretrain/focalnet_(\w)_(srf|iso)_in1k': 'classification_{}_{}',
    r'mmpretrain/focalnet_(l|xl|h)_(fl.)_in22k': 'classification_{}_{}',
}
# One thing is exchanged, in the backbone.
ABLATIONS = (
    r'mmpretrain/focalnet_t_(fl[014]|fl1_k13|(global_)?pooling|depthwise_convnet|sliding_window)_in1k',
    r'mmpretrain/focalnet_t_(self_attention_qkv_(first|later)|sum|no_global|no_gating|top_only)_in1k',
    r'mmdet/maskrcnn_focalnet_t_(sum|no_global|no_gating|top_only)_1x')
# Config of ours → why no recipe belongs to it.
WITHOUT = {
    r'mm\w+/\w+_shapes(_panoptic)?': "the built-in data set's",
    r'mmpretrain/focalnet_\w_(deep_srf|srf_overlap)_in1k':
        'tables 2 and 3: tests/configs/test_ablations.py compares them with the configs that they are variants of',
    r'mmdet/dino_focalnet_l_fl4_5scale_o365(_coco)?':
        'FocalNet-DINO states other things than detrex: tests/configs/test_objects365.py compares them',
    **dict.fromkeys(ABLATIONS, 'tables 12 to 14: tests/configs/test_ablations.py compares them with T-LRF'),
}
# Config of ours → the library's own one for the method: what recipes don't state is as there.
LIBRARIES_OWN = {
    r'mmdet/maskrcnn_\w+': ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'],
    r'mmdet/cascade_maskrcnn_\w+': ['mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py'],
    r'mmdet/atss_\w+': ['mmdet::atss/atss_r50_fpn_1x_coco.py'],
    r'mmdet/sparsercnn_\w+': ['mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_300-proposals_crop-ms-480-800-3x_coco.py'],
    r'mmdet/dino_\w+': ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'],
    r'mmdet/mask2former_focalnet_\w_50e_instance': [
        'mmdet::mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco.py'],
    r'mmdet/mask2former_\w+_panoptic': [
        'mmdet::mask2former/mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic.py'],
    r'mmseg/mask2former_\w+': [
        'mmseg::mask2former/mask2former_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640.py'],
    r'mmseg/upernet_\w+': ['mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'],
    r'mmpretrain/\w+_in1k': ['mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py'],
    r'mmpretrain/\w+_in22k': [
        'mmpretrain::swin_transformer/swin-large_16xb64_in1k.py', 'mmpretrain::_base_/datasets/imagenet21k_bs128.py'],
}


# What holds where a recipe says nothing.
UNMENTIONED = {
    'init.further': None, 'model.backbone.frozen_stages': -1, 'model.backbone.with_cp': False,
    'model.backbone.stem_padding': None, 'model.backbone.in_channels': 3, 'model.backbone.block': 'Block',
    'model.backbone.modulation': 'FocalModulation', 'model.backbone.implementation': 'auto',
    'optimizer.backbone_lr_mult': 1.0, 'optimizer.sampling_offsets_lr_mult': 1.0, 'schedule.until': 'the end',
    'schedule.warmup.type': None, 'schedule.warmup.factor': None, 'schedule.warmup.iters': 0}
UNMENTIONED_OF_DENSE = {'data.train.batch_augments': None, 'sync_bn_in_heads': False}
UNMENTIONED_OF_CLASSIFICATION = {
    'init.pretrained': None, 'loss.type': 'LabelSmoothLoss', 'data.filter_empty': None,
    'schedule.epochs_nominal': None}
# Recipe of another backbone → the recipes of which come the FocalNet, and the weights that it starts from.
BACKBONES = {
    'mask2former_large_panoptic': ('classification_large_fl4', 'dino_large_fl4_4scale_12e'),
    'mask2former_large_instance': ('classification_large_fl4', 'dino_large_fl4_4scale_12e'),
    'mask2former_large_ade20k': ('classification_large_fl4', 'dino_large_fl4_4scale_12e'),
    'mask2former_tiny_instance': ('mask_rcnn_tiny_lrf_1x', 'mask_rcnn_tiny_lrf_1x')}


def counterpart(name, table=COUNTERPARTS):
    """What a table of patterns says of a config of ours, ``None`` where it says nothing."""
    for pattern, target in table.items():
        match = re.fullmatch(pattern, name)
        if match and isinstance(target, str):
            return target.format(*(_SIZES.get(part, part) for part in match.groups() if part))
        if match:
            return target
    return None


def read_recipes():
    """Name → (field → value) of all published recipes."""
    found = {}
    for path in sorted(_DATA.glob('*.json')):
        family = json.loads(path.read_text())
        for name, entry in family['entries'].items():
            found[name] = {**family['common']['values'], **entry['values']}
    for name, (source, weights) in BACKBONES.items():
        backbone = {field: value for field, value in found[source].items() if field.startswith('model.backbone.')}
        found[name] = {**backbone, 'init.pretrained': found[weights]['init.pretrained'], **found[name]}
    return {name: _completed(values) for name, values in found.items()}


def _completed(recipe):
    """With what holds where a recipe says nothing, and pipelines in the form of ours."""
    recipe = dict(recipe)
    if recipe.get('schedule.unit') == 'epoch':
        recipe.setdefault('schedule.epochs_nominal', recipe['schedule.length'])
    policy = recipe['schedule.policy']
    if policy != 'cosine':
        recipe.setdefault({'step': 'schedule.step_from', 'poly': 'schedule.poly_from_iter'}[policy], 0)
    if policy in ('poly', 'cosine'):
        # mmcv 1.x, mmengine's PolyLR and the authors' lr_scheduler.py:29 go by iterations.
        recipe.setdefault('schedule.each_iteration', True)
    if recipe.get('schedule.warmup.type'):
        recipe.setdefault('schedule.warmup.from', 0)
        if 'schedule.warmup.epochs' in recipe:
            recipe.setdefault('schedule.warmup.each_iteration', True)
    for split in ('train', 'test'):
        if recipe.get(f'data.{split}.pipeline'):
            recipe[f'data.{split}.pipeline'] = in_one_form(recipe[f'data.{split}.pipeline'])
            for field, value in UNMENTIONED_OF_DENSE.items():
                recipe.setdefault(field, value)
            pad = recipe.get('data.train.pad')
            recipe.setdefault('data.test.pad', pad if isinstance(pad, int) else None)
    if recipe.get('batch.total') and {'batch.gpus', 'batch.per_gpu_in_config'} - set(recipe):
        each = recipe.get('batch.per_gpu_in_config') or recipe['batch.total'] // recipe.get('batch.gpus', 8)
        recipe.update({'batch.per_gpu_in_config': each, 'batch.gpus': recipe['batch.total'] // each})
    for field, value in UNMENTIONED.items():
        recipe.setdefault(field, value)
    if 'train.epochs' in recipe:
        for field, value in UNMENTIONED_OF_CLASSIFICATION.items():
            recipe.setdefault(field, value)
        last = len(recipe['model.backbone.depths']) - 1
        recipe.update({'model.backbone.out_indices': [last], 'data.num_classes': recipe['model.num_classes'],
                       'model.head.in_channels': recipe['model.backbone.embed_dims'] * 2**last})
    rules = {field: recipe.pop(field) for field in ('no_decay', 'no_decay_rule')}
    return {**flat(recipe), **rules}
