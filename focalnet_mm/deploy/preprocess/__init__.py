"""The steps before a model as the beginning of its ONNX graph: 8-bit RGB pictures of any size go in."""

from .check import compare_with_pipeline
from .graph import carriers_behind, prepend, preprocess_model
from .plan import make_plan

__all__ = ['carriers_behind', 'compare_with_pipeline', 'make_plan', 'prepend', 'preprocess_model']
