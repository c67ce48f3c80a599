"""What Label Studio puts into its export beside objects."""

import json

import pytest

from focalnet_mm.data.own import read_data
from tests.helpers.folders import found, quiet, save


def shape(*names, id='r', kind='rectanglelabels', **value):
    """A box, or what goes with one."""
    return dict(id=id, type=kind, original_width=32, original_height=24,
                value=dict(dict(x=0, y=0, width=50, height=50), **({kind: list(names)} if names else {}), **value))


def export(folder, *annotations, **data):
    """A task for each list of annotations, and its picture."""
    for number in range(len(annotations)):
        save(folder / f'{number}.jpg', number)
    (folder / 'export.json').write_text(json.dumps([
        dict(id=number, data=data or dict(image=f'{number}.jpg'), annotations=entries)
        for number, entries in enumerate(annotations)]))


def test_tasks_that_nobody_annotated(tmp_path, told):
    """An empty result is what says that there is nothing."""
    export(tmp_path, [dict(result=[shape('x')])], [dict(result=[])], [],
           [dict(result=[shape('y')], was_cancelled=True)])
    data = read_data(tmp_path, tell=told.append)
    assert found(data) == {('0.jpg', None): 1, ('1.jpg', None): 0}
    assert data.classes == ['x']
    assert '2 of 4 tasks were skipped or never annotated: left out.' in told


@pytest.mark.parametrize('data', [
    dict(site='north', photo='/data/upload/1/abcdef10-0.jpg'), dict(note='[0', photo='0.jpg'),
    dict(table='export.json', thumb='small/t.jpg', photo='/data/local-files/?d=set/0.jpg'),
    dict(image='north', photo='s3://bucket/0.jpg')])
def test_texts_beside_the_picture(data, tmp_path):
    export(tmp_path, [dict(result=[shape('x')])], **data)
    assert found(read_data(tmp_path, tell=quiet)) == {('0.jpg', None): 1}


def test_texts_beside_a_picture_that_is_gone(tmp_path):
    export(tmp_path, [dict(result=[shape('x')])], site='north', photo='/data/upload/1/abcdef10-gone.jpg')
    problem, = read_data(tmp_path, tell=quiet).problems
    assert problem.kind == 'missing'
    assert problem.text.startswith('gone.jpg is annotated')


def test_remarks_about_an_object(tmp_path, told):
    """They share its id, and are neither objects nor classes of the picture."""
    export(tmp_path, [dict(result=[shape('x'), shape(kind='textarea', text=['hm']), shape('hidden', kind='choices')])])
    data = read_data(tmp_path, tell=told.append)
    assert (data.classes, found(data), data.problems) == (['x'], {('0.jpg', None): 1}, [])
    assert not any('hidden' in line for line in told)


def test_choices_of_the_picture_stay(tmp_path):
    export(tmp_path, [dict(result=[shape('x', id='a', kind='choices'), shape(id='a', kind='textarea', text=['hm'])])])
    assert read_data(tmp_path, tell=quiet).classes == ['x']


@pytest.mark.parametrize(('names', 'kind', 'reason'), [
    ((), 'rectanglelabels', 'it has no class'), ((), 'rectangle', 'it has no class'),
    (('x', 'y'), 'rectanglelabels', 'it has 2 classes (x, y) in place of one')])
def test_boxes_of_no_class_or_two(names, kind, reason, tmp_path):
    export(tmp_path, [dict(result=[shape('x', id='a'), shape(*names, kind=kind)])])
    problem, = read_data(tmp_path, tell=quiet).problems
    assert problem.text == f'{kind} r of task 0 is no object: {reason}'


def test_the_ground_truth_of_several(tmp_path):
    export(tmp_path, [dict(result=[shape('x')]), dict(result=[shape('y')], ground_truth=True)])
    data = read_data(tmp_path, tell=quiet)
    assert data.classes == ['y']
    assert [problem.text for problem in data.problems] == [
        'task 0 was annotated 2 times: the one marked as ground truth was taken']
