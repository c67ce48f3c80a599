"""What a training fails on when it saves or validates for the first time is said before it starts."""

import re

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from focalnet_mm.run.hook_settings import check_hook_settings
from focalnet_mm.run.shipped import shipped
from tests.helpers.long_runs import long_run


def config(hook=None, **loop):
    return Config(dict(default_hooks=dict(checkpoint=dict(dict(type='CheckpointHook', interval=1), **(hook or {}))),
                       train_cfg=dict(dict(by_epoch=True, max_epochs=2, val_interval=1), **loop)))


@pytest.mark.parametrize(('hook', 'loop', 'message'), [
    (dict(intervall=2), {}, 'default_hooks.checkpoint.intervall is no setting of the hook: did you mean interval?'),
    (dict(qwertz=2), {}, 'default_hooks.checkpoint.qwertz is no setting of the hook: it takes backend_args, '),
    (dict(interval='x'), {}, "default_hooks.checkpoint.interval is 'x', expected a whole number."),
    (dict(max_keep_ckpts='two'), {}, "default_hooks.checkpoint.max_keep_ckpts is 'two', expected a whole number."),
    (dict(filename_tmpl='ck_{}_{}.pth'), {}, "default_hooks.checkpoint.filename_tmpl is 'ck_{}_{}.pth', expected a"),
    (dict(filename_tmpl='{x}.pth'), {}, "default_hooks.checkpoint.filename_tmpl is '{x}.pth', expected a name"),
    ({}, dict(val_interval=0), 'train_cfg.val_interval is 0, expected a whole number from 1 up.'),
    ({}, dict(val_interval='x'), "train_cfg.val_interval is 'x', expected a whole number from 1 up."),
    ({}, dict(max_epochs=True), 'train_cfg.max_epochs is True, expected a whole number from 1 up.'),
])
def test_what_is_wrong(hook, loop, message):
    with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
        check_hook_settings(config(hook, **loop))


@pytest.mark.parametrize('hook', [
    dict(type='LongRunHook', max_nonfinite=3, stop_signals=['SIGTERM']), dict(type='Own', anything=1),
    dict(type=CheckpointHook, interval=-1, by_epoch=False, save_best='auto', rule='greater', published_keys=['meta']),
    dict(filename_tmpl='latest.pth', max_keep_ckpts=-1, save_last=False, priority='LOW'),
    dict(filename_tmpl='{:05d}.pth', save_begin=2, out_dir='x', save_optimizer=False, save_param_scheduler=False)])
def test_what_mmengine_takes(hook):
    check_hook_settings(config(hook))
    check_hook_settings(Config(dict(default_hooks=dict(checkpoint=None), train_cfg=None)))


@pytest.mark.parametrize('hook', [dict(save_begin=1, max_keep_ckpts=-1), dict(filename_tmpl='{:05d}.pth')])
def test_mmengine_trains_with_what_is_taken(hook, tmp_path):
    check_hook_settings(config(hook))
    long_run(tmp_path, hook=hook, ema=False).train()


def test_all_configs():
    paths = sorted((shipped() / 'configs').glob('mm*/*.py'))
    assert len(paths) > 70
    for path in paths:
        check_hook_settings(Config.fromfile(path))
