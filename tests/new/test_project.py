"""The folder of a project: what is in it, and what a second run does."""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from focalnet_mm.cli.new import add_arguments
from focalnet_mm.data.own import OwnData, fix_data
from focalnet_mm.new.project import Options, write_project
from focalnet_mm.run.build import build_model
from focalnet_mm.run.config import load_config
from focalnet_mm.weights.heads import heads_with_classes
from tests.helpers.projects import CPU
from tests.helpers.tools import ROOT

THIN = dict(base=str(ROOT / 'configs/mmdet/maskrcnn_focalnet_t_shapes.py'), weights='none')


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_what_is_in_it(new, forms, tmp_path):
    before = files_of(forms / 'coco')
    project = new('coco', **THIN)
    names = {path.name for path in (tmp_path / 'project').iterdir()}
    assert {'config.py', '_base_', 'annotations', 'split.csv', 'report.html', 'report.json',
            'focalnet-mm.json'} <= names
    assert files_of(forms / 'coco') == before
    assert json.loads((tmp_path / 'project' / 'focalnet-mm.json').read_text())['content']
    assert project.config == tmp_path / 'project' / 'config.py'
    assert list(tmp_path.iterdir()) == [tmp_path / 'project']


def test_a_relative_folder(new, forms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new('coco', 'here', **THIN)
    text = (tmp_path / 'here' / 'config.py').read_text()
    assert text.count("project + 'annotations/") == 3
    assert str(tmp_path / 'here') not in text
    assert Config.fromfile('here/config.py').val_evaluator[0].ann_file == (
        f'{tmp_path}/here/annotations/instances_val.json')


def test_it_can_be_moved(new, tmp_path):
    """With all its paths; pictures stay where they are."""
    first = Config.fromfile(new('coco', **THIN).config)
    moved = shutil.move(tmp_path / 'project', tmp_path / "moved to John's")
    cfg = load_config(f'{moved}/config.py')
    assert cfg.train_dataloader.dataset.ann_file == f'{moved}/annotations/instances_train.json'
    assert cfg.val_evaluator[0].ann_file == f'{moved}/annotations/instances_val.json'
    assert cfg.work_dir == f'{moved}/work_dir'
    assert cfg.data_root == first.data_root
    assert cfg.model == first.model
    other = load_config(f'{moved}/config.py', dict(data_root='/elsewhere'))
    assert other.val_dataloader.dataset.data_root == '/elsewhere/'


def test_data_within_the_project_move_along(forms, tmp_path):
    shutil.copytree(forms / 'coco', tmp_path / 'project' / 'pictures')
    write_project(tmp_path / 'project' / 'pictures', tmp_path / 'project', Options(force=True, **THIN), CPU, print)
    shutil.move(tmp_path / 'project', tmp_path / 'moved')
    cfg = load_config(f'{tmp_path}/moved/config.py')
    assert cfg.train_dataloader.dataset.data_root == f'{tmp_path}/moved/pictures/'


def test_a_second_run(new, tmp_path):
    new('coco', **THIN)
    folder = tmp_path / 'project'
    (folder / 'work_dir').mkdir()
    (folder / 'work_dir' / 'epoch_1.pth').write_text('weights')
    first = files_of(folder)
    with pytest.raises(FileExistsError, match=r'project holds a project: train it .*, or add --force to write it anew'):
        new('coco', **THIN)
    assert files_of(folder) == first
    new('coco', force=True, **THIN)
    # What stands in it besides is left alone, and the same data give the same files.
    assert {name: content for name, content in files_of(folder).items() if 'json' not in name} == {
        name: content for name, content in first.items() if 'json' not in name}


@pytest.mark.parametrize('name', ['config.py', 'annotations/instances_train.json', '_base_/_base_/shapes_instance.py'])
def test_what_was_edited_is_never_replaced(name, new, tmp_path):
    new('coco', **THIN)
    with (tmp_path / 'project' / name).open('a') as file:
        file.write('\n')
    before = files_of(tmp_path / 'project')
    with pytest.raises(FileExistsError, match=f'{name} was changed since it was written: move it away'):
        new('coco', force=True, **THIN)
    assert files_of(tmp_path / 'project') == before


def test_an_edited_split_decides(new, tmp_path):
    new('coco', **THIN)
    split = tmp_path / 'project' / 'split.csv'
    text = split.read_text()
    assert text.count(',val,') == 4
    split.write_text(text.replace(',val,', ',test,', 1).replace(',train,', ',val,', 1))
    project = new('coco', force=True, **THIN)
    assert project.pictures == dict(train=5, val=4, test=1)
    assert split.read_text().count(',test,') == 1
    cfg = Config.fromfile(project.config)
    assert cfg.test_dataloader.dataset.ann_file.endswith('/instances_test.json')
    assert len(json.loads((tmp_path / 'project/annotations/instances_test.json').read_text())['images']) == 1


def test_foreign_files_stay(new, tmp_path):
    (tmp_path / 'project').mkdir()
    (tmp_path / 'project' / 'config.py').write_text('mine')
    with pytest.raises(FileExistsError, match=r'project is not empty: name another folder with --out, or add --force'):
        new('coco', **THIN)
    with pytest.raises(FileExistsError, match=r'config.py is in the way'):
        new('coco', force=True, **THIN)
    assert files_of(tmp_path) == {'project/config.py': b'mine'}


def test_places_that_cannot_be(new, forms, tmp_path):
    with pytest.raises(ValueError, match=r'lies in .*, where its files would be taken for data'):
        new('coco', forms / 'coco' / 'project', **THIN)
    (tmp_path / 'file').touch()
    with pytest.raises(FileExistsError, match=r'--out .*file is a file: name a folder'):
        new('coco', tmp_path / 'file', **THIN)
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('name', ['a"b', 'a\\b', 'a\nb'])
def test_names_that_no_config_can_hold(name, new, tmp_path):
    with pytest.raises(ValueError, match=r'the path of the project, .*, holds .*: name another folder'):
        new('coco', tmp_path / name / 'project', **THIN)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ["a'b", 'a {{ b }}', '$HOME', 'a%sb', 'größe'])
