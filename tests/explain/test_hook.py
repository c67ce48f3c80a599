"""FocalMapsHook in a training run, its pictures read back from TensorBoard's files."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from focalnet_mm.data.shapes import write_dataset
from focalnet_mm.explain import FocalMapsHook
from tests.helpers.tools import ROOT, SHAPES, SMALL

CONFIG = """
_base_ = '{base}'
custom_hooks = [dict(type='FocalMapsHook', num_images=3, interval=2)]
visualizer = dict(vis_backends=[dict(type='TensorboardVisBackend'), dict(type='LocalVisBackend')])
"""


@pytest.mark.train
def test_pictures_arrive(tmp_path, tool):
    write_dataset(tmp_path / 'shapes', train=8, val=4, size=96)
    (tmp_path / 'config.py').write_text(CONFIG.format(base=ROOT / SHAPES))
    tool('train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'work', '--cfg-options',
         f'data_root={tmp_path}/shapes/coco', *SMALL, 'train_cfg.max_epochs=3', 'train_cfg.val_interval=1',
         'val_dataloader.batch_size=2')
    events, = (tmp_path / 'work').glob('*/vis_data/events.out.tfevents.*')
    accumulator = EventAccumulator(str(events), size_guidance={'images': 0})
    accumulator.Reload()
    tags = [tag for tag in accumulator.Tags()['images'] if tag.startswith('focal_maps_')]
    assert tags == [f'focal_maps_{number:012d}' for number in (9, 10, 11)]
    pictures = []
    for tag in tags:
        shown = accumulator.Images(tag)
        # Two iterations an epoch, shown after the first and the third.
        assert [event.step for event in shown] == [2, 6]
        pictures += [cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), 1) for event in shown]
    assert {picture.shape for picture in pictures} == {(shown[0].height, shown[0].width, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 6
    assert min(picture.std() for picture in pictures) > 20
    assert len(list((tmp_path / 'work').glob('*/vis_data/vis_image/focal_maps_*_6.png'))) == 3


@pytest.mark.parametrize('path', ['mmseg/upernet_focalnet_t_160k.py', 'mmpretrain/focalnet_t_in1k.py'])
def test_batches_of_other_libraries(path, batch, build, thin_config):
    cfg = thin_config(path)
    model, _ = build(cfg)
    shown = {}
    visualizer = SimpleNamespace(add_image=lambda name, image, step: shown.update({name: (image.shape[2], step)}))
    runner = SimpleNamespace(model=model, iter=7, visualizer=visualizer)
    hook = FocalMapsHook(num_images=3)
    hook.before_val_epoch(runner)
    for i in range(2):
        hook.after_val_iter(runner, i, batch(cfg))
    assert shown == {'focal_maps_0_0': (3, 7), 'focal_maps_0_1': (3, 7), 'focal_maps_1_0': (3, 7)}


def test_not_due_means_not_computed(monkeypatch, log):
    monkeypatch.setattr('focalnet_mm.explain.hook.focal_maps', None)
    hook = FocalMapsHook(num_images=2, interval=2)
    # Would warn if it looked at what it is given.
    hook.after_val_iter(None, 0, None, None)
    hook._validations = 1
    hook.before_val_epoch(None)
    hook.before_val_iter(None, 0, None)
    hook.after_val_iter(None, 0, None, None)
    assert not log
    hook.before_val_epoch(None)
    hook.after_val_iter(None, 0, None, None)
    assert len(log) == 1


@pytest.mark.parametrize('name', ['num_images', 'interval'])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f'FocalMapsHook: {name} must be 1 or more, got 0'):
        FocalMapsHook(**{name: 0})
