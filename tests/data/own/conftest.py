import pytest

from focalnet_mm.data.shapes import write_dataset
from tests.helpers import formats


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('own') / 'shapes'
    write_dataset(folder, train=6, val=4, size=96, seed=7)
    return folder


@pytest.fixture(scope='session')
def sources(shapes):
    """The pictures and objects of the shapes, as pycocotools reads them."""
    return formats.truth(shapes)


@pytest.fixture
def told():
    """What a reader tells; pass ``told.append``."""
    return []
