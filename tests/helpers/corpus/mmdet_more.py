"""Detection: other ways to store data sets, and configs that go ways of their own."""

import json
import shutil

import cv2
import numpy as np

from .common import LOAD_SIX, SIZE, with_module, write
from .mmdet import NAMES, coco, coco_content, coco_metric, coco_sets, config, fill


def crowdhuman(root):
    for split, items in fill(root, 'Images/{split}{i}.jpg').items():
        lines = [dict(ID=path.rpartition('/')[2][:-4], gtboxes=[
            dict(tag=tag, fbox=box, vbox=box, hbox=[*box[:2], 6, 6], extra=extra, head_attr={})
            for tag, extra in (('person', {}), ('mask', dict(ignore=1)))]) for path, box, _ in items]
        write(root / f'annotation_{split}.odgt', '\n'.join(map(json.dumps, lines)))
    sets = [dict(type='CrowdHumanDataset', data_root=str(root), ann_file=f'annotation_{split}.odgt',
                 data_prefix=dict(img='Images/')) for split in ('train', 'val')]
    metric = dict(type='CrowdHumanMetric', ann_file=str(root / 'annotation_val.odgt'), metric=['AP', 'MR'])
    return config(*sets, metric, classes=1)


def panoptic(root):
    """The box is a thing, and all around it a stuff."""
    names = ('box', 'ground')
    (root / 'segments').mkdir(parents=True, exist_ok=True)
    for split, items in fill(root, 'pictures/{split}{i}.jpg').items():
        # The metric asks for the names alone.
        items = [(path.rpartition('/')[2], box, label) for path, box, label in items]
        content = coco_content(items, names)
        content['categories'] = [dict(id=1, name='box', isthing=1), dict(id=7, name='ground', isthing=0)]
        content['annotations'] = []
        for i, (path, (x, y, w, h), _) in enumerate(items):
            # Numbers of segments are written as red + 256 green.
            segments = np.zeros((SIZE, SIZE, 3), np.uint8)
            segments[..., 2], segments[y:y + h, x:x + w, 2] = 2, 1
            name = path.replace('.jpg', '.png')
            assert cv2.imwrite(str(root / 'segments' / name), segments)
            content['annotations'].append(dict(image_id=i + 1, file_name=name, segments_info=[
                dict(id=1, category_id=1, iscrowd=0, bbox=[x, y, w, h], area=w * h),
                dict(id=2, category_id=7, iscrowd=0, bbox=[0, 0, SIZE, SIZE], area=SIZE * SIZE - w * h)]))
        write(root / f'{split}.json', content)
    sets = [dict(type='CocoPanopticDataset', data_root=str(root), ann_file=f'{split}.json', data_prefix=dict(
        img='pictures/', seg='segments/'), metainfo=dict(classes=names, thing_classes=names[:1],
                                                         stuff_classes=names[1:])) for split in ('train', 'val')]
    metric = dict(type='CocoPanopticMetric', ann_file=str(root / 'val.json'), seg_prefix=str(root / 'segments'))
    source = config(*sets, metric, with_mask=True, with_seg=True, model=PANOPTIC)
    return "_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'\n" + source.replace(
        "'type': 'LoadAnnotations'", "'type': 'LoadPanopticAnnotations'")


PANOPTIC = '''
kinds = dict(num_things_classes=1, num_stuff_classes=1)
model = dict(
    type='PanopticFPN', backbone=dict(backbone, _delete_=True),
    data_preprocessor=dict(pad_mask=True, mask_pad_value=0, pad_seg=True, seg_pad_value=255),
    neck=dict(in_channels=[16, 32], out_channels=8, num_outs=2),
    rpn_head=dict(in_channels=8, feat_channels=8, anchor_generator=dict(strides=[8, 16])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8, featmap_strides=[8, 16]),
        bbox_head=dict(in_channels=8, fc_out_channels=8, num_classes=1),
        mask_roi_extractor=dict(out_channels=8, featmap_strides=[8, 16]),
        mask_head=dict(num_convs=1, in_channels=8, conv_out_channels=8, num_classes=1)),
    semantic_head=dict(type='PanopticFPNHead', in_channels=8, inner_channels=32, start_level=0, end_level=2,
                       norm_cfg=dict(type='GN', num_groups=32), **kinds,
                       loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5)),
    panoptic_fusion_head=dict(type='HeuristicFusionHead', **kinds),
    test_cfg=dict(rcnn=dict(score_thr=0.0), panoptic=dict(mask_overlap=0.5, stuff_area_limit=1)))
'''


def xml_of_other_names(root):
    for split, items in fill(root, 'JPEGImages/{split}{i}.jpg').items():
        names = [path.rpartition('/')[2][:-4] for path, _, _ in items]
        write(root / f'{split}.txt', '\n'.join(names))
        for name, (_, (x, y, w, h), label) in zip(names, items):
            write(root / f'Annotations/{name}.xml', f'''<annotation><size><width>{SIZE}</width><height>{SIZE}</height>
</size><object><name>{NAMES[label]}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>
<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object></annotation>''')
    sets = [dict(type='XMLDataset', data_root=str(root), ann_file=f'{split}.txt', data_prefix=dict(sub_data_root=''),
                 metainfo=dict(classes=('Box', 'Ball', 'Cone'))) for split in ('train', 'val')]
    return config(*sets, dict(type='VOCMetric', metric='mAP', eval_mode='11points'))


