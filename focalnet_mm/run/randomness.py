"""The random states of a process: kept, restored, and set by where in a run one is."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

__all__ = ['random_states', 'same_random_states', 'seed_everything', 'seed_for_data', 'set_random_states']


def random_states(device: bool = True) -> dict[str, Any]:
    """The random states of Python, NumPy, PyTorch and, where there is one in use, the current CUDA device.

    Args:
        device: Whether that of the device is looked at.

    Returns:
        Numbers and tensors, which checkpoints may hold.
    """
    version, numbers, gauss = random.getstate()
    of_numpy = np.random.get_state(legacy=False)
    of_numpy['state']['key'] = torch.from_numpy(of_numpy['state']['key'].astype(np.int64))
    states: dict[str, Any] = dict(python=(version, torch.tensor(numbers), gauss), numpy=of_numpy,
                                  torch=torch.get_rng_state())
    if device and torch.cuda.is_available() and torch.cuda.is_initialized():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Restore what :func:`random_states` gave; tensors may lie on any device."""
    version, numbers, gauss = states['python']
    random.setstate((version, tuple(numbers.tolist()), gauss))
    of_numpy, key = states['numpy'], states['numpy']['state']['key'].cpu().numpy().astype(np.uint32)
    np.random.set_state({**of_numpy, 'state': {**of_numpy['state'], 'key': key}})
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


@contextlib.contextmanager
def same_random_states(device: bool = True) -> Iterator[None]:
    """Leave the random states as they were before the context."""
    before = random_states(device)
    try:
        yield
    finally:
        set_random_states(before)


def seed_for_data(*where: int) -> None:
    """Set the random states of Python, NumPy and PyTorch on the CPU, as augmentation draws of them.

    Args:
        where: Numbers from 0 up that tell the place in the run. Each place has numbers of its own.
    """
    of_python, of_numpy, *of_torch = _seeds(where)
    random.seed(of_python)
    np.random.seed(of_numpy)
    # `torch.manual_seed` would ask the devices too, for each item of the data.
    torch.default_generator.manual_seed(of_torch[0] << 32 | of_torch[1])


def seed_everything(*where: int) -> None:
    """Set the random states of this process, devices included, see :func:`seed_for_data`."""
    seed_for_data(*where)
    seeds = _seeds((*where, 0))
    torch.manual_seed(seeds[2] << 32 | seeds[3])


def _seeds(where: tuple[int, ...]) -> list[int]:
    return [int(seed) for seed in np.random.SeedSequence(where).generate_state(4)]
