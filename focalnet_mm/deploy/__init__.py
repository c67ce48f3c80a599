"""Models for other runtimes."""

from ..installed import MISSING, only_with_libraries
from .runtime import PROVIDERS, Runtime

if not MISSING:
    from .check import Checked, check_files, checked_table
    from .export import FORMATS, MASKS, PARTS, PRECISIONS, TOLERANCE, Finish, export_model, exportable

__all__ = ['FORMATS', 'MASKS', 'PARTS', 'PRECISIONS', 'PROVIDERS', 'TOLERANCE', 'Checked', 'Finish', 'Runtime',
           'check_files', 'checked_table', 'export_model', 'exportable']
__getattr__ = only_with_libraries(__name__, __all__)
