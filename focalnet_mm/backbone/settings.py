"""The settings of a network: a variant's with those given in place of them, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import compute
from .archs import resolve_arch
from .variants import check_modulation

__all__ = ['check_choices', 'resolve_settings', 'stages_to_return']


def resolve_settings(arch: str | Mapping[str, Any], **overrides: Any) -> dict[str, Any]:
    """All settings of a network, checked, those of the stages with one value a stage.

    Args:
        arch: As :class:`~focalnet_mm.FocalNet` takes it.
        **overrides: Its arguments of the same names; ``None`` leaves what the variant says.

    Returns:
        A new dict with all of them.

    Raises:
        ValueError: A setting is out of range, or has the wrong length.
        TypeError: A setting is of the wrong type.
    """
    settings = resolve_arch(arch)
    settings.update({name: value for name, value in overrides.items() if value is not None or name not in settings})
    settings['depths'] = _integers('depths', settings['depths'], minimum=1)
    for name, minimum in (('focal_levels', 0), ('focal_windows', 1), ('focal_factor', 0)):
        settings[name] = _per_stage(name, settings[name], len(settings['depths']), minimum)
    for name in ('embed_dims', 'patch_size', 'in_channels'):
        _integers(name, [settings[name]], minimum=1)
    for name in ('drop_rate', 'drop_path_rate'):
        if not 0 <= settings[name] < 1:
            raise ValueError(f'{name} must be in [0, 1), got {settings[name]!r}.')
    check_modulation(settings['modulation'])
    return settings


def check_choices(frozen_stages: int, implementation: str, num_stages: int) -> None:
    """Raise ValueError where ``frozen_stages`` or ``implementation`` is none of those that there are."""
    if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= num_stages:
        raise ValueError(f'frozen_stages must be an integer from -1 to {num_stages}, got {frozen_stages!r}.')
    if implementation not in compute.IMPLEMENTATIONS:
        raise ValueError(f'implementation must be one of {", ".join(compute.IMPLEMENTATIONS)}, got '
                         f'{implementation!r}.')


def stages_to_return(out_indices: int | Sequence[int] | None, num_stages: int) -> tuple[int, ...]:
    """The stages that ``out_indices`` names, in its order.

    Raises:
        ValueError: It names none, one twice, or one that there is not.
        TypeError: It is no sequence of integers.
    """
    if out_indices is None:
        return tuple(range(num_stages))
    indices = _integers('out_indices', [out_indices] if isinstance(out_indices, int) else out_indices)
    if not indices or not set(indices) <= set(range(num_stages)):
        raise ValueError(f'out_indices must name stages 0 to {num_stages - 1} of {num_stages}, got {indices}.')
    if len(set(indices)) < len(indices):
        raise ValueError(f'out_indices must not name a stage twice, got {indices}.')
    return indices


def _integers(name: str, values: Any, minimum: int | None = None) -> tuple[int, ...]:
    """``values`` as a tuple of integers, each at least ``minimum``."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f'{name} must be a sequence of integers, got {values!r}.')
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or (minimum is not None and value < minimum):
            bound = '' if minimum is None else f' of at least {minimum}'
            raise ValueError(f'{name} must be made of integers{bound}, got {value!r}.')
    return tuple(values)


def _per_stage(name: str, value: Any, num_stages: int, minimum: int) -> tuple[int, ...]:
    """``value``, a scalar or one integer a stage, as a tuple of ``num_stages`` integers."""
    values = _integers(name, value if isinstance(value, Sequence) else [value] * num_stages, minimum)
    if len(values) != num_stages:
        raise ValueError(f'{name} needs one value for each of the {num_stages} stages, or a single one for all, '
                         f'got {len(values)}: {tuple(values)}.')
    return values
