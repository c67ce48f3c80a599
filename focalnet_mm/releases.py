"""What differs between releases of PyTorch, 2.0 and later: found by feature, here alone."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

__all__ = ['HAS_EXPORT', 'HAS_OPERATORS', 'HAS_SAFE_GLOBALS', 'OldTorchError', 'autocast_dtype', 'custom_op',
           'forced_eager', 'is_compiling', 'is_exporting', 'needs', 'register_flops', 'synchronize', 'without_autocast']


class OldTorchError(ValueError):
    """Something was asked for that the PyTorch that is installed cannot do."""


def _never() -> bool:
    return False


_compiler = getattr(torch, 'compiler', None)
#: Whether torch.compile, or torch.export, is at work. torch.compile knows torch's own functions as constants.
is_compiling: Callable[[], bool] = getattr(_compiler, 'is_compiling', getattr(torch._utils, 'is_compiling', _never))
#: Whether torch.export is at work (2.7 and later; before, nothing is exported but by tracing).
is_exporting: Callable[[], bool] = getattr(_compiler, 'is_exporting', _never)
#: Whether torch.export says that it is at work, without which what it writes could not be run at other sizes.
HAS_EXPORT = hasattr(_compiler, 'is_exporting')
#: Whether functions can become operators, which torch.compile takes as a whole (2.4 and later).
HAS_OPERATORS = hasattr(torch.library, 'custom_op')
#: Whether torch's restricted reader takes a list of what else it may name, for as long as a context lasts (2.5 and
#: later).
HAS_SAFE_GLOBALS = hasattr(torch.serialization, 'safe_globals')


def needs(release: str, what: str, instead: str, there: bool) -> None:
    """Refuse what this PyTorch is too old for.

    Args:
        release: The first release that has it, such as ``'2.7'``.
        what: What needs it, the subject of the sentence.
        instead: What works with this one.
        there: Whether what it needs is there.

    Raises:
        OldTorchError: It is not.
    """
    if not there:
        raise OldTorchError(f'{what} needs PyTorch {release} or later, but {torch.__version__} is installed: {instead}')


if hasattr(torch, 'get_autocast_dtype'):
    def autocast_dtype(device: str) -> torch.dtype | None:
        """The data type that autocast computes in on a type of device, or ``None`` where it is off."""
        return torch.get_autocast_dtype(device) if device != 'meta' and torch.is_autocast_enabled(device) else None
else:
    def autocast_dtype(device: str) -> torch.dtype | None:
        """The data type that autocast computes in on a type of device, or ``None`` where it is off."""
        if device == 'cpu':
            return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
        if device == 'cuda':
            return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
        return None


def without_autocast(device: str) -> AbstractContextManager[None]:
    """A context without autocast on a type of device; nothing where it is off, as entering one takes a while."""
    return torch.autocast(device, enabled=False) if autocast_dtype(device) else contextlib.nullcontext()


class _Function:
    """A function in the place of an operator: it computes, and has neither shapes nor derivatives of its own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def register_fake(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Callable[..., Any]) -> None:
        pass


def custom_op(name: str, device_types: str | None = None) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that makes an operator of a function that changes none of its arguments.

    Args:
        name: ``namespace::name``.
        device_types: Where it runs; by default everywhere.

    Returns:
        The decorator; where :data:`HAS_OPERATORS` is false, it returns what calls the function.
    """
    if not HAS_OPERATORS:
        return _Function
    return torch.library.custom_op(name, mutates_args=(), device_types=device_types)


def register_flops(name: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Tell :mod:`torch.utils.flop_counter` how many operations one of our operators is.

    Args:
        name: That of the operator, of the namespace ``focalnet_mm``.

    Returns:
        A decorator of the function that counts; nothing happens where :data:`HAS_OPERATORS` is false.
    """
    def register(function: Callable[..., int]) -> Callable[..., int]:
        def tell() -> None:
            counter: Any = sys.modules['torch.utils.flop_counter']
            counter.register_flop_formula(getattr(torch.ops.focalnet_mm, name))(function)

        if HAS_OPERATORS:
            _when_imported('torch.utils.flop_counter', tell)
        return function
    return register


def _when_imported(module: str, function: Callable[[], None]) -> None:
    """Call a function now if a module has been imported, else right after it is: this one would bring triton along."""
    if module in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _Finder(module, function))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds a module as the others do, once, and has a function called when it has been executed."""

    def __init__(self, module: str, function: Callable[[], None]) -> None:
        self._module, self._function = module, function

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._module or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_call(module: Any) -> None:
                execute(module)
                self._function()

            loader.exec_module = execute_and_call
        return spec


def forced_eager(module: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Let a module run uncompiled as long as the context lasts, since compiled code would pass by its hooks.

    Raises:
        OldTorchError: Parts of it are compiled, and this PyTorch (before 2.6) runs them in no other way.
    """
    # Without the compiler imported nothing is compiled.
    if 'torch._dynamo' not in sys.modules:
        return contextlib.nullcontext()
    if hasattr(_compiler, 'set_stance'):
        return torch.compiler.set_stance('force_eager')
    compiled = any(type(part).__name__ == 'OptimizedModule' or getattr(part, '_compiled_call_impl', None)
                   for part in module.modules())
    needs('2.6', 'Looking into compiled parts of a model', 'look into it before torch.compile.', not compiled)
    return contextlib.nullcontext()


def synchronize(device: torch.device) -> None:
    """Wait until a device that is no CPU has done what it was given."""
    module: Any = getattr(torch, 'accelerator', None) or getattr(torch, device.type)
    module.synchronize(device)
