"""Whether the Triton kernels compute on a device what the plain steps compute in float64, however they are run.

Blocks are compared by the size of the error beside that which the plain steps make in the same data type.
"""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..backbone import FocalNet
from ..backbone.compute.plain import plain_block
from ..backbone.compute.tensors import BlockTensors
from .measure import without_tf32

__all__ = ['DTYPES', 'Agreement', 'Drawn', 'agreements', 'draw', 'error', 'evaluate', 'excess', 'networks']

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_BLOCKS, _PROCESSES = 40, 16
# What the error may be beside 1.5 times that of the plain steps.
_SLACK = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-3}
_FEW = 64
_NETWORK = 1e-5


class Drawn(NamedTuple):
    """A random block in float64: what ``plain_block`` takes, and whether its backward pass recomputes."""

    x: Tensor
    tensors: BlockTensors
    settings: list[Any]
    recompute: bool


class Agreement(NamedTuple):
    """What was compared, the largest error as a share of what is allowed, and why it was not compared, if so."""

    name: str
    share: float
    reason: str = ''


def error(found: Tensor, expected: Tensor) -> float:
    """Relative to the size of the whole; where there is nothing but rounding errors, absolute."""
    difference = (found.double() - expected.double()).norm().item()
    return difference / max(expected.double().norm().item(), 1e-2 * expected.numel()**0.5)


def draw(choice: random.Random) -> Drawn:
    """A random block: any size, channels, levels, kernels, norms, scales and drops."""
    # Drawn on the CPU, so that all devices get the same.
    generator = torch.Generator().manual_seed(choice.randrange(1 << 31))
    channels = choice.choice((1, 3, 8, 16, 16, 17))
    large = choice.random() < 0.125
    count, height, width = choice.choice((1, 2)), *(choice.choice(sizes) for sizes in ((1, 2, 4, 5), (1, 3, 8, 9)))
    kernels = [choice.choice((9, 11, 13) if large and i == 0 else (1, 3, 5, 7)) for i in range(choice.randrange(5))]
    hidden = choice.choice((1, 2 * channels, 4 * channels))

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).double()

    def pair(rows: int, columns: int, *more: int) -> tuple[Tensor, Tensor]:
        return randn(rows, columns, *more) / columns**0.5, 0.3 * randn(rows)

    def norm() -> tuple[Tensor, Tensor]:
        return 1 + 0.3 * randn(channels), 0.3 * randn(channels)

    tensors = BlockTensors(
        f=pair(2 * channels + len(kernels) + 1, channels), h=pair(channels, channels, 1, 1),
        proj=pair(channels, channels), fc1=pair(hidden, channels), fc2=pair(channels, hidden), norm1=norm(),
        norm2=norm(), inner_norm=norm() if choice.random() < 0.4 else None,
        kernels=[randn(channels, 1, k, k) / k for k in kernels],
        scales=[randn(channels).abs() for _ in range(2)] if choice.random() < 0.4 else [])
    drops = [torch.tensor([0.0, 1.25][:count]).view(-1, 1, 1, 1).double(), torch.full((count, 1, 1, 1), 1.25).double()]
    eps = [1e-5, 1e-6, 1e-5][:3 if tensors.inner_norm else 2]
    settings = [drops if choice.random() < 0.4 else [], eps, choice.random() < 0.5, choice.random() < 0.5]
    return Drawn(randn(count, height, width, channels), tensors, settings, choice.random() < 0.3)


def evaluate(compute: Callable[..., Tensor], drawn: Drawn, device: str, dtype: torch.dtype,
             *args: Any) -> list[Tensor | None]:
    """What a block returns, and its gradients.

    Args:
        compute: ``plain_block``, or a function that takes what it takes.
        drawn: The block.
        device: Where to compute.
        dtype: That of the map, the parameters and the drops.
        *args: What follows the settings: the data type in which to compute layers, whether to recompute.

    Returns:
        The map and the gradients of the input and of all parameters, ``None`` where there is none.
    """
    drops, *rest = drawn.settings
    lists = drawn.tensors.flatten()
    inputs = [tensor.detach().to(device, dtype).requires_grad_() for tensor in (drawn.x, *itertools.chain(*lists))]
    given = iter(inputs[1:])
    parts = [list(itertools.islice(given, len(part))) for part in lists]
    out = compute(inputs[0], BlockTensors.unflatten(*parts), [drop.to(device, dtype) for drop in drops], *rest, *args)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=device).view(out.shape).to(out.dtype)
    return [out, *torch.autograd.grad((out * weights).sum(), inputs, allow_unused=True)]


