"""What a FocalNet looks at: gates, modulators and kernels (arXiv 2203.11926v3, figures 5 and 6), without any training.

Arrays first: :func:`focal_maps`, :func:`mean_kernels` and :func:`receptive_fields` work on a bare backbone and on any
model of mmdet, mmseg or mmpretrain with one. :func:`plot_focal_maps` and :func:`plot_kernels` turn them into matplotlib
figures, and :class:`FocalMapsHook` shows them during training.
"""

from ..backbone.focalnet import find_backbone
from .fields import ReceptiveField, receptive_fields
from .figures import as_picture, plot_focal_maps, plot_kernels, reads_rgb
from .hook import FocalMapsHook
from .maps import FocalMaps, focal_maps, mean_kernels, norm_on_objects

__all__ = ['FocalMaps', 'FocalMapsHook', 'ReceptiveField', 'as_picture', 'find_backbone', 'focal_maps', 'mean_kernels',
           'norm_on_objects', 'plot_focal_maps', 'plot_kernels', 'reads_rgb', 'receptive_fields']
