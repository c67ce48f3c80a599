"""Settings of the checkpoint hook and of the loop that mmengine takes without a word, and fails on after an epoch."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from .long_run import LongRunHook
from .whole_checkpoints import WholeCheckpointHook

__all__ = ['check_hook_settings']

_HOOKS = (CheckpointHook, WholeCheckpointHook, LongRunHook)
_KEY = 'default_hooks.checkpoint'


def check_hook_settings(cfg: Config) -> None:
    """Check what a training would fail on when it saves or validates for the first time.

    Args:
        cfg: The config. A checkpoint hook of another kind is left alone.

    Raises:
        ValueError: A setting has a name that nothing takes, or a value that it cannot have.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    if isinstance(hook, Mapping) and hook.get('type') in (*_HOOKS, *(kind.__name__ for kind in _HOOKS)):
        _check_names(hook)
        for key, least in (('interval', None), ('max_keep_ckpts', None), ('save_begin', 0)):
            _check_number(f'{_KEY}.{key}', hook.get(key), least)
        _check_template(hook.get('filename_tmpl'))
    loop = cfg.get('train_cfg')
    if isinstance(loop, Mapping):
        for key, least in (('val_interval', 1), ('val_begin', 0), ('max_epochs', 1), ('max_iters', 1)):
            _check_number(f'train_cfg.{key}', loop.get(key), least)


def _check_names(hook: Mapping[str, Any]) -> None:
    functions: list[Any] = [*(kind.__init__ for kind in _HOOKS), Runner.save_checkpoint]
    known = {name for function in functions for name, taken in inspect.signature(function).parameters.items()
             if taken.kind is not taken.VAR_KEYWORD and taken.kind is not taken.VAR_POSITIONAL} - {'self'}
    # Those that any hook may have in a config.
    for name in hook:
        if name not in known | {'type', 'priority', '_scope_'}:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f'{_KEY}.{name} is no setting of the hook' + (
                f': did you mean {near[0]}?' if near else f': it takes {", ".join(sorted(known))}.'))


def _check_number(key: str, value: Any, least: int | None) -> None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)):
        return
    raise ValueError(f'{key} is {value!r}, expected a whole number{"" if least is None else f" from {least} up"}.')


def _check_template(template: Any) -> None:
    if template is None:
        return
    try:
        template.format(1)
    except (AttributeError, IndexError, KeyError, ValueError):
        raise ValueError(f'{_KEY}.filename_tmpl is {template!r}, expected a name with one place for the number, such '
                         "as 'epoch_{}.pth'.") from None
