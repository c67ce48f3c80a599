"""focalnet-mm check, as it is typed."""

import json

import pytest
import torch

from focalnet_mm import cli
from focalnet_mm.run.build import load_model
from focalnet_mm.run.config import load_config
from tests.helpers.corpus import CASES
from tests.helpers.corpus.common import write


@pytest.fixture
def config(tmp_path):
    return write(tmp_path / 'config.py', CASES['mmpretrain lists'][1](tmp_path / 'data'))


def check(*words):
    cli.run('check', [str(word) for word in words], 'check')


@pytest.mark.train
def test_a_checkpoint(config, tmp_path, capsys):
    """Its weights are what training begins with."""
    cfg = load_config(str(config))
    torch.manual_seed(1)
    model = load_model(cfg)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'own.pth')
    losses = []
    for checkpoint in ([tmp_path / 'own.pth'], [tmp_path / 'own.pth'], []):
        check(config, *checkpoint, '--work-dir', tmp_path / 'work', '--steps', 3, '--device', 'cpu')
        losses.append(json.loads((tmp_path / 'work/check/report.json').read_text())['check']['losses'])
    out = capsys.readouterr().out
    assert f'{tmp_path}/work/check/report.html\n' in out
    assert 'note: Training on 4 pictures alone took the loss from' in out
    assert losses[0] == losses[1] != losses[2]
    assert len(losses[0]) == 3


@pytest.mark.slow
def test_status(config, tmp_path, capsys):
    check(config, '--work-dir', tmp_path / 'work', '--no-train')
    with pytest.raises(SystemExit) as ended:
        check(config, '--work-dir', tmp_path / 'work', '--no-train', '--cfg-options', 'model.head.num_classes=9')
    assert ended.value.code == 'check: 2 things are certainly wrong, see above.'
    assert 'error: model.head has 9 classes' in capsys.readouterr().out


def test_bad_arguments(config, capsys):
    with pytest.raises(SystemExit):
        check(config, '--steps', 0)
    assert '--steps must be 1 or more, got 0; --no-train leaves training out' in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r'nowhere.py does not exist'):
        check(config.with_name('nowhere.py'))
