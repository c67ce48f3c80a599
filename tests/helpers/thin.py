"""Any config with a narrow backbone, and a batch for it: everything else stays as it is."""

import torch

from focalnet_mm.run.build import build_model, load_model
from focalnet_mm.run.config import load_config
from focalnet_mm.run.machine import fit_to_machine
from tests.helpers.tools import ROOT


def _size(cfg):
    # DINO picks 900 queries among the positions of all scales.
    return 224 if cfg.model.type == 'DINO' else 64


def thin_config(path):
    """A config whose backbone has 16 channels at first and no pretrained weights, for small images and a CPU.

    Without stochastic depth, which may leave any block without a gradient.
    """
    cfg = load_config(ROOT / 'configs' / path)
    fit_to_machine(cfg)
    model, backbone = cfg.model, cfg.model.backbone
    backbone.embed_dims = 16
    backbone.init_cfg = None
    backbone.drop_path_rate = 0
    channels = [16 * 2**i for i in backbone.out_indices]
    for name in ('neck', 'panoptic_head', 'decode_head'):
        if 'in_channels' in model.get(name, {}):
            model[name].in_channels = channels
    if 'auxiliary_head' in model:
        model.auxiliary_head.in_channels = channels[2]
    if cfg.default_scope == 'mmpretrain':
        model.head.in_channels = channels[-1]
    if cfg.default_scope == 'mmseg':
        model.data_preprocessor.size = (_size(cfg),) * 2
    if model.type == 'CascadeRCNN':
        for stage in model.train_cfg.rcnn:
            stage.sampler.num = 32
    for augment in model.get('data_preprocessor', {}).get('batch_augments', None) or ():
        augment.size = (_size(cfg),) * 2
    return cfg


def build(cfg):
    """The model and the optimizer wrapper of a config."""
    from mmengine.optim import build_optim_wrapper
    torch.manual_seed(0)
    model = build_model(cfg)
    model.init_weights()
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def save_weights(cfg, path, **meta):
    """A checkpoint of a config's model with random weights."""
    torch.manual_seed(0)
    torch.save(dict(state_dict=load_model(cfg).state_dict(), meta=meta), path)
    return str(path)


def batch(cfg):
    """Two random images with their annotations, as the config's data loader gives them."""
    size = _size(cfg)
    if cfg.default_scope == 'mmpretrain':
        from mmpretrain.structures import DataSample
        return dict(inputs=torch.randint(256, (2, 3, size, size), dtype=torch.uint8).float(),
                    data_samples=[DataSample().set_gt_label(i) for i in (1, 2)])
    if cfg.default_scope == 'mmseg':
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample
        samples = []
        for _ in range(2):
            sample = SegDataSample(metainfo=dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), (size, size)))
            sample.gt_sem_seg = PixelData(data=torch.randint(9, (1, size // 8, size // 8)).repeat_interleave(
                8, 1).repeat_interleave(8, 2))
            samples.append(sample)
        return dict(inputs=[torch.randint(256, (3, size, size), dtype=torch.uint8) for _ in samples],
                    data_samples=samples)
    from mmdet.testing import demo_mm_inputs
    return demo_mm_inputs(2, image_shapes=[(3, size, size)] * 2, num_items=[2, 3], num_classes=5, with_mask=True,
                          with_semantic='panoptic_head' in cfg.model)
