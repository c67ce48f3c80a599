"""One's own pictures and annotations: what is in a folder, in whatever form; its splits, its problems, and files of it.

Typical use::

    data = read_data('my_pictures')
    split_data(data)
    find_problems(data)
    fix_data(data, ['outside', 'empty'])
    written = write_annotations(data, 'my_project/annotations')
"""

try:
    import defusedxml
    import imagehash
    import PIL
    import pycocotools  # noqa: F401
except ImportError as error:
    raise ImportError(f"{error.name} is not installed: to read one's own data, run pip install 'focalnet-mm[own]'.",
                      name=error.name) from None

from .reading import FORMATS, find_formats, read_data
from .label_maps import read_label_map
from .classes import as_task
from .fixing import fix_data
from .problems import KINDS, find_problems
from .records import SPLITS, TASKS, Annotation, OwnData, Picture, Problem
from .splits import read_split, split_data, write_split
from .writing import Written, write_annotations

__all__ = ['FORMATS', 'KINDS', 'SPLITS', 'TASKS', 'Annotation', 'OwnData', 'Picture', 'Problem', 'Written',
           'as_task', 'find_formats', 'find_problems', 'fix_data', 'read_data', 'read_label_map', 'read_split', 'split_data',
           'write_annotations', 'write_split']
