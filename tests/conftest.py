import contextlib
import functools
import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import mmengine.config.utils
import mmengine.dataset.base_dataset
import mmengine.runner.runner
import pytest
import torch
from mmengine.logging import MMLogger

from tests.helpers import browser, classifiers, detrex_dino, lacking, server, thin, tools

# Real samples of COCO and ADE20K; the project never needs them.
SAMPLES = Path(os.environ.get('FOCALNET_SAMPLES', tools.ROOT.parent / 'shared' / 'data'))

# For each base of another library mmengine reads all of that library's metafiles.
mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)
# Each runner asks compilers for their versions, and each data set has all objects of the process looked through.
mmengine.runner.runner.collect_env = functools.cache(mmengine.runner.runner.collect_env)
mmengine.dataset.base_dataset.gc = SimpleNamespace(collect=lambda: 0)
# A shell without job control starts what runs in the background with Ctrl-C ignored, and commands inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests run in parallel, a process a core.
torch.set_num_threads(1)
# What tests/backbone/compute/test_machines.py asks for.
if os.environ.get('FOCALNET_WITHOUT_ONEDNN'):
    torch.backends.mkldnn.set_flags(False)


# What a test that asks for a fixture is marked with; a process that imports torch takes seconds.
MARKS = dict(page_of='browser', tool='slow', run='slow', trained='train')


pytest_runtest_setup = pytest_runtest_call = lacking.skip_test
pytest_make_collect_report = lacking.skip_file


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        for name in set(MARKS).intersection(item.fixturenames):
            item.add_marker(MARKS[name])


@pytest.fixture(scope='session')
def coco_samples():
    folder = SAMPLES / 'coco'
    if not folder.is_dir():
        pytest.skip(f'no COCO samples at {folder} (set FOCALNET_SAMPLES to a folder that holds them)')
    return folder


@pytest.fixture(scope='session')
def ade_samples():
    folder = SAMPLES / 'ade' / 'ADEChallengeData2016'
    if not folder.is_dir():
        pytest.skip(f'no ADE20K samples at {folder} (set FOCALNET_SAMPLES to a folder that holds them)')
    return folder


@pytest.fixture(autouse=True)
def _default_scope():
    """mmengine keeps the scope of the last runner: each test starts from the root's."""
    from mmengine.registry import DefaultScope
    DefaultScope.get_instance('test', scope_name='mmengine')
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def _no_large_files(request):
    """Checkpoints and exported files of the whole suite would fill a small disk.

    Folders stay, since mmengine goes on writing to those of earlier runs.
    """
    yield
    for folder, _, names in os.walk(request.node.funcargs.get('tmp_path', '')):
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink() and path.stat().st_size > 2**20:
                    path.unlink()


@pytest.fixture
def log():
    """What mmengine's logger says."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    # The current logger is that of the last runner, which may have been a quiet one.
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def _shared(function):
    """A fixture of the function's name that gives the function."""
    return pytest.fixture(lambda: function, scope='session', name=function.__name__)


run, tool, scalars = map(_shared, (tools.run, tools.tool, tools.scalars))
thin_config, build, batch, save_weights = map(
    _shared, (thin.thin_config, thin.build, thin.batch, thin.save_weights))
classifier, transformers_classifier, timm_model, mmpretrain_classifier = map(
    _shared, (classifiers.classifier, classifiers.transformers_classifier, classifiers.timm_model,
              classifiers.mmpretrain_classifier))
logits, same, load_timm, timm_features = map(
    _shared, (classifiers.logits, classifiers.same, classifiers.load_timm, classifiers.timm_features))
random_net, classification_state, relative_error = map(
    _shared, (classifiers.random_net, classifiers.classification_state, classifiers.relative_error))
serve, page_of = map(_shared, (server.serve, browser.page_of))


@pytest.fixture(scope='session', name='detrex_dino')
def _detrex_dino():
    """A DINO written out in plain torch over detrex's names."""
    return detrex_dino
