"""The file of a classifier or segmenter says what the library's own ``predict`` says, whatever its head."""

import json

import onnx
import onnxruntime
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from focalnet_mm.deploy import FORMATS, export_model, exportable
from focalnet_mm.deploy.formats import open_file

pytestmark = pytest.mark.slow

# Sizes that the export has not seen, one of them odd.
UNSEEN = (1, 72, 99), (3, 64, 64)
CHANNELS = 16
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
GAP = dict(type='GlobalAveragePooling')


def backbone(**settings):
    """One block: other tests export whole FocalNets."""
    return dict(type='FocalNet', arch='tiny-srf', embed_dims=CHANNELS, depths=(1,), out_indices=(0,), **settings)


class Levels(nn.Module):
    """Four maps of one, each of half the size and with twice the channels of the one before."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS << i, 1 << i, 1 << i) for i in range(4))

    def forward(self, maps):
        return tuple(conv(maps[0]) for conv in self.convs)


def randomised(model):
    """Random weights everywhere, so that no two predictions are alike."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            nn.init.uniform_(parameter, 0.2, 1)
    return model.eval()


def classifier(head, neck=GAP, scope='mmpretrain', **settings):
    import mmpretrain.models  # noqa: F401
    init_default_scope(scope)
    return randomised(MODELS.build(dict(type='ImageClassifier', backbone=backbone(**settings), neck=neck, head=head)))


def segmenter(head, kind='EncoderDecoder', mode='whole', **settings):
    import mmseg.models  # noqa: F401
    init_default_scope('mmseg')
    test_cfg = dict(mode=mode, crop_size=(64, 64), stride=(42, 42), subdivision_steps=2, subdivision_num_points=16,
                    scale_factor=2)
    model = MODELS.build(ConfigDict(
        type=kind, backbone=backbone(), decode_head=head, test_cfg=test_cfg,
        data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=STD), **settings))
    model.neck = Levels()
    return randomised(model)


def run(path, images):
    if path.suffix != '.onnx':
        return open_file(path, format_of(path.name))(images)
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return [torch.from_numpy(found) for found in session.run(None, {'images': images.numpy()})]


def names_of(path):
    return [output.name for output in onnx.load(path).graph.output]


def facts_of(path):
    return {prop.key: json.loads(prop.value) for prop in onnx.load(path).metadata_props if prop.key != 'pkg.torch'
            and not prop.key.startswith('pkg.')}


def assert_labels(outputs, samples):
    """The classes that a file returns are the labels that mmpretrain gives."""
    for found in outputs:
        assert found.dtype == (torch.bool if found.dim() == 2 else torch.int64)
        for one, sample in zip(found, samples, strict=True):
            assert (one.nonzero()[:, 0] if one.dim() else one[None]).tolist() == sorted(sample.pred_label.tolist())


def relative(found, expected):
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def linear(kind='LinearClsHead', classes=5, **settings):
    return dict(type=kind, num_classes=classes, in_channels=CHANNELS, **settings)


CLASSIFIERS = dict(
    linear=linear(), one_class=linear(classes=1), cal_acc=linear(cal_acc=True, topk=(1, 3)),
    cls=dict(type='ClsHead'), multi_label_bare=dict(type='MultiLabelClsHead'),
    multi_label=linear('MultiLabelLinearClsHead'), multi_label_topk=linear('MultiLabelLinearClsHead', topk=2),
    multi_label_one=linear('MultiLabelLinearClsHead', classes=1),
    csra=linear('CSRAClsHead', num_heads=2, lam=0.1), stacked=linear('StackedLinearClsHead', mid_channels=[20]),
    arcface=linear('ArcFaceClsHead'), arcface_centres=linear('ArcFaceClsHead', num_subcenters=3),
    efficientformer=linear('EfficientFormerClsHead', distillation=False), levit=linear('LeViTClsHead',
                                                                                      distillation=False),
    vig=dict(type='VigClsHead', num_classes=5, in_channels=CHANNELS, hidden_dim=24, act_cfg=dict(type='GELU'),
             dropout=0.0),
    vit=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=CHANNELS),
    vit_hidden=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=CHANNELS, hidden_dim=24),
)


