"""Models that predict by queries, so small that an export takes seconds, and how whole models are tried."""

import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

from focalnet_mm.deploy.formats import _exportable, open_file, write_file
from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config
from tests.helpers.detectors import Pyramid
from tests.helpers.tools import ROOT

# (N, H, W) of the images, without their padding, and of the pictures before they were resized.
SIZES = [((1, 128, 160), (128, 160), (128, 160)), ((2, 133, 197), (133, 197), (77, 99)),
         ((3, 128, 160), (101, 150), (200, 300))]


def carriers(inside, original):
    """Inputs of which the shapes count."""
    return dict(inside=torch.zeros(inside, dtype=torch.uint8), original=torch.zeros(original, dtype=torch.uint8))


def run(part, images, **inputs):
    """What a part computes in PyTorch, with the layers that its file holds."""
    with torch.no_grad(), _exportable(part.module, 'onnx'):
        return part.module(images, **inputs)


def written(part, file):
    """The file of a part in onnxruntime, as a function; its graph is of ONNX's own operators."""
    with torch.no_grad():
        write_file(part, blobs(2, 128, 192), file, 'onnx', {}, ['inside', 'original'])
    onnx.checker.check_model(str(file), full_check=True)
    model = onnx.load(file)
    assert {node.domain for node in model.graph.node} == {''}
    assert [output.name for output in model.graph.output] == list(part.names)
    return open_file(file, 'onnx')


def declared_and_true(file, given):
    """The sizes that a file names or numbers, as they are when it runs: onnxruntime shares memory by what is declared.

    Args:
        file: An ONNX file.
        given: Name of an input → array.

    Returns:
        Number or name → the sizes that dimensions of it have.
    """
    model = onnx.load(file)
    outputs = model.graph.output
    declared = [*model.graph.value_info, *outputs]
    del outputs[:]
    outputs.extend(value for value in declared if value.type.tensor_type.HasField('shape'))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_reuse = False
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    found = {}
    for output, value in zip(outputs, session.run(None, given)):
        for dim, size in zip(output.type.tensor_type.shape.dim, value.shape):
            name = dim.dim_param or (dim.dim_value if dim.HasField('dim_value') else None)
            if name is not None:
                found.setdefault(name, set()).add(size)
    return found


def dino(**head):
    """A DINO of two maps, one encoder and two decoder layers."""
    cfg = _config('mmdet/dino_focalnet_t_shapes.py')
    model = cfg.model
    model.update(num_feature_levels=2, num_queries=30)
    model.neck.update(in_channels=[8, 8], num_outs=2)
    model.encoder.num_layers, model.decoder.num_layers = 1, 2
    model.encoder.layer_cfg.self_attn_cfg.num_levels = model.decoder.layer_cfg.cross_attn_cfg.num_levels = 2
    model.bbox_head.update(head)
    built = _built(cfg)
    built.backbone = Pyramid(2)
    _spread(built, built.query_embedding)
    nn.init.normal_(built.memory_trans_fc.weight, std=0.3)
    for branch in (*built.bbox_head.cls_branches, *(layers[-1] for layers in built.bbox_head.reg_branches)):
        nn.init.normal_(branch.weight, std=0.1)
    return built


def mask2former(panoptic=True, instance=True, **test_cfg):
    """A Mask2Former whose pixel decoder encodes one map, with one layer of each kind."""
    cfg = _config('mmdet/mask2former_focalnet_t_shapes_panoptic.py')
    cfg.model.test_cfg.update(panoptic_on=panoptic, instance_on=instance, object_mask_thr=0.2, **test_cfg)
    head = cfg.model.panoptic_head
    _thin(head)
    built = _built(cfg)
    built.backbone = Pyramid(4)
    _spread(built, *_parts(built.panoptic_head))
    return built


def _config(path):
    cfg = load_config(ROOT / 'configs' / path)
    cfg.model.backbone.init_cfg = None
    return cfg


def _built(cfg):
    torch.manual_seed(0)
    return load_model(cfg).eval()


def _thin(head):
    head.update(in_channels=[8] * 4, num_transformer_feat_level=1)
    head.pixel_decoder.update(num_outs=1)
    head.pixel_decoder.encoder.num_layers = head.transformer_decoder.num_layers = 1
    head.pixel_decoder.encoder.layer_cfg.self_attn_cfg.num_levels = 1


def _parts(head):
    head.cls_embed.weight.data *= 20
    head.cls_embed.bias.data[-1] -= 2
    head.mask_embed[-1].weight.data *= 4
    head.pixel_decoder.mask_feature.weight.data *= 4
    return head.query_feat, head.query_embed


def _spread(model, *embeddings):
    """Weights of which no two queries are alike."""
    generator = torch.Generator().manual_seed(1)
    for embedding in embeddings:
        embedding.weight.data.normal_(std=2, generator=generator)
    for conv in model.backbone.convs:
        conv.weight.data.normal_(std=conv.weight[0].numel() ** -0.5, generator=generator)


def blobs(count, height, width, seed=0):
    """Images with large spots, since noise looks alike everywhere."""
    spots = torch.randn(count, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    return 2 * F.interpolate(spots, (height, width), mode='bicubic')
