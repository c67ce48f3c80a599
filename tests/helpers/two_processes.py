"""FocalMapsHook in two processes, between which a model is shared in one way or another."""

import copy
from types import SimpleNamespace

import torch
import torch.distributed as dist
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel

import focalnet_mm.explain.hook as hook_module
from focalnet_mm.explain import FocalMapsHook, focal_maps
from tests.helpers.training import Pictures, tiny_runner


def shared(model, way):
    """The model, shared out to the processes."""
    if way == 'ddp':
        return MMDistributedDataParallel(model, device_ids=None)
    if way == 'fsdp1':
        from mmengine.model.wrappers import MMFullyShardedDataParallel
        from torch.distributed.fsdp.wrap import ModuleWrapPolicy

        from focalnet_mm.backbone.block import Block
        return MMFullyShardedDataParallel(
            model, auto_wrap_policy=ModuleWrapPolicy({Block}), use_orig_params=True, device_id=torch.device('cpu'))
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    mesh = init_device_mesh('cpu', (2,))
    for stage in model.backbone.layers:
        for block in stage.blocks:
            fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def main(way, folder, rank):
    """What each of them does."""
    torch.manual_seed(0)
    model = tiny_runner(f'{folder}/{rank}', launcher='none').model.eval()
    whole = copy.deepcopy(model)
    model = shared(model, way)
    model.eval()
    drawn = []
    hook_module.plot_focal_maps = lambda image, maps, title, plot=hook_module.plot_focal_maps: drawn.append(
        (title, maps)) or plot(image, maps, title=title)
    runner = SimpleNamespace(model=model, iter=0, visualizer=SimpleNamespace(add_image=lambda *_: None))
    data = Pictures(5)
    # Five images: three for the one, two for the other. What is sharded needs all processes at each step.
    mine = range(rank, 5, 2) if way == 'ddp' else [(rank + 2 * i) % 5 for i in range(3)]
    batches = [pseudo_collate([data[i]]) for i in mine]
    hook = FocalMapsHook(num_images=4)
    hook.before_val_epoch(runner)
    with torch.no_grad():
        for i, batch in enumerate(batches):
            hook.before_val_iter(runner, i, batch)
            model.val_step(copy.deepcopy(batch))
            hook.after_val_iter(runner, i, batch)
    right = ''
    for batch, (_, maps) in zip(batches, drawn):
        expected = focal_maps(whole, batch, -2, -1)
        for key in expected:
            torch.testing.assert_close(maps[key].gates, expected[key].gates, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(maps[key].norm, expected[key].norm, rtol=1e-4, atol=1e-5)
        right = ', with the maps of the model'
    # A process that had gone on alone would be found here.
    dist.barrier()
    print(f'rank {rank} drew {len(drawn)} pictures{right}', flush=True)
