"""Models for other runtimes."""

from .export import FORMATS, MASKS, PARTS, TOLERANCE, export_model, exportable

__all__ = ['FORMATS', 'MASKS', 'PARTS', 'TOLERANCE', 'export_model', 'exportable']
