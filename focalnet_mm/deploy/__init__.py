"""Models for other runtimes."""

from ..installed import MISSING, only_with_libraries
from .runtime import PROVIDERS, Runtime

if not MISSING:
    from .export import FORMATS, PARTS, TOLERANCE, export_model, exportable

__all__ = ['FORMATS', 'PARTS', 'PROVIDERS', 'TOLERANCE', 'Runtime', 'export_model', 'exportable']
__getattr__ = only_with_libraries(__name__, __all__)
