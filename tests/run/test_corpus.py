"""Our train and test beside the library's own tools, on data sets of every kind that the libraries read.

Where theirs succeeds, ours does, with the same numbers, or refuses for a reason that stands here; where theirs fails,
ours does. What our test measures is what their test or their last validation did.
"""

import contextlib
import importlib.util
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from focalnet_mm import cli
from tests.helpers.corpus import CASES

pytestmark = pytest.mark.train

#: Case → what ours says where the library's own tool goes on, and trains on something else than the config says.
REFUSED = {
    'mmdet another number of classes': 'model.bbox_head has 5 classes, the data set of train_dataloader.dataset has 3',
    'mmdet mapped in another order': "class 0 is 'box' there and 'cone' here, so labels would be wrong; write classes=",
    'mmdet xml of other names': "Annotations/train0.xml and the other annotations name 'ball', 'box', 'cone', and none",
    'mmdet another order of classes': "class 0 is 'box' there and 'cone' here, so labels would be wrong; write "
                                      "classes=('box', 'ball', 'cone')",
    'mmdet classes the annotations lack': "holds 2 of the 3 classes that the data set has, and not 'tree'",
    'mmdet classes without a comma': "is the string 'cone', expected a tuple",
    'mmdet pictures to validate elsewhere': 'nowhere/, which val_dataloader.dataset.data_prefix.img names, does not',
    'mmseg another number of classes': 'model.decode_head has 7 classes, the data set of train_dataloader.dataset has',
    'mmseg empty of another ending': 'holds no file that ends in .jpg, but files that end in .png: correct',
    'mmseg label maps elsewhere': 'nowhere, which val_dataloader.dataset.data_prefix.seg_map_path names, does not',
    'mmpretrain another number of classes': 'model.head has 9 classes, the data set of train_dataloader.dataset has 3',
}


#: Cases that the library's own test is run for: a kind each, and those whose test is another than their validation. Of
#: all others the last validation of its own train is what our test must repeat.
TESTED = {'mmdet coco', 'mmdet voc', 'mmdet in memory', 'mmdet panoptic', 'mmdet pure python', 'mmdet another runner',
          'mmdet several loaders in another scope', 'mmseg ade20k', 'mmseg joined', 'mmpretrain folders',
          'mmpretrain multi label', 'mmpretrain averaged weights', 'mmpretrain without labels'}


#: Case that is trained only → what our test says.
UNTESTED = {'mmpretrain without labels': '{} has no test data: there is nothing to evaluate.'}


def their_tool(library, name, *arguments):
    """Run a tool that the library installs, in this process; returns what went wrong."""
    path = Path(importlib.util.find_spec(library).origin).parent / '.mim' / 'tools' / f'{name}.py'
    return outcome(lambda: runpy.run_path(str(path), run_name='__main__'), [str(path), *map(str, arguments)])


def our_tool(name, *arguments):
    return outcome(lambda: cli.run(name, [str(argument) for argument in arguments], name), [name])


def outcome(run, argv):
    before = list(sys.argv), list(sys.path)
    sys.argv = argv
    try:
        run()
    except SystemExit as stop:
        return str(stop.code) if stop.code else None
    except Exception as error:
        return f'{type(error).__name__}: {error}'
    finally:
        sys.argv, sys.path[:] = before
    return None


def logged(folder):
    """All numbers of a run but its times."""
    (file,) = Path(folder).glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in row.items() if 'time' not in key and key != 'memory'} for row in rows]


def measured(folder):
    """What a test wrote, but its times."""
    written = [json.loads(path.read_text()) for path in sorted(Path(folder).glob('*/2*.json'))]
    return [{key: value for key, value in row.items() if 'time' not in key} for row in written]


@pytest.fixture(autouse=True)
def _configs_as_they_are(monkeypatch):
    """Each run writes its config several times, and takes a third of a second each for where its lines break."""
    monkeypatch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, True))


@pytest.mark.parametrize('name', CASES)
def test_as_the_library_s_own_tools(name, tmp_path):
    library, case = CASES[name]
    source = case(tmp_path / 'data')
    # mmengine keeps a process's loggers and writers by the config's name and the second, and cases end within one.
    configs = {who: tmp_path / f'{who}_{re.sub(r"[^a-z0-9]", "_", name)}.py' for who in ('theirs', 'ours')}
    for path in configs.values():
        path.write_text(source)
    work = {who: tmp_path / f'work_{who}' for who in configs}
    theirs = their_tool(library, 'train', configs['theirs'], '--work-dir', work['theirs'])
    if name == 'mmdet in memory':
        case(tmp_path / 'data')
        with contextlib.suppress(KeyError):
            del sys.modules[next(module for module in sys.modules if module.startswith('own_backend'))]
    ours = our_tool('train', configs['ours'], '--work-dir', work['ours'])
    show(name, 'train', theirs, ours)
    if name in REFUSED:
        assert REFUSED[name] in ours
        return
    assert (ours is None) == (theirs is None), (ours, theirs)
    if theirs is not None:
        assert len(ours.splitlines()) == 1
        return
    assert logged(work['ours']) == logged(work['theirs'])

    checkpoint = (work['theirs'] / 'last_checkpoint').read_text()
    validated = logged(work['theirs'])[-1]
    work = {who: tmp_path / f'test_{who}' for who in configs}
    ours = our_tool('test', configs['ours'], checkpoint, '--work-dir', work['ours'])
    theirs = None
    if name in TESTED:
        theirs = their_tool(library, 'test', configs['theirs'], checkpoint, '--work-dir', work['theirs'])
        show(name, 'test', theirs, ours)
    if name in UNTESTED:
        assert theirs
        assert ours == f'test: {UNTESTED[name].format(configs["ours"])}'
        return
    assert (ours, theirs) == (None, None)
    found, = measured(work['ours'])
    assert found == (measured(work['theirs'])[0] if name in TESTED else
                     {key: value for key, value in validated.items() if key != 'step'})


def show(name, tool, theirs, ours):
    """A row of the table that ``pytest -s`` prints."""
    print(f'\ncorpus | {name} | {tool} | {theirs or "succeeds"} | {ours or "succeeds"} |')
