"""Batch, rate, length and sizes."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from focalnet_mm.data.own import Annotation, OwnData, Picture
from focalnet_mm.new.sizing import Machine, batch_size, crop_size, find_machine, image_size, learning_rate, passes


def pictures(short, long, side, tmp_path, count=20):
    """Pictures of one size with objects of one size."""
    return OwnData(tmp_path, 'coco', 'boxes', ['a'], [
        Picture(tmp_path / f'{i}.jpg', short, long, [Annotation(0, (0, 0, side, side))]) for i in range(count)])


@pytest.mark.parametrize(('rate', 'published', 'batch'), [(1e-4, 16, 2), (6e-5, 16, 32), (1e-3, 1024, 64)])
def test_rates_are_scaled_as_mmengine_scales_them(rate, published, batch):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    runner = SimpleNamespace(_train_dataloader=dict(batch_size=batch), world_size=1, param_schedulers=[],
                             logger=logging.getLogger('none'))
    Runner.scale_lr(runner, OptimWrapper(optimizer), dict(enable=True, base_batch_size=published))
    assert learning_rate(rate, published, batch).value == pytest.approx(optimizer.param_groups[0]['lr'], rel=5e-3)
    assert learning_rate(rate, published, batch, given=0.5).value == 0.5


@pytest.mark.parametrize(('memory', 'area', 'expected'), [(32, 1, 2), (80, 1, 4), (16, 1, 1), (8, 1, 1), (32, 0.25, 8)])
def test_a_batch_fills_the_gpu(memory, area, expected):
    assert batch_size(2, area, Machine(1, memory, 8), pictures=10_000).value == expected


def test_a_batch_leaves_steps_to_a_pass():
    gpus = Machine(8, 80, 64)
    for count in (1, 3, 40, 400, 40_000):
        value = batch_size(2, 0.1, gpus, count).value
        assert value & (value - 1) == 0
        assert value == 1 or count // (8 * value) >= 4
    assert batch_size(2, 1, gpus, 3, least=2).value == 2
    assert batch_size(128, 1, Machine(0, 0, 2), 10_000, on_cpu=16).value == 16
    assert batch_size(2, 1, gpus, 3, given=7).value == 7


def test_small_data_is_passed_over_more_often():
    counts = [passes(count).value for count in (1, 10, 100, 500, 1000, 5000, 100_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 150
    assert counts[-1] == 12
    # What is trained already needs less.
    assert all(passes(count, whole=True).value <= passes(count).value for count in (1, 500, 5000))


@pytest.mark.parametrize(('short', 'long', 'side'), [
    (480, 640, 100), (480, 640, 12), (1080, 1920, 20), (4000, 6000, 40), (96, 96, 20), (1, 1, 1), (64, 2048, 16)])
def test_small_objects_are_seen(short, long, side, tmp_path):
    wide, high = image_size(pictures(short, long, side, tmp_path)).value
    assert high % 32 == 0
    assert 32 <= high <= 1200
    assert high <= max(32, 2 * short)
    assert high <= wide <= high * 5 / 3 + 1
    # Either objects have the 32 pixels of COCO's bound, or a limit of the size holds.
    assert side * (high + 32) / short >= 32 or high + 32 >= min(800, 2 * short)


def test_other_objects_do_not_count(tmp_path):
    data = pictures(480, 640, 100, tmp_path)
    expected = image_size(data)
    data.pictures[0].annotations += [Annotation(0, (0, 0, 1, 1), crowd=True), Annotation(0, (5, 5, 5, 9)),
                                     Annotation(0, (0, 0, np.nan, 1))]
    data.pictures.append(Picture(tmp_path / 'unreadable.jpg', 0, 0))
    assert image_size(data) == expected
    assert image_size(OwnData(tmp_path, 'coco', 'boxes', ['a'])).value == (1333, 800)
    assert image_size(data, least=1024).value[1] == 1024


@pytest.mark.parametrize(('short', 'expected'), [(96, 192), (300, 512), (2000, 512), (1, 32)])
def test_crops_are_no_larger_than_pictures_enlarged_twice(short, expected, tmp_path):
    assert crop_size(pictures(short, 2 * short, 1, tmp_path), 512).value == expected


def test_the_machine_is_looked_at():
    found = find_machine()
    assert found.gpus == torch.cuda.device_count()
    assert found.cpus >= 1
    assert str(Machine(0, 0, 1)) == 'no GPU, 1 CPU core'
    assert str(Machine(2, 79.6, 16)) == '2 GPUs of 80 GiB, 16 CPU cores'
