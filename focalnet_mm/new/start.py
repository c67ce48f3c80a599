"""Which weights a training on one's own data starts from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..weights import SCHEME
from .heads import pretrained
from .literals import assignment
from .plan import Plan

__all__ = ['Start', 'start']


class Start(NamedTuple):
    """What a config says of its initial weights."""

    #: Lines of the config.
    text: str
    #: Whether the backbone starts from weights of its own, as the base says.
    backbone: bool
    #: Those, where they are to be named in another way than the base does.
    source: str | None = None
    #: Whether the backbone is trained.
    trained: bool = True
    #: Whether the heads are trained too.
    whole: bool = False


def start(plan: Plan) -> Start:
    """The weights that were asked for, or the best public ones of method and variant: those of a whole model, else
    those of the backbone.

    Raises:
        FileNotFoundError: A file that is asked for, or that the base starts from, is not there.
    """
    own, row = pretrained(plan.base.model), plan.choice.row
    if plan.weights == 'none':
        # Another initialisation than from a file stays.
        return Start(assignment('load_from', None, 'from scratch, as asked for'), own is None, trained=False)
    if plan.weights is not None:
        source = _there(plan.weights, '--weights')
        return Start(assignment('load_from', source, 'as asked for; rows of classes with equal names are taken over'),
                     own is None)
    if not plan.keep and row is not None and row.weights:
        why = 'the best that is public; rows of classes with equal names are taken over'
        text = assignment('load_from', SCHEME + row.weights, why)
        return Start(text, own is None, whole=plan.library != 'mmpretrain')
    if own is None:
        return Start('', True, trained=False)
    if '://' in own:
        return Start(f'# No whole model of this kind is public. The backbone starts from\n# {own}', True)
    return Start('', True, _there(own, 'the backbone of the base starts from'))


def _there(source: str, said: str) -> str:
    """A checkpoint by a name that holds in every folder."""
    if '://' in source:
        return source if source.startswith(SCHEME) else SCHEME + source
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f'{said} {source}, which does not exist: give --weights none, or a checkpoint that is '
                                'there.')
    return str(path.resolve())
