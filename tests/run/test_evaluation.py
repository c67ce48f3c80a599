"""The metrics of the configs on real photos: ground truth is perfect, and damage costs what other code says."""

import contextlib
import importlib
import io
import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from PIL import Image

from focalnet_mm.run.checks import check_dataset
from focalnet_mm.run.config import load_config
from focalnet_mm.run.evaluation import add_tta
from focalnet_mm.zoo.rows import read_zoo
from tests.helpers.tools import ROOT

pytestmark = pytest.mark.slow

ROWS = read_zoo(ROOT)
# Those of COCO.
DETECTORS = [row.config for row in ROWS if 'mmdet' in row.config and not row.config.endswith('_o365.py')]
SEGMENTERS = [row.config for row in ROWS if 'mmseg' in row.config]
PANOPTIC = [path for path in DETECTORS if 'panoptic' in path]


@pytest.fixture(scope='module')
def coco(coco_samples, tmp_path_factory):
    """The COCO samples with annotation ids from 1 on: pycocotools takes a match with id 0 for none."""
    folder = tmp_path_factory.mktemp('coco')
    (folder / 'annotations').mkdir()
    (folder / 'val2017').symlink_to(coco_samples / 'val2017')
    for name in ('panoptic_val2017', 'panoptic_val2017.json'):
        (folder / 'annotations' / name).symlink_to(coco_samples / 'annotations' / name)
    content = json.loads((coco_samples / 'annotations' / 'instances_val2017.json').read_text())
    for i, annotation in enumerate(content['annotations']):
        annotation['id'] = i + 1
    (folder / 'annotations' / 'instances_val2017.json').write_text(json.dumps(content))
    return folder


def real_evaluator(path, samples):
    """The evaluator of a config and its data set, on the samples."""
    cfg = load_config(ROOT / path, dict(data_root=str(samples)))
    init_default_scope(cfg.default_scope)
    importlib.import_module(f'{cfg.default_scope}.evaluation')
    importlib.import_module(f'{cfg.default_scope}.datasets')
    dataset = importlib.import_module(f'{cfg.default_scope}.registry').DATASETS.build(cfg.val_dataloader.dataset)
    check_dataset(dataset, 'val_dataloader.dataset')
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    return evaluator, dataset


def instances(samples):
    """image id → [(category id, mask, [x, y, w, h])], crowds included, read with pycocotools."""
    from pycocotools.coco import COCO
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(samples / 'annotations' / 'instances_val2017.json')
    found = {image_id: [] for image_id in coco.getImgIds()}
    # Crowds last: a crowd's box may overlap one of its members, and must not be matched with it first.
    for annotation in sorted(coco.anns.values(), key=lambda annotation: annotation['iscrowd']):
        found[annotation['image_id']].append((annotation['category_id'], coco.annToMask(annotation),
                                              annotation['bbox']))
    return coco, found


def damage(found):
    """Every third instance is missing, every fourth has another class, and all boxes and masks move to the right."""
    damaged = {}
    for image_id, items in found.items():
        damaged[image_id] = []
        for i, (category, mask, (x, y, w, h)) in enumerate(items):
            if i % 3 == 2:
                continue
            category = 1 if i % 4 == 3 else category
            damaged[image_id].append((category, np.roll(mask, 3, 1), [x + 3, y, w, h]))
    return damaged


def predict_instances(found, categories):
    samples = []
    for image_id, items in found.items():
        boxes = torch.tensor([[x, y, x + w, y + h] for _, _, (x, y, w, h) in items])
        samples.append(dict(img_id=image_id, ori_shape=items[0][1].shape, pred_instances=dict(
            bboxes=boxes, scores=torch.linspace(0.9, 0.5, len(items)),
            labels=torch.tensor([categories.index(category) for category, _, _ in items]),
            masks=torch.from_numpy(np.stack([mask for _, mask, _ in items])).bool())))
    return samples


def panoptic_maps(samples):
    """image id → (map of segment ids, {segment id: category id}) of the ground truth."""
    content = json.loads((samples / 'annotations' / 'panoptic_val2017.json').read_text())
    maps = {}
    for annotation in content['annotations']:
        colours = np.asarray(Image.open(samples / 'annotations' / 'panoptic_val2017' / annotation['file_name']),
                             np.int64)
        maps[annotation['image_id']] = (colours @ [1, 256, 65536], {
            segment['id']: segment['category_id'] for segment in annotation['segments_info']})
    return content, maps


