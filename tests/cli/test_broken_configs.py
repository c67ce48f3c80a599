"""What is wrong with a config is told in one sentence by every command that reads one, and --traceback shows where."""

import json
import re

import cv2
import numpy as np
import pytest
import torch

from focalnet_mm import cli
from focalnet_mm.benchmark.jobs import jobs_of
from focalnet_mm.run.build import build_model
from focalnet_mm.run.config import load_config
from tests.helpers.corpus import mmpretrain

# The first line of each traceback that is shown.
SHOWN = 'in in_one_sentence'
# What of the good config is something else → what is told of it, by the commands that meet it.
ALL = ('train', 'test', 'predict', 'explain', 'export')
READING = ('train', 'test', 'predict', 'explain')
FAULTS = {
    'no model': (('model = dict(', 'another = dict('), r'config\.py has no model: expected model = dict', ALL),
    'a model that is no dict': (("data_preprocessor = ", "model = 'resnet50'\ndata_preprocessor = "),
                                r"has no model: expected model = dict\(type=…\), found 'resnet50'", ALL),
    'unknown model': (("'ImageClassifier'", "'ImageClasifier'"),
                      r"type='ImageClasifier' is not known to mmpretrain.* did you mean ImageClassifier\?", ALL),
    'unknown step': (("'PackInputs'", "'PackInput'"), r"type='PackInput' is not known to .* did you mean PackInputs\?$",
                     READING),
    'unknown data set': (("'CustomDataset'", "'CustomDatset'"), r'did you mean CustomDataset\?', ('train', 'test')),
    'unknown metric': (("'Accuracy'", "'Acuracy'"), r'did you mean Accuracy\?', ('train', 'test')),
    'unknown arch': (("arch='tiny-srf'", "arch='tiny-srv'"), "Unknown FocalNet arch 'tiny-srv': did you mean", ALL),
    'another argument': (("arch='tiny-srf'", "arch='tiny-srf', depth=3"), "unexpected keyword argument 'depth'", ALL),
    'another library': (("default_scope = 'mmpretrain'", "default_scope = 'mmnobody'"), 'is not known to mmengine',
                        ALL),
    'nothing to import': (("imports=['focalnet_mm']", "imports=['no_such_module']"),
                          r"config\.py cannot be read as a config: ModuleNotFoundError: No module named 'no_s", ALL),
    'no base': (('\ncustom_imports', "\n_base_ = './nowhere.py'\ncustom_imports"),
                r'config\.py inherits a config that does not exist: .*nowhere\.py', ALL),
    'syntax': (('model = dict(', 'model = = dict('), r'config\.py, line \d+: invalid syntax: correct it there', ALL),
    'an error': (('model = dict(', 'value = 1 / 0\nmodel = dict('),
                 r'config\.py cannot be read as a config: line \d+: ZeroDivisionError: division by zero', ALL),
}


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A config that works, a checkpoint of it, and a picture."""
    folder = tmp_path_factory.mktemp('broken')
    text = mmpretrain.folders(folder / 'data')
    (folder / 'config.py').write_text(text)
    torch.save(dict(state_dict=build_model(load_config(folder / 'config.py')).state_dict()), folder / 'x.pth')
    cv2.imwrite(str(folder / 'x.png'), np.zeros((40, 40, 3), np.uint8))
    return folder, text


def arguments(command, folder, config):
    checkpoint, picture, out = folder / 'x.pth', folder / 'x.png', ['--out', folder / 'out', '--force']
    return [str(word) for word in dict(
        train=[config, '--work-dir', folder / 'work'], test=[config, checkpoint, '--work-dir', folder / 'work'],
        predict=[config, checkpoint, picture, *out], explain=[config, picture, '--checkpoint', checkpoint, *out],
        export=[config, checkpoint, '--to', 'torchscript', '--out', folder / 'x.pt', '--force'])[command]]


def ending(command, *words):
    """What a command says where it ends early."""
    with pytest.raises(SystemExit) as ended:
        cli.run(command, [str(word) for word in words], command)
    return str(ended.value.code)


@pytest.mark.parametrize(('command', 'fault'), [
    (command, fault) for fault, (_, _, commands) in FAULTS.items() for command in commands])
def test_one_sentence(command, fault, good, capsys):
    folder, text = good
    (before, after), sentence, _ = FAULTS[fault]
    assert before in text
    config = folder / 'broken' / 'config.py'
    config.parent.mkdir(exist_ok=True)
    config.write_text(text.replace(before, after))
    told = ending(command, *arguments(command, folder, config))
    assert re.search(sentence, told), told
    assert told.startswith(f'{command}: ')
    assert len(told.splitlines()) == 1
    assert SHOWN not in capsys.readouterr().err
    if fault == 'unknown model':
        assert ending(command, *arguments(command, folder, config), '--traceback') == told
        assert SHOWN in capsys.readouterr().err


def test_a_validation_that_cannot_be_built(good):
    folder, text = good
    config = folder / 'data set.py'
    config.write_text(text.replace("'CustomDataset'", "'CustomDatset'"))
    told = ending('explain', config, '--objects', '--checkpoint', folder / 'x.pth')
    assert told.endswith('did you mean CustomDataset?')
    config.write_text(f'{text}\nval_dataloader = None\n')
    told = ending('explain', config, '--objects', '--checkpoint', folder / 'x.pth')
    assert told == f'explain: --objects: {config} has no validation data.'


def test_a_benchmark(good, capsys):
    """Its measurements are processes of their own, whose last line is told."""
    folder, text = good
    config = folder / 'benchmark.py'
    config.write_text(text.replace("'ImageClassifier'", "'ImageClasifier'"))
    job, = jobs_of(['focalnet-mm'], {}, [(32, 32, 1, 3)], ['training'], ['float32'], ['eager'], 'tiny-srf', 'cpu',
                   str(config))
    told = ending('benchmark', '--worker', json.dumps(job))
    assert re.match(r"benchmark: type='ImageClasifier' is not known to mmpretrain's", told)
    assert SHOWN in capsys.readouterr().err


def test_what_is_no_file(tmp_path):
    """Commands that read no config."""
    (tmp_path / 'x').write_text('nothing')
    for told in (ending('publish', tmp_path / 'x', tmp_path / 'y.pth'),
                 ending('convert', tmp_path / 'x', tmp_path / 'y.pth', '--to', 'mm'),
                 ending('grid', tmp_path / 'x', '--out', tmp_path / 'y.png'),
                 ending('shapes', tmp_path / 'x'),
                 ending('config', 'maskrcnn_focalnet_t_1x', '--out', tmp_path / 'x')):
        assert str(tmp_path / 'x') in told
        assert len(told.splitlines()) == 1
    (tmp_path / 'zoo').mkdir()
    (tmp_path / 'zoo' / 'results.json').write_text('{')
    told = ending('zoo_evaluate', tmp_path, '--coco', tmp_path, '--out', tmp_path / 'zoo')
    assert 'results.json' in told
    assert len(told.splitlines()) == 1


def test_one_of_several_backbones(good, capsys):
    """Of student and teacher, for example: the names are told, and each can be exported."""
    folder, text = good
    config = folder / 'two.py'
    config.write_text(f"{text}\nimport sys\nsys.path.insert(0, {str(folder)!r})\ndel sys\n"
                      "custom_imports = dict(imports=['focalnet_mm', 'two_backbones'], allow_failed_imports=False)\n"
                      "model = dict(type='mmengine.Two', one=backbone, two=backbone)\n")
    (folder / 'two_backbones.py').write_text('''
from mmengine.model import BaseModel
from mmengine.registry import MODELS


@MODELS.register_module(force=True)
class Two(BaseModel):
    def __init__(self, one, two, data_preprocessor=None):
        super().__init__()
        self.one, self.two = MODELS.build(one), MODELS.build(two)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.one(inputs), self.two(inputs)
''')
    model = build_model(load_config(config))
    torch.save(dict(state_dict=model.state_dict()), folder / 'two.pth')
    words = [config, folder / 'two.pth', '--to', 'torchscript', '--part', 'backbone', '--out', folder / 'two.pt']
    assert 'the Two has 2: one, two. Name one of them' in ending('export', *words)
    cli.run('export', [str(word) for word in [*words, '--backbone', 'two']], 'export')
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(folder / 'two.pt')(images)[0], model.eval().two(images)[0])
    assert ending('export', *words[:4], '--backbone', 'two') == '2'
    assert '--backbone names a backbone: add --part backbone' in capsys.readouterr().err
