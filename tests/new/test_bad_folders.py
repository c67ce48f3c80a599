"""Odd folders end in a project or in one sentence; ``python -m tests.helpers.bad_folders`` prints all of them."""

import pytest

from tests.helpers.bad_folders import CASES, outcome

# The others are in the tests of the readers.
REFUSED = 'annotations of pictures that are not there', 'two forms at once', 'a file cut off in the middle'
READ = 'classes with equal names', '3 pictures in all', 'a picture of 1 pixel', 'Windows paths in the annotations'


@pytest.mark.slow
@pytest.mark.parametrize('case', REFUSED)
def test_refused(case, tmp_path):
    status, said, _ = outcome(case, tmp_path)
    assert status == 1
    assert said.count('\n') == 0
    assert said.startswith('focalnet-mm new: data holds ')


@pytest.mark.slow
@pytest.mark.parametrize('case', READ)
def test_read(case, tmp_path):
    assert case in CASES
    status, said, read = outcome(case, tmp_path)
    assert status == 0, said
    assert read == (dict(train=2, val=1) if case == '3 pictures in all' else dict(train=8, val=4))