def predict_panoptic(maps, categories):
    """As mmdet's models give it: label + 1000 · number of the segment, and the number of classes where nothing is."""
    samples = []
    for image_id, (segments, classes) in maps.items():
        encoded = np.full(segments.shape, len(categories))
        for number, (segment, category) in enumerate(classes.items(), 1):
            encoded[segments == segment] = categories.index(category) + 1000 * number
        samples.append(dict(img_id=image_id, img_path=f'{image_id:012d}.jpg', ori_shape=segments.shape,
                            pred_panoptic_seg=dict(sem_seg=torch.from_numpy(encoded)[None])))
    return samples


def evaluate(evaluator, samples):
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


class TestCoco:

    @pytest.mark.parametrize('path', DETECTORS)
    def test_ground_truth(self, coco, path):
        evaluator, dataset = real_evaluator(path, coco)
        truth, found = instances(coco)
        predictions = predict_instances(found, sorted(truth.cats))
        if path in PANOPTIC:
            content, maps = panoptic_maps(coco)
            panoptic = predict_panoptic(maps, [category['id'] for category in content['categories']])
            predictions = [{**one, **two} for one, two in zip(predictions, sorted(
                panoptic, key=lambda sample: list(found).index(sample['img_id'])))]
        scores = evaluate(evaluator, predictions)
        assert len(dataset) == 2
        assert scores['coco/bbox_mAP'] == 1.0
        masks = 'maskrcnn' in path or 'mask2former' in path
        assert scores.get('coco/segm_mAP') == (1.0 if masks else None)
        assert scores.get('coco_panoptic/PQ') == (100.0 if path in PANOPTIC else None)

    def test_damaged_instances(self, coco):
        from pycocotools import mask as rle
        from pycocotools.cocoeval import COCOeval
        evaluator, _ = real_evaluator('configs/mmdet/maskrcnn_focalnet_t_1x.py', coco)
        truth, found = instances(coco)
        found = damage(found)
        scores = evaluate(evaluator, predict_instances(found, sorted(truth.cats)))
        results = []
        for image_id, items in found.items():
            for score, (category, mask, box) in zip(torch.linspace(0.9, 0.5, len(items)).tolist(), items):
                results.append(dict(image_id=image_id, category_id=category, score=score, bbox=box,
                                    segmentation=rle.encode(np.asfortranarray(mask))))
        for kind in ('bbox', 'segm'):
            with contextlib.redirect_stdout(io.StringIO()):
                # Without the masks the areas of boxes count, as for a detector of boxes.
                reference = COCOeval(truth, truth.loadRes([
                    {key: value for key, value in result.items() if kind == 'segm' or key != 'segmentation'}
                    for result in results]), kind)
                reference.evaluate()
                reference.accumulate()
                reference.summarize()
            assert 0.1 < reference.stats[0] < 0.9
            assert scores[f'coco/{kind}_mAP'] == pytest.approx(reference.stats[0], abs=6e-4)
            assert scores[f'coco/{kind}_mAP_50'] == pytest.approx(reference.stats[1], abs=6e-4)

    def test_damaged_panoptic(self, coco, tmp_path):
        from panopticapi.evaluation import pq_compute
        evaluator, _ = real_evaluator(PANOPTIC[0], coco)
        evaluator.metrics = evaluator.metrics[:1]
        content, maps = panoptic_maps(coco)
        damaged = {}
        for image_id, (segments, classes) in maps.items():
            segments = np.roll(segments, 5, 0)
            dropped = list(classes)[1::4]
            segments[np.isin(segments, dropped)] = 0
            damaged[image_id] = (segments, {i: c for i, c in classes.items() if i not in dropped
                                            and (segments == i).any()})
        scores = evaluate(evaluator, predict_panoptic(
            damaged, [category['id'] for category in content['categories']]))

        (tmp_path / 'png').mkdir()
        annotations = []
        for image_id, (segments, classes) in damaged.items():
            colours = np.stack([segments & 255, segments >> 8 & 255, segments >> 16], -1).astype(np.uint8)
            Image.fromarray(colours).save(tmp_path / 'png' / f'{image_id:012d}.png')
            annotations.append(dict(image_id=image_id, file_name=f'{image_id:012d}.png', segments_info=[
                dict(id=i, category_id=category) for i, category in classes.items()]))
        (tmp_path / 'predictions.json').write_text(json.dumps(dict(annotations=annotations)))
        with contextlib.redirect_stdout(io.StringIO()):
            reference = pq_compute(
                str(coco / 'annotations' / 'panoptic_val2017.json'), str(tmp_path / 'predictions.json'),
                str(coco / 'annotations' / 'panoptic_val2017'), str(tmp_path / 'png'))
        assert 10 < 100 * reference['All']['pq'] < 90
        assert scores['coco_panoptic/PQ'] == pytest.approx(100 * reference['All']['pq'], abs=1e-3)


