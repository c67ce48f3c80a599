"""What a config says of its model, in the recipes' fields."""

import contextlib
import functools
import itertools
import json
import logging

import torch
from mmengine.logging import MMLogger

from focalnet_mm import FocalNet

from .plain import flat

_SHARED = {'Shared2FCBBoxHead': (0, 2), 'Shared4Conv1FCBBoxHead': (4, 1)}


def backbone_fields(cfg):
    """The backbone as it is built, so that defaults count too."""
    backbone = cfg['model']['backbone']
    assert backbone['type'] == 'FocalNet'
    init = backbone.get('init_cfg') or {}
    settings = {key: value for key, value in backbone.items() if key not in ('type', 'init_cfg')}
    pretrained = init['checkpoint'].rpartition('/')[2] if init.get('type') == 'Pretrained' else None
    return {**_built(json.dumps(settings)), 'init.pretrained': pretrained,
            'init.further': sorted(set(init) - {'type', 'checkpoint'}) or None}


@functools.cache
def _built(settings):
    """The fields of a FocalNet of some settings, which are JSON."""
    with torch.device('meta'), quiet():
        net = FocalNet(**json.loads(settings))
    found = {f'model.backbone.{key}': value for key, value in _of_blocks(net).items()}
    stem, blocks = net.patch_embed, [block for stage in net.layers for block in stage.blocks]
    conv_stem = stem.proj.kernel_size[0] > stem.stride
    found.update({
        'model.backbone.embed_dims': stem.proj.out_channels,
        'model.backbone.depths': [len(stage.blocks) for stage in net.layers],
        'model.backbone.patch_size': stem.stride,
        'model.backbone.in_channels': net.in_channels,
        'model.backbone.patch_norm': isinstance(stem.norm, torch.nn.LayerNorm),
        'model.backbone.conv_stem': conv_stem,
        'model.backbone.stem_padding': stem.proj.padding[0] if conv_stem else None,
        'model.backbone.drop_path_rate': round(float(getattr(blocks[-1].drop_path, 'drop_prob', 0)), 6),
        'model.backbone.out_indices': list(net.out_indices),
        'model.backbone.frozen_stages': net.frozen_stages,
        'model.backbone.with_cp': net.with_cp,
        'model.backbone.implementation': net.implementation,
    })
    return found


def _of_blocks(net):
    """What all blocks of a network have in common, and what the stages have each."""
    per_stage = dict(focal_levels=[], focal_windows=[])
    common = []
    for stage in net.layers:
        for block in stage.blocks:
            kernels = [level[0].kernel_size[0] for level in block.modulation.focal_layers]
            steps = {after - before for before, after in itertools.pairwise(kernels)}
            common.append(dict(
                block=type(block).__name__,
                modulation=type(block.modulation).__name__,
                focal_factor=steps.pop() if len(steps) == 1 else sorted(steps),
                post_norm=block.post_norm,
                post_norm_in_modulation=isinstance(block.modulation.ln, torch.nn.LayerNorm),
                layer_scale=block.layer_scale_init_value if block.gamma_1 is not None else 0.0,
                normalize_modulator=block.modulation.normalize_modulator,
                mlp_ratio=block.mlp.fc1.out_features / block.mlp.fc1.in_features,
                drop_rate=max(net.pos_drop.p, block.mlp.drop.p, block.modulation.proj_drop.p)))
        per_stage['focal_levels'].append(len(kernels))
        per_stage['focal_windows'].append(kernels[0])
    assert all(one == common[0] for one in common)
    return {**per_stage, **common[0]}


def model_fields(cfg):
    """All of the model but its backbone."""
    model = cfg['model']
    if model['type'] == 'ImageClassifier':
        return {'model.num_classes': model['head']['num_classes'],
                'model.head.in_channels': model['head']['in_channels']}
    if model['type'] == 'DINO':
        return _dino(model)
    found = {}
    for key, value in model.items():
        if key not in ('backbone', 'data_preprocessor') and not (key in ('init_cfg', 'pretrained') and value is None):
            found.update(flat(_in_one_form(value), f'model.{key}'))
    return found


