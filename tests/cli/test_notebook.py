"""The notebook, run cell by cell."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.helpers.tools import ROOT


@pytest.mark.train
def test_every_cell_runs(tmp_path):
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / 'tools' / 'get_started.ipynb', tmp_path)
    done = subprocess.run(
        [sys.executable, '-m', 'nbconvert', '--to', 'notebook', '--execute', '--output', 'done.ipynb',
         'get_started.ipynb'],
        cwd=tmp_path, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in json.loads((tmp_path / 'done.ipynb').read_text())['cells'] if cell['cell_type'] == 'code']
    assert not [output for cell in cells for output in cell['outputs'] if output['output_type'] == 'error']
    pictures = [sum('image/png' in output.get('data', ()) for output in cell['outputs']) for cell in cells]
    assert sum(pictures) == 3
    text = ''.join(''.join(output.get('text', '')) for cell in cells for output in cell['outputs'])
    assert 'stage 0, block 1: gates (1, 4, 40, 40), modulator (1, 48, 40, 40)' in text
    assert 'level 3: sees 13 pixels of the map' in text


def test_it_is_committed_without_outputs():
    """Outputs would differ after every run."""
    cells = json.loads((ROOT / 'tools' / 'get_started.ipynb').read_text())['cells']
    assert not [cell for cell in cells if cell['cell_type'] == 'code' and (cell['outputs'] or cell['execution_count'])]