class TestAde:

    @staticmethod
    def truth(folder):
        """Label maps, read without mmseg: -1 where nothing is labelled."""
        paths = sorted((folder / 'annotations' / 'validation').iterdir())
        return [np.asarray(Image.open(path), np.int64) - 1 for path in paths]

    @staticmethod
    def score(path, folder, predictions):
        evaluator, dataset = real_evaluator(path, folder)
        samples = []
        for i, prediction in enumerate(predictions):
            sample = dataset[i]['data_samples'].to_dict()
            samples.append(dict(sample, pred_sem_seg=dict(data=torch.from_numpy(prediction)[None])))
        return evaluate(evaluator, samples)['mIoU']

    @pytest.mark.parametrize('path', SEGMENTERS)
    def test_ground_truth(self, ade_samples, path):
        assert self.score(path, ade_samples, [np.maximum(label, 0) for label in self.truth(ade_samples)]) == 100.0

    def test_damaged(self, ade_samples):
        truth = self.truth(ade_samples)
        predictions = [np.maximum(np.roll(label, 20, 1), 0) for label in truth]
        ious = []
        for kind in range(150):
            both = sum(((t == kind) & (p == kind)).sum() for t, p in zip(truth, predictions))
            either = sum((((t == kind) | (p == kind)) & (t >= 0)).sum() for t, p in zip(truth, predictions))
            if either:
                ious.append(100 * both / either)
        assert 10 < np.mean(ious) < 90
        assert self.score(SEGMENTERS[0], ade_samples, predictions) == pytest.approx(np.mean(ious), abs=0.01)

    @pytest.mark.parametrize('path', ['configs/mmseg/upernet_focalnet_t_160k.py', SEGMENTERS[-1]])
    def test_scales_of_multi_scale_evaluation(self, ade_samples, path):
        cfg = load_config(ROOT / path, dict(data_root=str(ade_samples)))
        plain = cfg.test_dataloader.dataset.pipeline[1].scale
        add_tta(cfg)
        init_default_scope('mmseg')
        from mmseg.registry import DATASETS
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        views = dataset[0]['data_samples']
        height, width = views[0].ori_shape
        flips = [sample.metainfo.get('flip') for sample in views]
        assert flips == [False, True] * 6 or sorted(flips) == [False] * 6 + [True] * 6
        factors = sorted({sample.img_shape for sample in views})
        expected = []
        for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75):
            factor = min(ratio * plain[1] / min(height, width), ratio * plain[0] / max(height, width))
            expected.append((round(height * factor), round(width * factor)))
        assert np.abs(np.array(factors) - expected).max() <= 1
        assert (views[0].gt_sem_seg.data.numpy()[0] == np.where(
            self.truth(ade_samples)[0] < 0, 255, self.truth(ade_samples)[0])).all()


def test_accuracy(tmp_path):
    names = [f'n{i:04d}' for i in range(1000)]
    for i, name in enumerate(names):
        (tmp_path / 'val' / name).mkdir(parents=True)
        if i > 1:
            continue
        for j in range(3):
            Image.fromarray(np.full((30, 40, 3), 80 * i + j, np.uint8)).save(tmp_path / 'val' / name / f'{j}.JPEG')
    evaluator, dataset = real_evaluator('configs/mmpretrain/focalnet_t_in1k.py', tmp_path)
    assert dataset.get_gt_labels().tolist() == [0, 0, 0, 1, 1, 1]
    inputs = dataset[0]['inputs']
    assert inputs.shape == (3, 224, 224)
    scores = torch.rand(6, 1000, generator=torch.Generator().manual_seed(0))
    scores[[0, 1, 4], [0, 0, 1]] = 2
    samples = [dict(pred_score=score, pred_label=score.argmax(0, keepdim=True), gt_label=torch.tensor([i // 3]))
               for i, score in enumerate(scores)]
    assert evaluate(evaluator, samples)['accuracy/top1'] == pytest.approx(50)
