"""Focal Modulation Networks for OpenMMLab.

Importing this package registers the backbone ``FocalNet``, ``FocalNetOptimWrapperConstructor`` for its learning rates,
the hook ``FocalMapsHook`` and the reading of other people's checkpoints.
"""

from . import heads, weights
from .backbone import ARCHS, FocalModulation, FocalNet
from .backbone.optim import FocalNetOptimWrapperConstructor
from .explain.hook import FocalMapsHook

__version__ = '0.1.0'
__all__ = ['ARCHS', 'FocalMapsHook', 'FocalModulation', 'FocalNet', 'FocalNetOptimWrapperConstructor', '__version__',
           'weights']
