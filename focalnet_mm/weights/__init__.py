"""Reading checkpoints that others wrote, and writing checkpoints for others."""

from ..backbone.archs import guess_arch
from .files import local_file, read_checkpoint
from .fit import LoadReport, fit_tensor, load_into
from .heads import ClassReport
from .layouts import LAYOUTS, convert, detect_layout, select_backbone
from .models import ModelReport, fit_model
from .whole import SCHEME, read_model, trained_classes
from .write import convert_file, publish, transformers_config, write_checkpoint, write_transformers

__all__ = ['LAYOUTS', 'SCHEME', 'ClassReport', 'LoadReport', 'ModelReport', 'convert', 'convert_file', 'detect_layout',
           'fit_model', 'fit_tensor', 'guess_arch', 'load_into', 'local_file', 'publish', 'read_checkpoint',
           'read_model', 'select_backbone', 'trained_classes', 'transformers_config', 'write_checkpoint',
           'write_transformers']
