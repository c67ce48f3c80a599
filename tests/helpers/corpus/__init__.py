"""Small data sets in the forms that the libraries read, each with a config that trains on it.

A case is a function that writes its data below a folder, whose last part is ``data``, and returns the text of a config.
Configs are string or pure-Python ones; models are as thin as they get, images 64×64.
"""

from . import mmdet, mmdet_more, mmpretrain, mmseg

__all__ = ['CASES']

#: Name → (library, function).
CASES = {f'{library} {case.__name__.replace("_", " ")}': (library, case) for library, cases in dict(
    mmdet=mmdet.CASES + mmdet_more.CASES, mmseg=mmseg.CASES, mmpretrain=mmpretrain.CASES).items() for case in cases}
