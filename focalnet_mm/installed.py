"""What of the libraries is installed: exported files run without them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ['MISSING', 'OURS', 'only_with_libraries']

#: Those that everything but the running of exported files needs, and that are not installed.
MISSING = tuple(name for name in ('torch', 'mmengine', 'mmcv') if importlib.util.find_spec(name) is None)
#: What the package raises of wrong arguments, files and data, with a message that stands for itself.
OURS = (ValueError, OSError, ModuleNotFoundError)


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
            raise ModuleNotFoundError(
                f'{package}.{name} needs {" and ".join(MISSING)}, which {"is" if len(MISSING) == 1 else "are"} not '
                'installed; without it exported files run alone, through focalnet_mm.deploy.Runtime.', name=MISSING[0])
        raise AttributeError(f'module {package!r} has no attribute {name!r}')
    return missing
