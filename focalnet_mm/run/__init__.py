"""Around mmengine's runner: config, data, machine and model are checked and built here."""

from ..installed import MISSING, only_with_libraries

if not MISSING:
    from .build import build_model, check_checkpoint, load_model, load_weights, read_any_layout
    from .checks import CheckData, ClassMismatchError, DataError, check_dataset, check_folder, check_heads
    from .config import load_config
    from .evaluation import add_tta, draw_predictions, keep_predictions
    from .images import ImagePipeline
    from .machine import fit_to_machine

__all__ = ['CheckData', 'ClassMismatchError', 'DataError', 'ImagePipeline', 'add_tta', 'build_model',
           'check_checkpoint', 'check_dataset', 'check_folder', 'check_heads', 'draw_predictions', 'fit_to_machine',
           'keep_predictions', 'load_config', 'load_model', 'load_weights', 'read_any_layout']
__getattr__ = only_with_libraries(__name__, __all__)
