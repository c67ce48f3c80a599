"""What torch.compile is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ['decided_while_compiling']

Function = TypeVar('Function', bound=Callable)


def decided_while_compiling(function: Function) -> Function:
    """Let torch.compile call a function once, while it compiles, and take what it returns as a constant.

    This is ``torch._dynamo.assume_constant_result``; importing that takes as long as the rest of the package.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