def excess(choice: random.Random, device: str, dtype: torch.dtype, low: torch.dtype | None = None) -> float:
    """The largest error of a random block and its gradients, as a share of what is allowed.

    Args:
        choice: What draws the block.
        device: Where to compute.
        dtype: That of the map and the parameters.
        low: In which layers are computed; by default ``dtype``.

    Returns:
        At most 1 where the kernels agree; infinity where a shape or a data type differs.
    """
    from ..backbone.compute.gpu.block import compute_block
    drawn, low = draw(choice), low or dtype
    rounded = BlockTensors.unflatten(*([tensor.to(dtype).double() for tensor in part]
                                       for part in drawn.tensors.flatten()))
    drawn = drawn._replace(x=drawn.x.to(dtype).double(), tensors=rounded)
    exact = evaluate(plain_block, drawn, device, torch.float64, torch.float64)
    theirs = evaluate(plain_block, drawn, device, dtype, low)
    ours = evaluate(compute_block, drawn, device, dtype, low, drawn.recompute)
    errors = [0.0 if expected is None or other is None else error(other, expected)
              for other, expected in zip(theirs, exact, strict=True)]
    worst = 0.0
    for found, expected, allowed in zip(ours, exact, errors, strict=True):
        if expected is None:
            share = 0.0 if found is None or not found.abs().max() else float('inf')
        elif found is None or found.shape != expected.shape or found.dtype != dtype:
            share = float('inf')
        else:
            # Of a few sums the plain steps may hit each by chance, and of another block miss it.
            by_chance = max(errors) if expected.numel() < _FEW else allowed
            share = error(found, expected) / (1.5 * by_chance + _SLACK[low])
        # A comparison with NaN is false.
        worst = worst if share <= worst else share
    return worst


def networks(device: str = 'cpu', **settings: Any) -> tuple[FocalNet, FocalNet]:
    """The same small random network twice: computed by the reference and by the kernels."""
    generator = torch.Generator().manual_seed(0)
    reference = FocalNet('tiny-lrf', implementation='reference', **{
        **dict(embed_dims=8, depths=(1, 1), focal_levels=2, focal_windows=3, out_indices=(0, 1)), **settings})
    for name, parameter in reference.named_parameters():
        parameter.data.normal_(float('norm' in name and 'weight' in name), 0.3, generator=generator)
    fused = copy.deepcopy(reference)
    fused.implementation = 'triton'
    return reference.to(device), fused.to(device)


def agreements(device: str) -> Iterator[Agreement]:
    """Compare, one after the other.

    Args:
        device: Where to compute: ``cuda``, ``cuda:1`` …, or ``cpu`` with ``TRITON_INTERPRET=1``, where only a part of
            it runs: the interpreter does not round to the lower data types as cards do.

    Yields:
        What was compared.
    """
    with without_tf32():
        yield from _compared(device)


def _compared(device: str) -> Iterator[Agreement]:
    on_card = torch.device(device).type == 'cuda'
    for dtype, low in ([(dtype, dtype) for dtype in DTYPES] + [(torch.float32, low) for low in DTYPES[1:]] if on_card
                       else [(torch.float32, torch.float32)]):
        name = _name(dtype) if dtype == low else f'{_name(low)} within {_name(dtype)}'
        count = _BLOCKS if on_card else 5
        shares = _spread(device, dtype, low, count) if on_card else [
            excess(random.Random(seed), device, dtype, low) for seed in range(count)]
        yield Agreement(f'{count} blocks, {name}, forward and gradients', _largest(shares))
    for name, settings in (('', {}), (', checkpointing', dict(with_cp=True)),
                           (', norms behind, layer scale', dict(post_norm=True, layer_scale_init_value=0.1))):
        yield Agreement(f'network, float32, training{name}', _training(device, settings))
    yield Agreement('network, torch.compile as one graph', _compiled(device))
    yield Agreement('the same numbers twice', _twice(device))
    for name, check in (('CUDA graph, replayed on other images', _captured), ('DDP', _distributed),
                        ('FSDP', _sharded), ('a map of more than 2³¹ elements', _large),
                        ('a device that is not the current one', _elsewhere)):
        yield Agreement(name, 0.0, 'needs a GPU') if not on_card else _told(name, check, device)


def _spread(device: str, dtype: torch.dtype, low: torch.dtype, count: int) -> list[float]:
    """:func:`excess` of many blocks in many processes, since nearly each of them makes Triton compile kernels."""
    workers = min(_PROCESSES, os.cpu_count() or 1, count)
    with ProcessPoolExecutor(workers, multiprocessing.get_context('spawn')) as pool:
        return list(pool.map(_excess_of, range(count), *([part] * count for part in (device, dtype, low))))


def _excess_of(seed: int, device: str, dtype: torch.dtype, low: torch.dtype) -> float:
    return excess(random.Random(seed), device, dtype, low)


def _told(name: str, check: Callable[[str], float | str], device: str) -> Agreement:
    found = check(device)
    return Agreement(name, 0.0, found) if isinstance(found, str) else Agreement(name, found)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).rpartition('.')[2]


def _largest(shares: list[float]) -> float:
    """The largest one; NaN if there is one."""
    return torch.tensor(shares).max().item()


def _images(device: str, height: int = 30, width: int = 21, seed: int = 1) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed)).to(device)


