"""Skips tests of what the installation lacks; beside all libraries and a new PyTorch it skips none."""

import importlib.util
import re

import pytest

from focalnet_mm.releases import OldTorchError

# Module → its distributions.
_LIBRARIES = {'mmdet': ('mmdet',), 'mmseg': ('mmsegmentation', 'mmseg'), 'mmpretrain': ('mmpretrain',)}
LACKING = {name for name in (*_LIBRARIES, 'mmcv._ext') if importlib.util.find_spec(name) is None}
# Without operators mmdet cannot be imported.
_ABSENT = LACKING | ({'mmdet', 'mmseg'} if 'mmcv._ext' in LACKING else set())
# What configs name without a scope: without the library of their default scope mmengine looks in its own registries.
_TYPES = {'mmpretrain': ('ImageClassifier', 'CustomDataset'), 'mmseg': ('EncoderDecoder', 'BaseSegDataset')}
# What an error names → what is lacking.
_NAMED = {name: library for library in _ABSENT
          for name in (library, *_LIBRARIES.get(library, ()), *_TYPES.get(library, ()))}
_IN_TEXT = re.compile(r"No module named '([\w.]+)'|(\w+) is not installed|is not in the (\w+)::\w+ registry|"
                      r'(\w+)(?:\.\w+)? is not in the mmengine::')


def reason(error):
    """Why a test could not run, or ``None`` where the installation is not to blame."""
    while error is not None:
        if isinstance(error, OldTorchError):
            return str(error)
        names = {getattr(error, 'name', None) or ''} | {
            found for match in _IN_TEXT.finditer(str(error)) for found in match.groups() if found}
        missing = {_NAMED[part] for name in names for part in (name, name.partition('.')[0]) if part in _NAMED}
        if missing:
            return f'needs {" and ".join(sorted(missing))}'
        error = error.__cause__ or error.__context__
    return None


@pytest.hookimpl(hookwrapper=True)
def skip_test(item):
    """A hook around the set-up and the call of a test."""
    outcome = yield
    error = outcome.excinfo[1] if outcome.excinfo else None
    told = reason(error) if isinstance(error, Exception) else None
    if told:
        outcome.force_exception(pytest.skip.Exception(told))


@pytest.hookimpl(hookwrapper=True)
def skip_file(collector):
    """A hook around the import of a file of tests, of whose failure only the text is known."""
    outcome = yield
    report = outcome.get_result()
    told = reason(ImportError(report.longreprtext)) if report.failed else None
    if told:
        report.outcome, report.longrepr = 'skipped', (str(collector.path), 0, f'Skipped: {told}')
