"""Focal Modulation Networks for OpenMMLab. Importing this package registers the backbone ``FocalNet``."""

from .archs import ARCHS
from .focalnet import FocalNet
from .modulation import FocalModulation

__version__ = '0.1.0'
__all__ = ['ARCHS', 'FocalModulation', 'FocalNet', '__version__']