def test_names_that_a_config_can_hold(name, new, tmp_path):
    cfg = load_config(str(new('coco', tmp_path / name, **THIN).config))
    assert Path(cfg.val_dataloader.dataset.ann_file).is_file()


def test_an_edit_after_an_interruption_is_not_replaced(new, tmp_path, monkeypatch):
    new('coco', **THIN)
    with monkeypatch.context() as patched:
        patched.setattr('focalnet_mm.data.made._exchange', lambda *names: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            new('coco', force=True, **THIN)
    with (tmp_path / 'project' / 'config.py').open('a') as file:
        file.write('# mine\n')
    with pytest.raises(FileExistsError, match=r'config\.py was changed since it was written'):
        new('coco', force=True, **THIN)


@pytest.mark.parametrize('broken', [False, True])
def test_a_report_names_no_place_of_the_machine(broken, forms, tmp_path):
    data = tmp_path / 'somebody' / 'pictures'
    shutil.copytree(forms / 'coco', data)
    if broken:
        # Messages about files name them.
        for number, path in enumerate(sorted(data.rglob('*.jpg'))[:3]):
            path.write_bytes(path.read_bytes()[:300 if number else 0])
    options = Options(fix=('unreadable', 'damaged') if broken else (), **THIN)
    write_project(data, tmp_path / 'project', options, CPU, lambda line: None)
    for name in ('report.html', 'report.json'):
        text = (tmp_path / 'project' / name).read_text()
        assert str(tmp_path) not in text
        assert str(Path.home()) not in text
    found = json.loads((tmp_path / 'project/report.json').read_text())
    assert found['root'] == 'pictures'
    assert all((data / entry['picture']).is_file() for entry in found['shown'])


def test_kinds_to_fix_are_looked_at_first(new, monkeypatch):
    """Not after an hour of looking at pictures."""
    monkeypatch.setattr('focalnet_mm.new.project.read_data', None)
    with pytest.raises(ValueError, match="there is no problem 'outsid': name some of missing, "):
        new('coco', fix=('outsid',), **THIN)


def test_help_names_what_can_be_fixed(tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words, = (action.help for action in parser._actions if action.dest == 'fix')
    kinds = words.rpartition(': ')[2].split(', ')
    assert {'outside', 'missing'} <= set(kinds)
    fix_data(OwnData(tmp_path, 'coco', 'boxes', []), kinds)


@pytest.mark.parametrize(('form', 'options', 'said'), [
    ('voc', THIN, '--base .*maskrcnn_focalnet_t_shapes.py learns instances, and .* holds boxes: give another config'),
    ('coco', dict(THIN, method='atss'), '--base names the whole model: leave out --method and --arch'),
    ('coco', dict(base='maskrcnn_focalnet_x'), 'No shipped config is named maskrcnn_focalnet_x: did you mean'),
    ('coco', dict(base='gone.py'), 'The config gone.py does not exist')])
def test_bases_that_cannot_be(form, options, said, new, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        new(form, **options)
    assert not list(tmp_path.iterdir())


def test_a_pure_python_base(new, tmp_path):
    (tmp_path / 'other.py').write_text('default_scope = "mmseg"\n')
    (tmp_path / 'pure.py').write_text('from mmengine.config import read_base\nwith read_base():\n'
                                      '    from .other import *\nmodel = dict(type="EncoderDecoder")\n')
    with pytest.raises(ValueError, match=r'pure.py is a pure-Python config, which no other kind can inherit'):
        new('labelmaps', base=str(tmp_path / 'pure.py'))


def class_folders(folder, names):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(3 * number + i).integers(256, size=(12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{number}_{i}.png')
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('names', [
    ['one'], ["it's", 'a, b', 'größe', 'a "b"', '船', '{{ fileDirname }}', "{{ _base_.model }}", 'new  line'],
    [f'class {i}' for i in range(300)]], ids=['one', 'odd', 'many'])
def test_names_of_classes(names, tmp_path):
    """Whatever a folder may be called reaches the model and the data set as it is."""
    root = class_folders(tmp_path / "John's data", names)
    project = write_project(root, tmp_path / 'pröject', Options(), CPU, print)
    cfg = Config.fromfile(project.config)
    assert sorted(cfg.metainfo['classes']) == sorted(names)
    assert [number for _, _, number in heads_with_classes(build_model(cfg, 'meta'))] == [len(names)]
    assert len(cfg.metainfo['palette']) == len(names)
    assert cfg.data_root == f'{root}/'
