"""Detectors of mmdet of every kind that is exported whole, so small that an export takes seconds."""

import torch
from mmengine.config import Config
from torch import nn

from focalnet_mm.run.build import build_model

_NORM = dict(type='GN', num_groups=8)
_CHANNELS = 32
CLASSES = 5
# Kind → config of mmdet that it is a thin form of.
BASES = dict(faster='faster-rcnn_r50_fpn', mask='mask-rcnn_r50_fpn', cascade='cascade-mask-rcnn_r50_fpn',
             retina='retinanet_r50_fpn')


class Pyramid(nn.Module):
    """Feature maps of strides 4, 8, 16 and 32, of 8 channels each, one convolution a map."""

    def __init__(self, levels=4):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, 4 << i, 4 << i) for i in range(4 - levels, 4))

    def forward(self, images):
        return tuple(conv(images) for conv in self.convs)


def detector(kind, **changes):
    """A detector with random weights.

    Args:
        kind: A key of ``BASES``, ``'atss'`` or ``'sparse'``.
        changes: Changes of the ``model`` of its config, merged into it.
    """
    import mmdet
    folder = f'{mmdet.__path__[0]}/.mim/configs'
    names = dict(atss='atss/atss_r50_fpn_1x_coco', sparse='sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco')
    cfg = Config.fromfile(f'{folder}/{names.get(kind, f"_base_/models/{BASES.get(kind)}")}.py')
    model = cfg.model
    _narrow(model)
    model.pop('pretrained', None)
    model.neck.in_channels = [8] * len(model.neck.in_channels)
    model.backbone = dict(type='ResNet', depth=18)
    cfg.default_scope = 'mmdet'
    cfg.merge_from_dict(dict(model=changes))
    torch.manual_seed(0)
    # Built with a backbone that is replaced at once.
    built = build_model(cfg)
    built.backbone = Pyramid()
    _randomise(built)
    return built.eval()


def _narrow(settings):
    """Fewer channels, classes and candidates, wherever in the settings of a model they stand."""
    small = dict(in_channels=_CHANNELS, out_channels=_CHANNELS, feat_channels=_CHANNELS, conv_out_channels=_CHANNELS,
                 fc_out_channels=64, proposal_feature_channel=_CHANNELS, feedforward_channels=64, num_classes=CLASSES,
                 num_proposals=40, num_convs=1, num_groups=8, stacked_convs=1, nms_pre=100)
    for key, value in settings.items():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, dict):
                _narrow(part)
        if key in small and type(value) is int:
            settings[key] = small[key]
    if 'rpn' in settings and 'rcnn' in settings and settings.rpn:
        settings.rpn.max_per_img = 60


def _randomise(model):
    """Weights of which no two predictions are alike, boxes far from their anchors, and scores of any size."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'init_proposal_bboxes' in name:
                parameter.uniform_(0.2, 0.8, generator=generator)
            elif parameter.dim() < 2:
                parameter.add_(torch.rand(parameter.shape, generator=generator) * 0.1)
            else:
                # Of large logits many probabilities are 1, and those boxes are in no order.
                gain = 0.3 if 'reg' in name else 0.5 if 'cls' in name else 1.4
                parameter.normal_(std=gain * parameter[0].numel() ** -0.5, generator=generator)
