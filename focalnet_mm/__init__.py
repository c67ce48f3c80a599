"""Focal Modulation Networks for OpenMMLab.

Importing this package registers the backbone ``FocalNet``, the hook ``FocalMapsHook`` and the reading of other
people's checkpoints.
"""

from . import weights
from .backbone import ARCHS, FocalModulation, FocalNet
from .explain.hook import FocalMapsHook

__version__ = '0.1.0'
__all__ = ['ARCHS', 'FocalMapsHook', 'FocalModulation', 'FocalNet', '__version__', 'weights']