# TorchScript takes a tenth of the time that ONNX takes, and each head is the same function in both.
IN_ONNX = ('linear', 'multi_label', 'multi_label_one', 'csra', 'arcface', 'vit_hidden', 'upernet', 'upernet_aligned',
           'sep_aspp', 'segformer', 'binary', 'cascade')


def files(names):
    """(name, file) of each head in TorchScript, and in ONNX where that is tried."""
    return [(name, file) for name in names for file in ('x.pt', 'x.onnx') if file == 'x.pt' or name in IN_ONNX]


def format_of(file):
    return next(name for name, ending in FORMATS.items() if file == f'x{ending}')


class TestClassifiers:

    @pytest.mark.parametrize(('name', 'file'), files(CLASSIFIERS))
    def test_scores(self, name, file, tmp_path):
        model = classifier(CLASSIFIERS[name], neck=None if name == 'csra' else GAP)
        export_model(model, tmp_path / file, format_of(file), tell=lambda _: None)
        if file == 'x.onnx':
            assert names_of(tmp_path / file) == ['scores', 'classes']
        for count, height, width in UNSEEN:
            images = torch.randn(count, 3, height, width)
            with torch.no_grad():
                samples = model(images, mode='predict')
                found, *classes = run(tmp_path / file, images)
            assert relative(found, torch.stack([sample.pred_score for sample in samples])) < 1e-4
            assert len(classes) == (file == 'x.onnx')
            assert_labels(classes, samples)

    def test_tasks(self, tmp_path):
        head = dict(type='MultiTaskHead', task_heads=dict(
            colour=linear(), marks=linear('MultiLabelLinearClsHead', classes=3),
            more=dict(type='MultiTaskHead', task_heads=dict(size=linear(classes=2)))))
        model = classifier(head)
        told = []
        export_model(model, tmp_path / 'x.onnx', 'onnx', tell=told.append)
        names = names_of(tmp_path / 'x.onnx')
        tasks = 'colour', 'marks', 'more.size'
        assert names == [f'{what}.{task}' for what in ('scores', 'classes') for task in tasks]
        assert 'The class is that of classes.colour, which is the argmax of scores.colour. Of classes.marks those ' \
            'hold that are true.' in told[-1]
        images = torch.randn(2, 3, 72, 99)
        with torch.no_grad():
            samples = model(images, mode='predict')
        expected = [[sample.colour for sample in samples], [sample.marks for sample in samples],
                    [sample.more.size for sample in samples]]
        outputs = run(tmp_path / 'x.onnx', images)
        for found, classes, own in zip(outputs[:3], outputs[3:], expected, strict=True):
            assert relative(found, torch.stack([sample.pred_score for sample in own])) < 1e-4
            assert_labels([classes], own)

    @pytest.mark.parametrize('name', ['multi_label_topk', 'multi_label_one', 'arcface_centres'])
    def test_classes(self, name):
        model = classifier(CLASSIFIERS[name])
        part, images = exportable(model, 'model'), torch.randn(3, 3, 64, 64)
        with torch.no_grad():
            found, expected = part.module(images), part.predict(images)
            assert_labels([found[1]], model(images, mode='predict'))
            assert part.agree(expected, found).holds
            others = found[1].roll(1, -1) if found[1].dim() > 1 else (found[1] + 1) % 5
            assert part.agree(expected, (found[0], others)).holds == (name == 'multi_label_one')
            assert not part.agree(expected, (found[0] + 0.01, found[1])).holds

    def test_two_logits(self, tmp_path):
        """The Conformer's head adds what two branches say; a neck of anybody's may give it two features."""
        class Twice(nn.Module):
            def forward(self, features):
                pooled = features[-1].mean((2, 3))
                return [pooled, pooled.flip(1)],

        model = classifier(dict(type='ConformerHead', num_classes=5, in_channels=[CHANNELS, CHANNELS]), neck=None)
        model.neck = Twice()
        export_model(model, tmp_path / 'x.pt', 'torchscript', tell=lambda _: None)
        images = torch.randn(2, 3, 72, 99)
        with torch.no_grad():
            samples = model(images, mode='predict')
            assert relative(run(tmp_path / 'x.pt', images)[0],
                            torch.stack([sample.pred_score for sample in samples])) < 1e-4

    def test_a_head_of_anybodys(self, tmp_path):
        """One with a ``predict`` of its own is exported where its scores can be told, and refused by name elsewhere."""
        from mmpretrain.models import LinearClsHead
        from mmpretrain.structures import DataSample

        class Cold(LinearClsHead):
            temperature = 0.5

            def predict(self, feats, data_samples=None):
                scores = (self(feats) / self.temperature).softmax(1)
                return [DataSample().set_pred_score(score) for score in scores]

        model = classifier(linear())
        model.head = randomised(Cold(5, CHANNELS))
        with pytest.raises(ValueError, match='The scores of the Cold are neither its logits nor their softmax or sigm'):
            export_model(model, tmp_path / 'x.pt', 'torchscript', tell=lambda _: None)
        Cold.temperature = 1
        export_model(model, tmp_path / 'x.pt', 'torchscript', tell=lambda _: None)
        images = torch.randn(2, 3, 72, 99)
        with torch.no_grad():
            expected = torch.stack([sample.pred_score for sample in model(images, mode='predict')])
        assert relative(run(tmp_path / 'x.pt', images)[0], expected) < 1e-4
        # It says no labels, so that its file does not either.
        assert exportable(model, 'model').names == ('scores',)

    def test_nothing_to_predict_with(self):
        model = classifier(linear())
        model.head = None
        with pytest.raises(ValueError, match='The ImageClassifier has no head, so that it predicts no classes: export'):
            exportable(model, 'model')

    def test_the_model_stays(self, tmp_path):
        model = classifier(linear('MultiLabelLinearClsHead'))
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            before = [sample.pred_score for sample in model(images, mode='predict')]
            export_model(model, tmp_path / 'x.pt', 'torchscript', tell=lambda _: None)
            after = [sample.pred_score for sample in model(images, mode='predict')]
        assert all(map(torch.equal, before, after))


