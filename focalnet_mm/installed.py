"""What of the libraries is installed: exported files run without them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ['GUIDE', 'MISSING', 'OURS', 'MissingExtraError', 'cure', 'needs_missing', 'only_with_libraries']

#: Those that everything but the running of exported files needs, and that are not installed.
MISSING = tuple(name for name in ('torch', 'mmengine', 'mmcv') if importlib.util.find_spec(name) is None)
#: The page on installations.
GUIDE = 'docs/install.md'
#: What the package raises of wrong arguments, files and data, with a message that stands for itself.
OURS = (ValueError, OSError, ModuleNotFoundError)


class MissingExtraError(ModuleNotFoundError):
    """An extra of the package is needed; the message says which, and how it is installed."""


def needs_missing() -> str:
    """What of :data:`MISSING` is told of something that needs it."""
    return (f'needs {" and ".join(MISSING)}, which {"is" if len(MISSING) == 1 else "are"} not installed ({GUIDE} says '
            'how)')


def only_with_libraries(package: str, names: Sequence[str]) -> Callable[[str], Any]:
    """A package's ``__getattr__`` where libraries are missing.

    Args:
        package: Its name.
        names: Those that it would have.

    Returns:
        A function that says what a name needs.
    """
    def missing(name: str) -> Any:
        if name in names and MISSING:
            raise ModuleNotFoundError(f'{package}.{name} {needs_missing()}; without, exported files run alone, through '
                                      'focalnet_mm.deploy.Runtime.', name=MISSING[0])
        raise AttributeError(f'module {package!r} has no attribute {name!r}')
    return missing


def cure(error: BaseException) -> str | None:
    """What an installation lacks where a library could not be imported.

    Args:
        error: What was raised; what it came of counts too.

    Returns:
        A sentence with the way out, or ``None`` where the installation is not to blame.
    """
    seen: BaseException | None = error
    while seen is not None:
        lacking = _lacking(seen)
        if lacking is not None:
            return f'{lacking} ({GUIDE}).'
        seen = seen.__cause__ or seen.__context__
    return None


def _lacking(error: BaseException) -> str | None:
    name = getattr(error, 'name', None)
    if name == 'pkg_resources':
        return "mmengine needs pkg_resources, which setuptools 81 removed: pip install 'setuptools<81'"
    if name == 'mmcv._ext':
        return ('mmcv is installed without its operators, as mmcv-lite is, or as mmcv that was compiled without torch: '
                'compile mmcv beside this torch')
    # Python names a library that does not load by its last part.
    if name == '_ext' and 'mmcv' in os.path.normpath(getattr(error, 'path', None) or '').split(os.sep):
        return 'The operators of mmcv were compiled for another torch: compile mmcv anew beside this one'
    if 'torchvision::nms does not exist' in str(error):
        return ('torchvision was built for another torch, or for CUDA beside a torch without: install the one of the '
                'same release and index')
    return None
