"""A thousand damaged files: each ends in a sentence, in a few seconds, in about the memory that a whole one takes."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.tools import ROOT

# One process reads many files, and tells of each what it ended in, the seconds, and the most memory beyond what it had.
READ = '''
import json, sys, time, warnings
import torch
from pathlib import Path
from focalnet_mm import FocalNet
from focalnet_mm.weights import load_into
from tests.helpers.classifiers import classification_state, random_net
from tests.helpers.damaged import damaged, whole_files
warnings.simplefilter('ignore')
torch.set_num_threads(1)
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
net = random_net(embed_dims=32)
formats = whole_files(classification_state(net))
expected = {name: tensor.clone() for name, tensor in net.state_dict().items() if not name.startswith('norm')}

def memory(key):
    status = Path('/proc/self/status').read_text()
    return 1024 * int(status.split(f'{key}:')[1].split()[0])

def read(path, size):
    Path('/proc/self/clear_refs').write_text('5')
    # The time of this process: others may keep the machine busy.
    before, start, said = memory('VmRSS'), time.process_time(), None
    try:
        load_into(net, path)
        if not all(torch.equal(net.state_dict()[name], tensor) for name, tensor in expected.items()):
            said = 'OTHER WEIGHTS'
    except (ValueError, OSError) as error:
        said = str(error)
    except BaseException as error:
        said = f'{type(error).__name__}: {error}'
    return dict(said=said, seconds=time.process_time() - start, memory=(memory('VmHWM') - before) / size)

for ending, content in formats.values():
    path = folder / f'whole{ending}'
    path.write_bytes(content)
    told = read(path, len(content))
    assert told['said'] is None, told
for seed in range(first, last):
    kind, ending, content = damaged(formats, seed)
    path = folder / f'damaged{ending}'
    path.write_bytes(content)
    # What a small file takes is measured against a whole one.
    told = read(path, max(len(content), len(formats['archive'][1])))
    print(json.dumps(dict(seed=seed, kind=kind, **told)), flush=True)
'''


@pytest.mark.skipif(not os.access('/proc/self/clear_refs', os.W_OK), reason='only Linux tells peaks of memory')
@pytest.mark.parametrize(('first', 'last'), [(0, 24), pytest.param(24, 1000, marks=pytest.mark.slow)])
def test_one_sentence_each(first, last, tmp_path):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', READ, tmp_path, str(first), str(last)],
                          cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}, text=True,
                          capture_output=True, timeout=900, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"seed"')]
    assert len(told) == last - first, done.stderr[-2000:]
    for each in told:
        said = each['said']
        assert said is None or ('damaged.' in said and '\n' not in said and len(said) < 600), each
        assert each['seconds'] < 10, each
        assert each['memory'] < 3, each
    assert not (tmp_path / 'ran').exists()
    # Flips in what nobody reads, such as dates, may leave the weights as they are; code and forged sizes never do.
    refused = [each for each in told if each['said'] is not None]
    assert len(refused) > 0.7 * len(told)
    assert all(each['said'] for each in told if not each['kind'].startswith('flipped'))
