"""The model zoo: published beside measured."""

from .evaluation import ToolError, evaluate
from .rows import Row, Size, read_zoo
from .sizes import model_size
from .tables import tables, write_between_markers

__all__ = ['Row', 'Size', 'ToolError', 'evaluate', 'model_size', 'read_zoo', 'tables', 'write_between_markers']