def _in_one_form(node):
    """With the shared box heads as what they are, costs by their types, and without initial weights."""
    if isinstance(node, list):
        return [_in_one_form(value) for value in node]
    if not isinstance(node, dict):
        return node
    node = {key: _in_one_form(value) for key, value in node.items()
            if key != 'pretrained' and not (key == 'init_cfg' and value is not None)}
    if node.get('type') in _SHARED:
        convs, fcs = _SHARED[node['type']]
        node = dict(node, type='ConvFCBBoxHead', num_shared_convs=convs, num_shared_fcs=fcs)
        node.setdefault('conv_out_channels', 256)
    if isinstance(node.get('match_costs'), list):
        node['match_costs'] = {kind: {key: value for key, value in cost.items() if key != 'type'}
                               for kind, cost in _by_type(node['match_costs']).items()}
    return node


def _dino(model):
    """A DINO of mmdet in fields that hold in detrex too."""
    encoder, decoder = (model[part]['layer_cfg'] for part in ('encoder', 'decoder'))
    attentions = [encoder['self_attn_cfg'], decoder['self_attn_cfg'], decoder['cross_attn_cfg']]
    ffns = [encoder['ffn_cfg'], decoder['ffn_cfg']]
    head, noise = model['bbox_head'], model['dn_cfg']
    costs = _by_type(model['train_cfg']['assigner']['match_costs'])
    found = {
        'type': model['type'],
        'num_queries': model['num_queries'],
        'num_classes': head['num_classes'],
        'as_two_stage': model['as_two_stage'],
        'with_box_refine': model['with_box_refine'],
        'share_pred_layers': head.get('share_pred_layer', False),
        # mmdet's DINO decodes so in any case, and learns the contents of its queries.
        'look_forward_twice': True,
        'learnt_init_query': True,
        'encoder.num_layers': model['encoder']['num_layers'],
        'decoder.num_layers': model['decoder']['num_layers'],
        'embed_dims': _one({part.get('embed_dims') for part in (*attentions, *ffns)}),
        'num_heads': _one({part.get('num_heads', 8) for part in attentions}),
        'feedforward_channels': _one({part['feedforward_channels'] for part in ffns}),
        'attn_dropout': _one({part['dropout'] for part in attentions}),
        'ffn_dropout': _one({part['ffn_drop'] for part in ffns}),
        'num_feature_levels': _one({model.get('num_feature_levels', 4), encoder['self_attn_cfg']['num_levels'],
                                    decoder['cross_attn_cfg'].get('num_levels', 4)}),
        'query_pos.temperature': 10000,
        'dn.num_dn_queries': noise['group_cfg']['num_dn_queries'],
        'dn.dynamic_groups': noise['group_cfg']['dynamic'],
        'dn.label_noise_scale': noise['label_noise_scale'],
        'dn.box_noise_scale': noise['box_noise_scale'],
        'match.cls': costs['FocalLossCost']['weight'],
        'match.l1': costs['BBoxL1Cost']['weight'],
        'match.giou': costs['IoUCost']['weight'],
        'loss.cls_weight': head['loss_cls']['loss_weight'],
        'loss.l1_weight': head['loss_bbox']['loss_weight'],
        'loss.giou_weight': head['loss_iou']['loss_weight'],
        'loss.focal_alpha': head['loss_cls']['alpha'],
        'loss.focal_gamma': head['loss_cls']['gamma'],
        'test.max_per_img': model['test_cfg']['max_per_img'],
    }
    neck = {key: value for key, value in model['neck'].items() if key != 'act_cfg'}
    positions = dict(model['positional_encoding'])
    found.update({f'neck.{key}': value for key, value in neck.items()})
    found.update({f'positional_encoding.{key}': value for key, value in positions.items()})
    return {f'model.{key}': value for key, value in found.items()}


def _by_type(costs):
    found = {cost['type']: cost for cost in costs}
    assert len(found) == len(costs), 'a cost is counted twice'
    return found


def _one(values):
    """The value that several settings share, or all of them."""
    return values.pop() if len(values) == 1 else sorted(map(str, values))


@contextlib.contextmanager
def quiet():
    """Without what modules say while they are built."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
