"""Focal Modulation Networks for OpenMMLab.

Importing this package registers the backbone ``FocalNet`` and the hook ``FocalMapsHook``.
"""

from .archs import ARCHS
from .explain import FocalMapsHook
from .focalnet import FocalNet
from .modulation import FocalModulation

__version__ = '0.1.0'
__all__ = ['ARCHS', 'FocalMapsHook', 'FocalModulation', 'FocalNet', '__version__']
