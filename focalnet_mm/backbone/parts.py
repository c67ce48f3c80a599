"""The parts of a model by name, whatever the model is wrapped in."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

__all__ = ['named_parts', 'plain_name', 'unregistered_parts']

# What DDP, averaging of weights and test-time augmentation, torch.compile, FSDP and activation checkpointing put into
# the names of what they wrap.
_WRAPPERS = {'module', '_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'}


def plain_name(name: str) -> str:
    """A module's or parameter's name without what wrappers put into it.

    Args:
        name: Such as ``'module.backbone._fsdp_wrapped_module.norm3.weight'``.

    Returns:
        Such as ``'backbone.norm3.weight'``.
    """
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)


def named_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules of a model with their plain names, each once."""
    for name, module in model.named_modules():
        yield plain_name(name), module


def unregistered_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """What a model keeps as a plain attribute, so that it is not saved or trained: mmdet's distillation its teacher."""
    registered = set(model.modules())
    for owner, module in named_parts(model):
        for attribute, value in vars(module).items():
            if isinstance(value, nn.Module) and value not in registered:
                for name, part in named_parts(value):
                    yield '.'.join(filter(None, (owner, attribute, name))), part
