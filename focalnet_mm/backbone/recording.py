"""What modules were when they were built, so that a later change of any kind is seen."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from .compute.compiling import decided_while_compiling

__all__ = ['Recording', 'is_as_built']

_PLAIN_TENSORS = {Tensor, nn.Parameter}
# What a call of a module goes through; the other methods are not asked.
_CALLED = ('forward', '__call__', '_call_impl', '_wrapped_call_impl', '_conv_forward', '__getattr__',
           '__getattribute__')
# Class → the functions that a call of its modules goes through, by name, when it was remembered.
_CLASSES: dict[type, dict[str, Any]] = {}


def remember(*kinds: type[nn.Module]) -> None:
    """Remember through which functions calls of modules of these classes go; a record knows no other classes."""
    for kind in kinds:
        own = [name for name, value in vars(kind).items() if inspect.isfunction(value)]
        _CLASSES[kind] = {name: getattr(kind, name, None) for name in (*_CALLED, *own)}


remember(nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GELU, nn.Identity, nn.Dropout, nn.Sequential, nn.ModuleList)


class Recording:
    """A module and those below it: their classes, attributes, children, and the shapes of their parameters.

    A change need not be known to be seen. Another object in any attribute, another attribute, class or child, or
    anything in a container that was built empty, such as those of hooks, is one. Of parameters only the kind is
    compared, since training, loading and moving replace them.

    Args:
        root: The module; this object is to become its attribute ``name``. The hooks of the root itself are left out:
            they run before and after what it computes.
        name: Where the root keeps this object.
    """

    def __init__(self, root: nn.Module, name: str) -> None:
        self._modules = list(root.modules())
        self._classes = [type(module) for module in self._modules]
        self._are_known = all(kind in _CLASSES for kind in self._classes)
        self._kinds = list(dict.fromkeys(self._classes))
        # The attributes hold the dict of children, which is changed in place: its content is compared too.
        self._children = [dict(module._modules) for module in self._modules]
        self._names = [list(module._parameters) for module in self._modules]
        self._shapes = [None if tensor is None else tensor.shape for tensor in self._tensors()]
        self._empty: list[Any] = [
            value for module in self._modules for key, value in vars(module).items()
            if isinstance(value, (dict, set)) and not value and key not in ('_parameters', '_modules')
            and (module is not root or key == '_buffers')]
        # In evaluation and in training mode. Dicts that hold the same objects are equal at the cost of a glance.
        self._attributes = [({**vars(module), 'training': False}, {**vars(module), 'training': True})
                            for module in self._modules]
        for attributes in self._attributes[0]:
            attributes[name] = self

    def is_as_built(self, root: nn.Module) -> bool:
        """Whether everything is of the kind that it was when it was built.

        Args:
            root: The module that asks; of a shallow copy, as data parallelism makes them, nothing was recorded.

        Returns:
            ``False`` where a module was exchanged, patched, hooked, parametrised, offloaded or quantised, has other
            settings or other parameters, or where the parameters differ in data type or device.
        """
        try:
            return (root is self._modules[0] and self._are_known and not any(self._empty)
                    and list(map(type, self._modules)) == self._classes
                    and all(getattr(kind, name, None) is function for kind in self._kinds
                            for name, function in _CLASSES[kind].items())
                    and [module._modules for module in self._modules] == self._children
                    and all(vars(module) == attributes[module.training]
                            for module, attributes in zip(self._modules, self._attributes))
                    and self._parameters_are_plain())
        except Exception:
            # A tensor or an array in place of a number has no single truth value; others compare as they like.
            return False

    def _parameters_are_plain(self) -> bool:
        if [list(module._parameters) for module in self._modules] != self._names:
            return False
        tensors = self._tensors()
        if [None if tensor is None else tensor.shape for tensor in tensors] != self._shapes:
            return False
        found = [tensor for tensor in tensors if tensor is not None]
        return all(type(tensor) in _PLAIN_TENSORS and tensor.dtype is found[0].dtype
                   and tensor.device == found[0].device and tensor.layout is torch.strided for tensor in found)

    def _tensors(self) -> list[Tensor | None]:
        return [tensor for module in self._modules for tensor in module._parameters.values()]


@decided_while_compiling
def is_as_built(recording: Recording, root: nn.Module) -> bool:
    """:meth:`Recording.is_as_built`, which torch.compile takes as it is while it compiles."""
    return recording.is_as_built(root)
