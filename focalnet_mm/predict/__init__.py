"""Predictions on pictures and videos of one's own, with models of mmdet, mmseg and mmpretrain."""

from .inputs import Predicted, predict_inputs
from .predictor import Predictor

__all__ = ['Predicted', 'Predictor', 'predict_inputs']