def _step(net: nn.Module, x: Tensor) -> list[Tensor]:
    """What a network returns, and the gradients of its parameters."""
    net.zero_grad()
    features = net(x)
    features[0].sin().sum().add(features[1].sin().sum()).backward()
    return [*features, *(parameter.grad for parameter in net.parameters() if parameter.grad is not None)]


def _compare(found: list[Tensor], expected: list[Tensor]) -> float:
    if len(found) != len(expected):
        return float('inf')
    return _largest([error(first, second) / _NETWORK for first, second in zip(found, expected)])


def _training(device: str, settings: dict[str, Any]) -> float:
    reference, fused = networks(device, **settings)
    x = _images(device)
    return _compare(_step(fused, x), _step(reference.double(), x.double()))


def _compiled(device: str) -> float:
    _, fused = networks(device)
    x = _images(device)
    backend = 'inductor' if torch.device(device).type == 'cuda' else 'aot_eager'
    compiled: Any = torch.compile(fused, fullgraph=True, backend=backend)
    return _compare(_step(compiled, x), _step(fused, x))


def _twice(device: str) -> float:
    _, fused = networks(device, embed_dims=32)
    x = _images(device, 90, 61)
    pairs = zip(_step(fused, x), _step(fused, x))
    return 0.0 if all(torch.equal(first, second) for first, second in pairs) else float('inf')


def _captured(device: str) -> float:
    reference, fused = (net.eval() for net in networks(device))
    given = _images(device)
    with torch.cuda.device(device), torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            fused(given)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = fused(given)
        given.copy_(_images(device, seed=2))
        graph.replay()
        return _compare(list(found), list(reference.double()(given.double())))


def _distributed(device: str) -> float | str:
    return _in_a_group(device, lambda net: nn.parallel.DistributedDataParallel(net, [torch.device(device)]))


def _sharded(device: str) -> float | str:
    from torch.distributed.fsdp import FullyShardedDataParallel
    return _in_a_group(device, lambda net: FullyShardedDataParallel(
        net, device_id=torch.device(device), use_orig_params=True))


def _in_a_group(device: str, wrap: Callable[[nn.Module], nn.Module]) -> float | str:
    """In a group of one process, whose gradients are its own."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_nccl_available():
        return 'this PyTorch has no NCCL'
    reference, fused = networks(device)
    x = _images(device)
    with tempfile.TemporaryDirectory() as folder, torch.cuda.device(device):
        distributed.init_process_group('nccl', init_method=f'file://{folder}/group', rank=0, world_size=1)
        try:
            found = _step(wrap(fused), x)
        finally:
            distributed.destroy_process_group()
    expected = _step(reference.double(), x.double())
    # A sharded parameter is flat.
    return _compare([part.flatten() for part in found], [part.flatten() for part in expected])


def _large(device: str) -> float | str:
    """The corners of a map of 16 channels, beside those of a small one with the same pixels."""
    from ..backbone.compute.gpu.block import compute_block
    height, width, side = 9000, 15000, 16
    needed, (free, _) = 48e9, torch.cuda.mem_get_info(device)
    if free < needed:
        return f'needs {needed / 1e9:.0f} GB of free memory, found {free / 1e9:.0f}'
    tensors = BlockTensors(
        **{name: (torch.randn(*shape, device=device) / 4, torch.randn(shape[0], device=device)) for name, shape in dict(
            f=(34, 16), h=(16, 16), proj=(16, 16), fc1=(16, 16), fc2=(16, 16)).items()},
        norm1=(torch.ones(16, device=device), torch.zeros(16, device=device)),
        norm2=(torch.ones(16, device=device), torch.zeros(16, device=device)), inner_norm=None,
        kernels=[torch.randn(16, 1, 3, 3, device=device)], scales=[])
    # A kernel of one row keeps rows apart but for the mean, which is the same of a row and of its repetitions.
    tensors.kernels[0][:, :, ::2] = 0
    small = torch.randn(1, 1, width, 16, device=device, dtype=torch.bfloat16)
    eps = [1e-5, 1e-5]
    with torch.no_grad():
        low = tensors.to(torch.bfloat16)
        exact = BlockTensors.unflatten(*([tensor.double() for tensor in part] for part in tensors.flatten()))
        expected = plain_block(small.double(), exact, [], eps, False, False, torch.float64)
        found = compute_block(small.expand(1, height, width, 16).contiguous(), low, [], eps, False, False,
                              torch.bfloat16)
        corners = [found[0, rows, columns] for rows in (slice(side), slice(-side, None))
                   for columns in (slice(side), slice(-side, None))]
        wanted = [expected[0, :, columns].expand(side, -1, -1) for _ in range(2)
                  for columns in (slice(side), slice(-side, None))]
    return _largest([error(part, other) / 2e-2 for part, other in zip(corners, wanted)])


def _elsewhere(device: str) -> float | str:
    if torch.cuda.device_count() < 2:
        return 'there is one GPU'
    index = torch.device(device).index or 0
    other = f'cuda:{(index + 1) % torch.cuda.device_count()}'
    with torch.cuda.device(index):
        return _training(other, {})
