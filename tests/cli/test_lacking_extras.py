"""An installation without the extras: commands that need none of them work, the others say which."""

import sys

import pytest

from focalnet_mm.cli import COMMANDS
from tests.helpers.tools import ROOT

#: What nothing but the extras brings, nor is looked for by mmpretrain.
ONLY_EXTRAS = ('onnx', 'onnxruntime', 'onnxscript', 'defusedxml', 'imagehash', 'triton')
WORDS = [words for name, module in COMMANDS.items()
         for words in ([[name]] if isinstance(module, str) else [[name, word] for word in module])]
CODE = f'''
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition('.')[0] in {ONLY_EXTRAS} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from focalnet_mm.cli import main
for command in {{commands}}:
    try:
        main(command)
        code = 0
    except SystemExit as error:
        code = error.code
    print('==', *command[:2], code or 0)
'''


@pytest.fixture
def without(run):
    """The ends of commands, the exit status or what is said in its place, without the extras."""
    def ends(commands):
        out = run(sys.executable, '-W', 'ignore', '-c', CODE.format(commands=commands), cwd=ROOT)
        return [line.removeprefix('== ') for line in out.splitlines() if line.startswith('== ')]
    return ends


def test_help(without):
    ends = without([[*words, '--help'] for words in WORDS])
    assert len(ends) == len(WORDS)
    for words, end in zip(WORDS, ends):
        if words == ['new']:
            assert end == ("new --help focalnet-mm new: error: defusedxml is not installed: to read one's own data, "
                           "run pip install 'focalnet-mm[own]'.")
        else:
            assert end == ' '.join([*words, '--help'][:2]) + ' 0'


def test_predict_and_export(without, tmp_path, thin_config):
    import cv2
    import numpy as np
    import torch

    from focalnet_mm.run.build import build_model
    cfg = thin_config('mmpretrain/focalnet_t_in1k.py')
    cfg.dump(tmp_path / 'config.py')
    torch.save(build_model(cfg).state_dict(), tmp_path / 'x.pth')
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((40, 50, 3), 99, np.uint8))
    files = [str(tmp_path / 'config.py'), str(tmp_path / 'x.pth')]
    found = without([['predict', *files, str(tmp_path / 'a.png'), '--out', str(tmp_path / 'out'), '--device', 'cpu'],
                     ['export', *files, '--to', 'torchscript', '--out', str(tmp_path / 'x.pt')],
                     ['export', *files, '--to', 'onnx', '--out', str(tmp_path / 'x.onnx')]])
    assert [line.split()[-1] for line in found[:2]] == ['0', '0']
    assert (tmp_path / 'out' / 'predictions.json').is_file()
    assert (tmp_path / 'x.pt').is_file()
    assert not (tmp_path / 'x.onnx').exists()
    assert found[2].endswith('ONNX needs onnx and onnxscript and onnxruntime: pip install "focalnet-mm[onnx]".')
