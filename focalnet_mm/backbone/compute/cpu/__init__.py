"""FocalNet's block on CPUs, through oneDNN."""

from . import block

__all__ = ['block']