def decode(kind, in_index=3, classes=4, **settings):
    channels = [16 << i for i in in_index] if isinstance(in_index, list) else 16 << in_index
    return dict(type=kind, in_channels=channels, in_index=in_index, channels=12, num_classes=classes,
                norm_cfg=dict(type='BN'), **settings)


EVERY = [0, 1, 2, 3]
SEGMENTERS = dict(
    upernet=decode('UPerHead', EVERY, pool_scales=(1, 2, 3, 6)),
    upernet_aligned=decode('UPerHead', EVERY, pool_scales=(1, 2), align_corners=True),
    fcn=decode('FCNHead', num_convs=1), fcn_concat=decode('FCNHead', EVERY, input_transform='resize_concat'),
    psp=decode('PSPHead', pool_scales=(1, 2, 3, 6)), aspp=decode('ASPPHead', dilations=(1, 2)),
    sep_aspp=decode('DepthwiseSeparableASPPHead', dilations=(1, 2), c1_in_channels=16, c1_channels=8),
    segformer=decode('SegformerHead', EVERY), da=decode('DAHead', pam_channels=4), nl=decode('NLHead'),
    gc=decode('GCHead'), fpn=decode('FPNHead', EVERY, feature_strides=[4, 8, 16, 32]),
    binary=decode('FCNHead', classes=2, num_convs=1, out_channels=1, threshold=0.4),
    cascade=[decode('FCNHead', num_convs=1), decode('OCRHead', ocr_channels=8)],
)


POINTS = [decode('FPNHead', EVERY, feature_strides=[4, 8, 16, 32]),
          dict(type='PointHead', in_channels=[16], in_index=[0], channels=12, num_classes=4, num_fcs=1,
               coarse_pred_each_layer=True)]


