"""Two processes beside one with twice the batch: ``python -m tests.helpers.rank_parity [METHOD…]`` prints a table.

Each method as for the built-in data set, with a narrow backbone and few candidates. What is drawn by chance (samples of
boxes, points and noise) is drawn alike here, without dropout, stochastic depth and mixed pictures, and BatchNorm keeps
its statistics, as SyncBN shares them.
"""

import argparse
import pickle
import re
import tempfile
from pathlib import Path

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from torch import nn

from focalnet_mm.run.build import build_model
from tests.helpers.forked import two_ranks
from tests.helpers.thin import batch, thin_config

METHODS = {
    'Mask R-CNN': 'mmdet/maskrcnn_focalnet_t_shapes.py',
    'Cascade Mask R-CNN': 'mmdet/cascade_maskrcnn_focalnet_t_shapes.py',
    'ATSS': 'mmdet/atss_focalnet_t_shapes.py', 'Sparse R-CNN': 'mmdet/sparsercnn_focalnet_t_shapes.py',
    'DINO': 'mmdet/dino_focalnet_t_shapes.py', 'Mask2Former': 'mmdet/mask2former_focalnet_t_shapes_panoptic.py',
    'UPerNet': 'mmseg/upernet_focalnet_t_shapes.py', 'classifier': 'mmpretrain/focalnet_t_in1k.py'}
_SIZE = 96
#: Pictures of both processes.
PICTURES = 4


def alike(put=setattr):
    """Let PyTorch draw the same numbers for each picture, whoever asks."""
    def rand(*size, device=None, **_):
        size = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        drawn = torch.empty(tuple(size)[-2:]).uniform_(generator=torch.Generator().manual_seed(len(size)))
        return drawn.expand(*size).clone()

    put(torch, 'rand', rand)
    put(torch, 'rand_like', lambda like, **_: torch.full_like(like, 0.75))
    put(torch, 'randint_like', lambda like, low, high=None, **_: torch.full_like(like, low if high else 0))
    put(torch, 'randperm', lambda count, **settings: torch.arange(count, device=settings.get('device')))


def model_of(path):
    """A model and its optimizer, SGD: Adam makes much of what rounding leaves of a gradient of zero."""
    cfg = thin_config(path)
    settings = cfg.model.get('train_cfg') or {}
    if cfg.default_scope == 'mmpretrain':
        cfg.model.train_cfg = None
    if 'rpn_proposal' in settings:
        settings.rpn_proposal.update(nms_pre=200, max_per_img=60)
        for stage in settings.rcnn if isinstance(settings.rcnn, list) else [settings.rcnn]:
            stage.sampler.num = 32
    for augment in cfg.model.get('data_preprocessor', {}).get('batch_augments') or ():
        augment.size = (_SIZE, _SIZE)
    torch.manual_seed(0)
    model = build_model(cfg)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=1e-4, momentum=0.9, weight_decay=0.)
    return cfg, model, dict(cfg.optim_wrapper)


def pictures(cfg, step, even):
    """A batch, by step; ``even`` gives each picture as many objects, of one size."""
    torch.manual_seed(step)
    if cfg.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs
        data = demo_mm_inputs(PICTURES, image_shapes=[(3, _SIZE, _SIZE)] * PICTURES,
                              num_items=[2] * PICTURES if even else [2, 3, 1, 1], num_classes=5,
                              with_mask=True, with_semantic='panoptic_head' in cfg.model)
        # It draws the same each time.
        return dict(data, inputs=[picture.roll(step, -1) for picture in data['inputs']])
    parts = [batch(cfg) for _ in range(PICTURES // 2)]
    inputs, samples = ([each for part in parts for each in part[key]] for key in ('inputs', 'data_samples'))
    return dict(inputs=torch.stack(inputs) if cfg.default_scope == 'mmpretrain' else inputs, data_samples=samples)


def trained(path, steps, even, rank=None, turned=False):
    """Losses of each step, and the weights after the last; of a rank, with its half, or of all in another order."""
    cfg, model, wrapper = model_of(path)
    inner = model
    if rank is not None:
        model = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
    wrapper = build_optim_wrapper(inner, wrapper)
    inner.train()
    for module in inner.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    found = []
    for step in range(steps):
        data = pictures(cfg, step % 5, even)
        if rank is not None:
            half = slice(rank * PICTURES // 2, (rank + 1) * PICTURES // 2)
            data = {key: value[half] for key, value in data.items()}
        if turned:
            data = dict(inputs=data['inputs'].flip(0) if torch.is_tensor(data['inputs']) else data['inputs'][::-1],
                        data_samples=data['data_samples'][::-1])
        losses = model.train_step(data, wrapper)
        found.append({name: value.item() for name, value in losses.items() if 'loss' in name and name != 'loss'})
    return found, dict(inner.named_parameters())


def both(path, steps, even=False):
    """Run a method in two processes and in one.

    Returns:
        The losses whose mean of both is once another than that of one process, each with the step and how much,
        relative to it; how much the weights differ after the last, relative to the largest of their tensor; and how
        much they do where one process sees the same pictures in another order, which is what rounding makes of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        statuses = two_ranks(lambda rank: _save(path, steps, even, rank, Path(folder)), folder, seconds=600)
        assert [status for status, _ in statuses] == [0, 0], f'a process of {path} failed: {statuses}'
        losses, weights = trained(path, steps, even)
        _, same = trained(path, steps, even, turned=True)
        ranks = [pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank in range(2)]
    apart = {}
    for step, (one, *theirs) in enumerate(zip(losses, ranks[0][0], ranks[1][0]), 1):
        for name, value in one.items():
            difference = abs(sum(each.get(name, 0.) for each in theirs) / 2 - value) / max(abs(value), 1e-3)
            if difference > 1e-5:
                apart.setdefault(name, (step, difference))
    return apart, *(max(_apart(tensor, torch.as_tensor(other[name])) for name, tensor in weights.items())
                    for other in (ranks[0][1], same))


def _apart(one, other):
    """How far they are apart, relative to the largest value."""
    one, other = one.detach(), other.detach()
    return ((one - other).abs().max() / one.abs().max().clamp(min=1e-3)).item()


def _save(path, steps, even, rank, folder):
    alike()
    losses, weights = trained(path, steps, even, rank)
    found = losses, {name: tensor.detach().numpy() for name, tensor in weights.items()}
    (folder / str(rank)).write_bytes(pickle.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('methods', nargs='*', default=list(METHODS))
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--even', action='store_true', help='as many objects on each picture')
    args = parser.parse_args()
    alike()
    for method in args.methods:
        apart, far, rounding = both(METHODS[method], args.steps, args.even)
        # Those of all layers are of a kind.
        kinds = {}
        for name, (step, value) in apart.items():
            if step == 1:
                kind = re.sub(r'^[ds]\d+\.', '', name)
                kinds[kind] = max(value, kinds.get(kind, 0))
        told = ', '.join(f'{name} {value:.1e}' for name, value in kinds.items()) or 'none'
        later = min((step for step, _ in apart.values() if step > 1), default='–')
        print(f'| {method} | {told} | {later} | {far:.1e} | {rounding:.1e} |', flush=True)


if __name__ == '__main__':
    main()
