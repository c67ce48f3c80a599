"""Models for other runtimes."""

from .export import FORMATS, PARTS, TOLERANCE, export_model, exportable

__all__ = ['FORMATS', 'PARTS', 'TOLERANCE', 'export_model', 'exportable']