CLIENT = '''
from pathlib import Path


class Client:
    """What mmengine asks of the client of a store of objects."""

    def __init__(self, conf_path=None, enable_mc=True):
        self.store = Path(conf_path)

    def Get(self, path):
        assert path.startswith('s3://bucket/'), path
        return (self.store / path.removeprefix('s3://bucket/')).read_bytes()

    def contains(self, path):
        return (self.store / path.removeprefix('s3://bucket/')).is_file()
'''


def mapped(root, classes=NAMES):
    """Pictures and annotations in a store of objects; the paths of the config are mapped to its names."""
    sets = coco_sets(root, classes=classes)
    store = root.parent / 'store'
    shutil.rmtree(store, ignore_errors=True)
    shutil.move(root, store)
    write(root / 'petrel_client' / 'client.py', CLIENT)
    write(root / 'petrel_client' / '__init__.py', '')
    backend = dict(backend='petrel', path_mapping={f'{root}/': 's3://bucket/'}, conf_path=str(store))
    sets = [dict(dataset, backend_args=backend) for dataset in sets]
    load = dict(type='LoadImageFromFile', backend_args=backend)
    return config(*sets, coco_metric(root, backend_args=backend), load=load, extra=(
        f'import sys\nsys.path.insert(0, {str(root)!r})\ndel sys\n'))


def mapped_in_another_order(root):
    return mapped(root, ('cone', 'ball', 'box'))


def six_channels(root):
    sets = coco_sets(root, '{split}/{i}.npy', form=dict(channels=6))
    extra = with_module(root, 'six', LOAD_SIX)
    source = config(*sets, coco_metric(root), channels=6, load=dict(type='LoadSix'), extra=extra)
    # mmdet's preprocessor knows means of one or three channels alone, mmcv flips any number.
    return source.replace('mean=[9.0] * 6, std=[50.0] * 6,', 'mean=None, std=None,')


def classes_joined_by_a_data_set_of_ones_own(root):
    """Two of the file's categories are one class."""
    sets = coco_sets(root, kind='JoinedClasses', classes=('thing', 'cone'))
    extra = with_module(root, 'joined', '''
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS


@DATASETS.register_module(force=True)
class JoinedClasses(CocoDataset):
    def load_data_list(self):
        classes, self._metainfo['classes'] = self._metainfo['classes'], ('box', 'ball', 'cone')
        found = super().load_data_list()
        self._metainfo['classes'] = classes
        for instance in (each for info in found for each in info['instances']):
            instance['bbox_label'] = max(instance['bbox_label'] - 1, 0)
        return found
''')
    return config(*sets, dict(type='VOCMetric', metric='mAP', eval_mode='11points'), classes=2, extra=extra)


def several_loaders_in_another_scope(root):
    """A loop of the config's own validates on two data sets in turn, and another tests on them."""
    extra = with_module(root, 'loops', '''
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, TestLoop, ValLoop


class InTurn(BaseLoop):
    kind = None

    def __init__(self, runner, dataloader, evaluator):
        self._runner = runner
        self.loops = [self.kind(runner, *pair) for pair in zip(dataloader, evaluator)]

    def run(self):
        found = {}
        for i, loop in enumerate(self.loops):
            self.dataloader, self.evaluator = loop.dataloader, loop.evaluator
            found.update({f'{i}/{name}': value for name, value in loop.run().items()})
        return found


@LOOPS.register_module(force=True)
class ValLoopsInTurn(InTurn):
    kind = ValLoop


@LOOPS.register_module(force=True)
class TestLoopsInTurn(InTurn):
    kind = TestLoop
''')
    return another_scope(root) + extra + '''
val_cfg = dict(type='ValLoopsInTurn')
test_cfg = dict(type='TestLoopsInTurn')
val_dataloader = [val_dataloader, dict(val_dataloader)]
test_dataloader = [test_dataloader, dict(test_dataloader)]
val_evaluator = [val_evaluator, dict(val_evaluator)]
test_evaluator = [test_evaluator, dict(test_evaluator)]
'''


def another_runner(root):
    return coco(root) + '''
runner_type = 'FlexibleRunner'
strategy = dict(type='SingleDeviceStrategy')
env_cfg = dict(dist_cfg=dict(backend='gloo'))
'''


def another_scope(root):
    """A config of mmengine's scope that says of each part whose it is."""
    source = coco(root).replace("default_scope = 'mmdet'", "default_scope = 'mmengine'").replace(
        "type='RetinaNet'", "type='RetinaNet', _scope_='mmdet'")
    for name in ('CocoDataset', 'CocoMetric'):
        source = source.replace(f"'type': '{name}'", f"'type': '{name}', '_scope_': 'mmdet'")
    return source


def proposals(root):
    """A head that tells objects from background has no classes."""
    source = config(*coco_sets(root), dict(type='CocoMetric', ann_file=str(root / 'val.json'),
                                           metric='proposal_fast'))
    return source + '''
model = dict(
    type='RPN', backbone=backbone, neck=model['neck'], data_preprocessor=model['data_preprocessor'],
    rpn_head=dict(type='RPNHead', in_channels=8, feat_channels=8, bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
                  anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[8, 16]),
                  loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss')),
    train_cfg=dict(rpn=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=-1),
        sampler=dict(type='RandomSampler', num=32, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
        allowed_border=-1, pos_weight=-1, debug=False)),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)))
'''


CASES = (crowdhuman, panoptic, xml_of_other_names, mapped, mapped_in_another_order, six_channels,
         classes_joined_by_a_data_set_of_ones_own, several_loaders_in_another_scope, another_runner, proposals)
