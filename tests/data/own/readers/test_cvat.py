"""Which labels of CVAT are classes."""

from focalnet_mm.data.own import read_data
from tests.helpers.folders import found, quiet, save


def test_labels_of_any_type(tmp_path, told):
    """One of points alone is no class; one that nothing is of may be."""
    save(tmp_path / 'a.jpg')
    names = ''.join(f'<label><name>{name}</name><type>any</type></label>' for name in ('nose', 'cat', 'dog', 'way'))
    box = 'xtl="2" ytl="2" xbr="10" ybr="10"'
    (tmp_path / 'annotations.xml').write_text(
        f'<annotations><meta><task><labels>{names}</labels></task></meta><image id="0" name="a.jpg" width="32" '
        f'height="24"><points label="nose" points="1,1"/><points label="cat" points="1,1"/><box label="cat" {box}/>'
        '<polyline label="way" points="1,1;2,2"/></image></annotations>')
    data = read_data(tmp_path, tell=told.append)
    assert (data.classes, found(data)) == (['cat', 'dog'], {('a.jpg', None): 1})
    assert 'nose, way: no classes, since they are of points, lines and the like alone.' in told


def test_pictures_of_two_tasks(tmp_path):
    for seed, task in enumerate(('task1', 'task2')):
        save(tmp_path / task / 'images/0.jpg', seed)
        (tmp_path / task / 'annotations.xml').write_text(
            '<annotations><image id="0" name="0.jpg" width="32" height="24"><box label="x" xtl="2" ytl="2" xbr="10" '
            'ybr="10"/></image></annotations>')
    data = read_data(tmp_path, tell=quiet)
    assert found(data) == {('task1/images/0.jpg', None): 1, ('task2/images/0.jpg', None): 1}
    assert data.problems == []
