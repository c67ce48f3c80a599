"""Around mmengine's runner: config, data, machine and model are checked and built here."""

from .build import build_model, check_checkpoint, load_model, load_weights, read_any_layout
from .checks import CheckClasses, ClassMismatchError, check_classes, check_data, check_folder
from .config import load_config
from .evaluation import add_tta, draw_predictions, keep_predictions
from .images import ImagePipeline
from .machine import fit_to_machine

__all__ = ['CheckClasses', 'ClassMismatchError', 'ImagePipeline', 'add_tta', 'build_model', 'check_checkpoint',
           'check_classes', 'check_data', 'check_folder', 'draw_predictions', 'fit_to_machine', 'keep_predictions',
           'load_config', 'load_model', 'load_weights', 'read_any_layout']
