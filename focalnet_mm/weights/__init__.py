"""Reading checkpoints that others wrote, and writing checkpoints for others."""

from .files import local_file, read_checkpoint
from .fit import LoadReport, fit_tensor, load_into
from .layouts import LAYOUTS, convert, detect_layout, guess_arch, select_backbone
from .whole import SCHEME, read_model

__all__ = ['LAYOUTS', 'SCHEME', 'LoadReport', 'convert', 'detect_layout', 'fit_tensor', 'guess_arch', 'load_into',
           'local_file', 'read_checkpoint', 'read_model', 'select_backbone']