class TestSegmenters:

    def test_refined_points(self, tmp_path):
        model = segmenter(POINTS, 'CascadeEncoderDecoder', num_stages=2)
        export_model(model, tmp_path / 'x.pt', 'torchscript', tell=lambda _: None)
        for count, height, width in UNSEEN:
            images = torch.randn(count, 3, height, width)
            with torch.no_grad():
                samples = model(images, mode='predict')
                found, = run(tmp_path / 'x.pt', images)
            assert relative(found, torch.stack([sample.seg_logits.data for sample in samples])) < 1e-4

    @pytest.mark.parametrize('to', ['onnx', 'pt2'])
    def test_refined_points_elsewhere(self, to, tmp_path):
        """What a format cannot hold is refused at once: torch would try for minutes."""
        model = segmenter(POINTS, 'CascadeEncoderDecoder', num_stages=2)
        with pytest.raises(ValueError, match=f'The CascadeEncoderDecoder with FPNHead, PointHead, Levels cannot be '
                                             f'written as {to}, .*: try --to torchscript, or --part backbone'):
            export_model(model, tmp_path / 'x', to, tell=lambda _: None)
        assert not list(tmp_path.iterdir())
        assert not exportable(model, 'backbone').formats

    def test_random_start(self, tmp_path):
        """What predicts something else each time is refused by its name."""
        head = decode('LightHamHead', [1, 2, 3], ham_channels=16, ham_kwargs=dict(MD_R=4))
        with pytest.raises(ValueError, match=r'x\.pt is not written, .* with LightHamHead, Levels depends on'):
            export_model(segmenter(head), tmp_path / 'x.pt', 'torchscript', tell=lambda _: None)
        assert not (tmp_path / 'x.pt').exists()

    @pytest.mark.parametrize(('name', 'file'), [*files(SEGMENTERS), ('upernet', 'x.pt2')])
    def test_logits(self, name, file, tmp_path):
        head = SEGMENTERS[name]
        several = dict(kind='CascadeEncoderDecoder', num_stages=2) if isinstance(head, list) else {}
        model = segmenter(head, **several)
        path, told, kinds = tmp_path / file, [], [type(module) for module in model.modules()]
        export_model(model, path, format_of(file), tell=told.append)
        # What was put in the place of layers is gone.
        assert [type(module) for module in model.modules()] == kinds
        if file == 'x.onnx':
            assert names_of(path) == ['label_map', 'scores' if name == 'binary' else 'logits']
        for count, height, width in UNSEEN:
            images = torch.randn(count, 3, height, width)
            with torch.no_grad():
                samples = model(images, mode='predict')
                *labels, found = run(path, images)
            own = torch.cat([sample.pred_sem_seg.data for sample in samples])
            # A pixel between two classes may fall to either.
            assert all((one == own).float().mean() > 0.999 for one in labels)
            assert relative(found, torch.stack([sample.seg_logits.data for sample in samples])) < 1e-4
        if (name, file) == ('binary', 'x.onnx'):
            facts = facts_of(path)
            assert (facts['mean'], facts['std']) == (MEAN, STD)
            threshold = facts['threshold']
            assert torch.equal((found > threshold).float(),
                               torch.stack([sample.pred_sem_seg.data for sample in samples]))
            assert 'A pixel is of class 1 where its score is above 0.4, else of class 0.' in told[-1]

    def test_windows(self, tmp_path):
        """Of a config that tests in windows the file computes one window."""
        model = segmenter(SEGMENTERS['fcn'], mode='slide')
        told = []
        export_model(model, tmp_path / 'x.pt', 'torchscript', tell=told.append)
        assert "The config tests with mode='slide', in windows of (64, 64) every (42, 42) pixels; the file" in told[-1]
        assert model.test_cfg.mode == 'slide'
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            samples = model(images, mode='predict')
        assert relative(run(tmp_path / 'x.pt', images)[0][0], samples[0].seg_logits.data) < 1e-4

    def test_depth(self):
        """A model whose predictions are no labels is refused by what it is."""
        model = segmenter(SEGMENTERS['fcn'], kind='DepthEstimator')
        with pytest.raises(ValueError, match=r'The DepthEstimator itself does not predict .*: export --part backbone'):
            exportable(model, 'model')


def test_another_kind_of_model():
    import mmpretrain.models  # noqa: F401
    init_default_scope('mmpretrain')
    model = MODELS.build(dict(
        type='SimCLR', backbone=backbone(), neck=dict(
            type='NonLinearNeck', in_channels=CHANNELS, hid_channels=8, out_channels=4, num_layers=2,
            with_avg_pool=True), head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'))))
    with pytest.raises(ValueError, match='A SimCLR is no classifier, segmenter or detector'):
        exportable(model, 'model')
    assert exportable(model, 'backbone').names == ('stage0',)
