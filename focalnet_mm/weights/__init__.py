"""Reading checkpoints that others wrote."""

from .files import local_file, read_checkpoint
from .fit import LoadReport, fit_tensor, load_into
from .layouts import LAYOUTS, convert, detect_layout, guess_arch, select_backbone

__all__ = ['LAYOUTS', 'LoadReport', 'convert', 'detect_layout', 'fit_tensor', 'guess_arch', 'load_into', 'local_file',
           'read_checkpoint', 'select_backbone']
