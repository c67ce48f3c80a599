"""One's own pictures and annotations: what is in a folder, in whatever form; its splits, its problems, and files of it.

Typical use::

    data = read_data('my_pictures')
    split_data(data)
    find_problems(data)
    fix_data(data, ['outside', 'empty'])
    written = write_annotations(data, 'my_project/annotations')
"""

from . import needed  # noqa: F401
from .classes import FOLLOWING, as_task
from .label_maps import NO_CLASS, read_label_map
from .looking.fixing import fix_data, fixable
from .looking.problems import KINDS, find_problems
from .looking.splits import read_split, split_data, write_split
from .readers import FORMATS, find_formats, read_data
from .records import SPLITS, TASKS, UNLABELLED, Annotation, OwnData, Picture, Problem
from .writers import Written, write_annotations

__all__ = ['FOLLOWING', 'FORMATS', 'KINDS', 'NO_CLASS', 'SPLITS', 'TASKS', 'UNLABELLED', 'Annotation', 'OwnData',
           'Picture', 'Problem', 'Written', 'as_task', 'find_formats', 'find_problems', 'fix_data', 'fixable',
           'read_data', 'read_label_map', 'read_split', 'split_data', 'write_annotations', 'write_split']
