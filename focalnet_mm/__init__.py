"""Focal Modulation Networks for OpenMMLab.

Importing this package registers the backbone ``FocalNet``, ``FocalNetOptimWrapperConstructor`` for its learning rates,
the hooks ``FocalMapsHook`` and ``LongRunHook``, the head ``SharedDINOHead`` and the reading of other people's
checkpoints. Where PyTorch, mmengine or mmcv is not installed it registers nothing, and
:class:`focalnet_mm.deploy.Runtime` runs exported files.
"""

from .installed import MISSING, only_with_libraries

if not MISSING:
    from . import weights
    from .backbone import ARCHS, FocalModulation, FocalNet
    from .backbone.optim import FocalNetOptimWrapperConstructor
    from .explain.hook import FocalMapsHook
    from .families import name_distributions
    from .heads import SharedDINOHead
    from .run.long_run import LongRunHook

    name_distributions()

__version__ = '0.1.0'
__all__ = ['ARCHS', 'FocalMapsHook', 'FocalModulation', 'FocalNet', 'FocalNetOptimWrapperConstructor', 'LongRunHook',
           'SharedDINOHead', '__version__', 'weights']
__getattr__ = only_with_libraries(__name__, __all__)
