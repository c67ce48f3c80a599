"""FocalNet's block on CPUs, through oneDNN."""

from . import block, flops

__all__ = ['block', 'flops']
