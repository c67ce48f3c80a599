"""Small data sets in the forms that the libraries read, each with a config that trains on it.

A case is a function that writes its data below a folder, whose last part is ``data``, and returns the text of a config.
Configs are string or pure-Python ones; models are as thin as they get, images 64×64.
"""

from . import mmdet, mmpretrain, mmseg

__all__ = ['CASES']

#: Name → (library, function).
CASES = {f'{library.__name__.rpartition(".")[2]} {case.__name__.replace("_", " ")}': (
    library.__name__.rpartition('.')[2], case) for library in (mmdet, mmseg, mmpretrain) for case in library.CASES}
