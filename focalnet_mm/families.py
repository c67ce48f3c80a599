"""The OpenMMLab libraries and their maintained forks, ``onedl-*``: what differs in names, found by feature.

Both bring the same modules. What differs in numbers is :mod:`focalnet_mm.weights.encodings`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

from mmengine.config import utils

__all__ = ['name_distributions']


def name_distributions() -> None:
    """Let mmengine find the configs of libraries whatever the distributions are called that bring them.

    It looks for ``mmseg::`` in a distribution called mmsegmentation, in the forks' mmengine too. Where there is none,
    the module itself takes its place, which mmengine looks for next.
    """
    for module in ('mmdet', 'mmseg', 'mmpretrain'):
        if not _is_distribution(utils.MODULE2PACKAGE[module]) and importlib.util.find_spec(module):
            utils.MODULE2PACKAGE[module] = module


def _is_distribution(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
