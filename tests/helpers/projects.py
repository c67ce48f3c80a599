"""Projects of `focalnet-mm new`, of the built-in data set in the form that each task needs."""

import pytest

from focalnet_mm.data.shapes import write_dataset
from focalnet_mm.new.project import Options, write_project
from focalnet_mm.new.sizing import Machine
from tests.helpers import formats

#: A machine that no test depends on.
CPU = Machine(0, 0, 1)
#: Task → the form that its data is written in.
FORMS = dict(boxes='voc', instances='coco', panoptic='coco_panoptic', semantic='labelmaps', classes='folders',
             labels='csv')


def write_forms(folder, train=6, val=4, size=64):
    """The built-in data set in each form of :data:`FORMS`."""
    shapes = folder / 'shapes'
    write_dataset(shapes, train=train, val=val, size=size, seed=7)
    sources = formats.truth(shapes)
    formats.write_voc(sources, folder / 'voc')
    formats.write_coco(sources, folder / 'coco')
    formats.write_labelmaps(shapes, folder / 'labelmaps')
    formats.write_folders(sources, folder / 'folders')
    formats.write_csv(sources, folder / 'csv', what='labels')
    # Panoptic annotations are COCO's own.
    (folder / 'coco_panoptic').symlink_to(shapes / 'coco')
    return folder


@pytest.fixture(scope='session')
def forms(tmp_path_factory):
    return write_forms(tmp_path_factory.mktemp('forms'))


@pytest.fixture
def new(forms, tmp_path):
    """Write a project of a form, quietly."""
    def write(form, out=None, machine=CPU, **options):
        return write_project(forms / form, out or tmp_path / 'project', Options(**options), machine,
                             tell=lambda line: None)
    return write
