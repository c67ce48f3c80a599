"""The steps before a model as the beginning of its ONNX graph: 8-bit RGB pictures of any size go in."""

from .graph import prepend, preprocess_model
from .plan import make_plan

__all__ = ['make_plan', 'prepend', 'preprocess_model']
