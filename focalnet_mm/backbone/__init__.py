"""The network: it knows nothing of files, data sets or tools."""

from .archs import ARCHS, resolve_arch
from .focalnet import FocalNet
from .modulation import FocalModulation

__all__ = ['ARCHS', 'FocalModulation', 'FocalNet', 'resolve_arch']
