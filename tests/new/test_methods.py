"""Which method, variant and config is taken."""

import pytest
from mmengine.config import Config

from focalnet_mm.data.own import FOLLOWING, TASKS, OwnData, as_task
from focalnet_mm.new.methods import METHODS, archs, choose, task_of
from focalnet_mm.run.shipped import shipped
from focalnet_mm.zoo.rows import read_zoo
from tests.helpers.tools import ROOT

ROWS = read_zoo(ROOT)


def data(task):
    return OwnData(ROOT, 'coco', task, ['a', 'b'])


@pytest.mark.parametrize(('method', 'task'), [(method, task) for method, tasks in METHODS.items() for task in tasks])
def test_archs_are_those_of_the_files(method, task):
    there = archs(ROWS, method, task)
    assert there
    sizes = [row.size.parameters for row in there.values()]
    assert sizes == sorted(sizes)
    for arch, row in there.items():
        assert (ROOT / row.config).is_file()
        assert f'focalnet_{arch}_' in row.name
        choice = choose(data(task), ROOT, ROWS, method, arch.upper().replace('_', '-'), task)
        assert choice.config == ROOT / row.config
    # What the config says of itself is the oracle of its task.
    row = next(iter(there.values()))
    learned = task_of(Config.fromfile(ROOT / row.config))
    assert learned == ('classes' if task == 'labels' else task)


def test_every_row_of_the_zoo_is_offered_or_an_ablation():
    """None is forgotten when a method is added."""
    offered = {row.name for method, tasks in METHODS.items() for task in tasks
               for row in archs(ROWS, method, task).values()}
    methods = {row.collection for row in ROWS if row.name in offered}
    assert methods == {row.collection for row in ROWS}


@pytest.mark.parametrize('task', TASKS)
def test_a_method_is_proposed_for_each_task(task):
    choice = choose(data(task), ROOT, ROWS)
    assert choice.task == task
    assert task in METHODS[choice.method]
    assert f'The annotations are {task}: proposed is {choice.method}, since ' in choice.why
    assert not choose(data(task), ROOT, ROWS, choice.method).why


@pytest.mark.parametrize('task', TASKS)
def test_what_follows_can_be_written(task):
    for other in FOLLOWING[task]:
        assert as_task(data(task), other).task == other


def test_large_is_that_of_four_levels():
    assert choose(data('boxes'), ROOT, ROWS, 'dino', 'l').config.stem == 'dino_focalnet_l_fl4_5scale_o365_coco'
    assert choose(data('boxes'), ROOT, ROWS, 'dino', 'l-fl3').config.stem == 'dino_focalnet_l_fl3_4scale_36e'
    assert choose(data('panoptic'), ROOT, ROWS, 'mask2former', 'l-fl4').arch == 'l'


@pytest.mark.parametrize(('task', 'options', 'said'), [
    ('boxes', dict(method='maskrcnn'), '--method maskrcnn learns instances, and .* holds boxes: choose '
     'atss, sparsercnn or dino'),
    ('instances', dict(method='atss', task='instances'), 'choose maskrcnn, cascade or mask2former'),
    ('semantic', dict(task='boxes'), '--task boxes does not follow from .* whose annotations are semantic'),
    ('panoptic', dict(arch='t'), '--arch t: mask2former for panoptic is shipped with l; .* --base'),
    ('classes', dict(method='resnet'), '--method resnet is none that is shipped')])
def test_what_does_not_go_together(task, options, said):
    with pytest.raises(ValueError, match=said):
        choose(data(task), shipped(), ROWS, **options)


@pytest.mark.parametrize(('config', 'task'), [
    ('mmdet/mask2former_focalnet_t_shapes_panoptic.py', 'panoptic'), ('mmdet/dino_focalnet_t_shapes.py', 'boxes'),
    ('mmdet/maskrcnn_focalnet_t_shapes.py', 'instances'), ('mmseg/upernet_focalnet_t_shapes.py', 'semantic')])
def test_tasks_of_configs(config, task):
    assert task_of(Config.fromfile(ROOT / 'configs' / config)) == task


def test_a_config_of_another_library():
    cfg = Config(dict(default_scope='mmpose', model=dict(type='TopdownPoseEstimator')))
    with pytest.raises(ValueError, match='is a config of mmpose, expected one of mmdet, mmseg or mmpretrain'):
        task_of(cfg)
