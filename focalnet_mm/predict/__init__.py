"""Predictions on pictures and videos of one's own, with models of mmdet, mmseg and mmpretrain."""

from ..installed import MISSING, only_with_libraries
from .exported import ExportedPredictor
from .inputs import Predicted, predict_inputs

if not MISSING:
    from .predictor import Predictor

__all__ = ['ExportedPredictor', 'Predicted', 'Predictor', 'predict_inputs']
__getattr__ = only_with_libraries(__name__, __all__)
