"""What of a model can be exported, and what the model itself predicts, to compare it with."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone.focalnet import find_backbone
from ..run.tasks import of_task, task_heads
from .part import Agreement, Part, difference, predicted
from .whole import whole

__all__ = ['PARTS', 'exportable']

PARTS = ('model', 'features', 'backbone')
# What a classifier's head makes of its logits (N, classes).
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = dict(
    softmax=lambda logits: logits.softmax(1), sigmoid=torch.sigmoid, none=lambda logits: logits)
_BACKBONE = 'export --part backbone'


class _Backbone(nn.Module):
    """Feature maps of the backbone, and of the neck where one is given."""

    def __init__(self, backbone: nn.Module, neck: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone(images)
        return tuple(features if self.neck is None else self.neck(features))


class _Segmenter(nn.Module):
    """Logits of the classes (N, classes, H, W), at the size of the images; of one channel its scores."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor]:
        size = images.shape[2:]
        model: Any = self.model
        logits = model.encode_decode(images, [dict(ori_shape=size, img_shape=size, pad_shape=size)])
        return (logits.sigmoid() if logits.shape[1] == 1 else logits,)


class _Classifier(nn.Module):
    """Scores of the classes (N, classes), a tensor for each head, and behind them the classes that hold."""

    def __init__(self, model: nn.Module, logits: Sequence[Callable[[Any], Tensor]],
                 activations: Sequence[Callable[[Tensor], Tensor]],
                 choices: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.model = model
        self.logits = logits
        self.activations = activations
        self.choices = choices

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        model: Any = self.model
        features = model.extract_feat(images)
        scores = [activate(logits(features)) for logits, activate in zip(self.logits, self.activations)]
        return (*scores, *(choose(values) for choose, values in zip(self.choices, scores)))


def exportable(model: nn.Module, part: str, to: str = 'onnx', masks: str = 'paste') -> Part:
    """The part of a model that can be exported.

    Args:
        model: A model of mmdet, mmseg or mmpretrain in evaluation mode. It is left as it was.
        part: One of :data:`PARTS`.
        to: The format, one of :data:`~focalnet_mm.deploy.FORMATS`. Whole detectors need ONNX.
        masks: Of a detector with masks, one of :data:`~focalnet_mm.deploy.MASKS`.

    Returns:
        What to export, and what to compare it with.

    Raises:
        ValueError: The whole of this model cannot be exported, or it has no FocalNet.
    """
    backbone = find_backbone(model)
    bases = _bases(model)
    if part == 'backbone':
        return Part(_Backbone(copy.deepcopy(backbone)), _stages(backbone),
                    'Neck and heads are left out: they take these feature maps.', backbone, {})
    with torch.no_grad():
        images = torch.zeros(2, backbone.in_channels, 64, 64)
        if part == 'features':
            return _features(model, images)
        found = whole(model, masks) if to == 'onnx' else None
        kind = next((kind for kind in _KINDS if kind in bases), None)
        if found is not None:
            return found
        if kind is None:
            raise ValueError(f'A {bases[0]} is no classifier, segmenter or detector, so that it is not known what it '
                             f'predicts: {_BACKBONE}.')
        return _KINDS[kind](model, images, to)


def _bases(part: Any) -> list[str]:
    return [base.__name__ for base in type(part).__mro__]


def _stages(backbone: Any) -> tuple[str, ...]:
    return tuple(f'stage{i}' for i in backbone.out_indices)


def _features(model: Any, images: Tensor) -> Part:
    changed = copy.deepcopy(model)
    neck = changed.neck if getattr(model, 'with_neck', False) else None
    backbone = find_backbone(changed)
    if backbone is not getattr(changed, 'backbone', None):
        raise ValueError(f'The FocalNet of a {type(model).__name__} is not its only backbone: {_BACKBONE}.')
    count = 0 if neck is None else len(predicted(model, lambda: neck(backbone(images)), _BACKBONE))
    return Part(
        _Backbone(backbone, neck), tuple(f'level{i}' for i in range(count)) or _stages(backbone),
        'Heads are left out: run those of the config in PyTorch on these maps, as model.rpn_head, model.roi_head or '
        'model.bbox_head do.', model.extract_feat, {})


def _detector(model: Any, images: Tensor, to: str) -> Part:
    if to != 'onnx':
        return _features(model, images)
    raise ValueError(f'It is not known how to write what a {type(model).__name__} predicts: export --part features '
                     'writes its backbone and neck.')


def _segmenter(model: Any, images: Tensor, to: str) -> Part:
    heads = list(model.decode_head) if isinstance(model.decode_head, nn.ModuleList) else [model.decode_head]
    name = f'{type(model).__name__} with {" and ".join(type(head).__name__ for head in heads)}'
    if any(hasattr(head, 'transformer_decoder') for head in heads):
        raise ValueError(f'The {name} predicts by queries, which cannot be written as {to}: {_BACKBONE}.')
    mode = (model.test_cfg or {}).get('mode', 'whole')

    def predict(images: Tensor) -> Sequence[Tensor]:
        # The model's own settings come back, whatever happens.
        settings, model.test_cfg = model.test_cfg, copy.copy(model.test_cfg)
        try:
            model.test_cfg['mode'] = 'whole'
            return (torch.stack([sample.seg_logits.data for sample in model(images, mode='predict')]),)
        finally:
            model.test_cfg = settings

    found, = predicted(model, lambda: predict(images), _BACKBONE)
    facts: dict[str, Any] = {}
    if found.shape[1] == 1:
        facts = dict(threshold=model.decode_head.threshold)
        names, left = 'scores', f'A pixel is of class 1 where its score is above {facts["threshold"]}, else of class 0.'
    else:
        names, left = 'logits', 'The label of a pixel is the argmax of its logits.'
    if mode == 'slide':
        left += (f" The config tests with mode='slide', in windows of {tuple(model.test_cfg['crop_size'])} every "
                 f"{tuple(model.test_cfg['stride'])} pixels; the file computes the image that it gets as a whole: cut "
                 'the windows and average their logits yourself where you want the same.')
    # The points that they refine are numbered modulo a size that is left open: ONNX has no such operation, and
    # torch.export comes to no end over it.
    formats = ('torchscript',) if any('PointHead' in _bases(head) for head in heads) else ()
    return Part(_Segmenter(copy.deepcopy(model)), (names,), left, predict, facts, formats)


def _classifier(model: Any, images: Tensor, to: str) -> Part:
    if getattr(model, 'head', None) is None:
        raise ValueError(f'The {type(model).__name__} has no head, so that it predicts no classes: {_BACKBONE}.')
    tasks = list(task_heads(model.head))

    def predict(images: Tensor) -> Sequence[Tensor]:
        samples = model(images, mode='predict')
        return [torch.stack([of_task(sample, task).pred_score for sample in samples]) for task, _ in tasks]

    predicted(model, lambda: predict(images), _BACKBONE)
    # The other formats keep to the scores.
    chooses = to == 'onnx' and all(map(_chooses_by_scores, (head for _, head in tasks), zip(*(
        [of_task(sample, task) for task, _ in tasks] for sample in model(images, mode='predict')))))
    changed = copy.deepcopy(model)
    features = changed.extract_feat(torch.randn(images.shape, generator=torch.Generator().manual_seed(0)))
    logits, activations, names, left, facts = [], [], [], [], {}
    for task, head in task_heads(changed.head):
        take, passed_on = _logits_of(model, head, features)
        activation = _activation_of(head, take(features), passed_on, features)
        name = '.'.join(('scores', *task)) if task else 'scores'
        logits.append(take)
        activations.append(_ACTIVATIONS[activation])
        names.append(name)
        left.append(_choice(head, name, chooses))
        facts[name] = dict(activation=activation, threshold=getattr(head, 'thr', None))
    choices = [functools.partial(_chosen, head) for _, head in tasks] if chooses else []
    names += [name.replace('scores', 'classes', 1) for name in names[:len(choices)]]
    return Part(_Classifier(changed, logits, activations, choices), tuple(names), ' '.join(left), predict,
                dict(task='classification', outputs=facts), agree=functools.partial(_scores_agree, choices))


#: The class that each library's models are of → what exports them.
_KINDS: dict[str, Callable[[Any, Tensor, str], Part]] = dict(
    BaseDetector=_detector, BaseSegmentor=_segmenter, BaseClassifier=_classifier)


def _logits_of(model: Any, head: Any, features: Any) -> tuple[Callable[[Any], Tensor], bool]:
    """How a head, changed here, gets at the logits that its own ``predict`` makes scores of, and whether it is by that
    method, which passes them on to another."""
    if hasattr(head, '_get_predictions'):
        head._get_predictions = lambda logits, samples: logits
        if isinstance(head.predict(features), Tensor):
            return head.predict, True
        del head._get_predictions
    if isinstance(head(features), Tensor):
        return head, False
    raise ValueError(f'The {type(head).__name__} of this {type(model).__name__} makes its predictions of more than one '
                     f'tensor, and it is not known how: {_BACKBONE}.')


def _activation_of(head: Any, logits: Tensor, passed_on: bool, features: Any) -> str:
    """What the scores of a head are of its logits, as its own method says, if it can of logits made up to tell."""
    if passed_on:
        logits = torch.linspace(-2, 3, logits.numel()).reshape(logits.shape)
        samples = type(head)._get_predictions(head, logits, None)
    else:
        samples = head.predict(features)
    scores = torch.stack([sample.pred_score for sample in samples])
    for name, activate in _ACTIVATIONS.items():
        if scores.shape == logits.shape and torch.allclose(activate(logits), scores, rtol=1e-4, atol=1e-6):
            return name
    raise ValueError(f'The scores of the {type(head).__name__} are neither its logits nor their softmax or sigmoid, so '
                     f'that it cannot be exported: {_BACKBONE}.')


def _chosen(head: Any, scores: Tensor) -> Tensor:
    """Of scores (N, classes) the class (N,) that holds; of a head with several labels which classes do (N, classes)."""
    if getattr(head, 'thr', None) is not None:
        return scores >= head.thr
    if hasattr(head, 'thr'):
        best = scores.topk(head.topk, 1).indices
        return (best[..., None] == torch.arange(scores.shape[1], device=scores.device)).any(1)
    return scores.argmax(1)


def _chooses_by_scores(head: Any, samples: Sequence[Any]) -> bool:
    """Whether a head's own labels are those that its scores make one expect."""
    if not all('pred_label' in sample for sample in samples):
        return False
    chosen = _chosen(head, torch.stack([sample.pred_score for sample in samples]))
    return all(set(sample.pred_label.tolist()) == set((one.nonzero() if one.dim() else one).flatten().tolist())
               for sample, one in zip(samples, chosen))


def _scores_agree(choices: Sequence[Callable[[Tensor], Tensor]], expected: Sequence[Tensor],
                  found: Sequence[Tensor]) -> Agreement:
    """Compare scores, and the classes with what these scores make of them: of equal ones either may be chosen."""
    scores, classes = found[:len(expected)], found[len(expected):]
    for values, own in zip(scores, expected, strict=True):
        if values.shape != own.shape:
            return Agreement(float('nan'), f'scores have the shape {tuple(values.shape)} after the export, and '
                                           f'{tuple(own.shape)} in PyTorch')
    largest = difference(expected, scores)
    for choose, values, own in zip(choices, scores[:len(choices)], classes, strict=True):
        for one, chosen, other in zip(values, choose(values), own):
            if not torch.equal(one[chosen].sort().values, one[other].sort().values):
                return Agreement(largest, 'a class is chosen that the scores do not give', 0.0)
    return Agreement(largest, f'largest relative difference {largest:.1e}')


def _choice(head: Any, name: str, chooses: bool) -> str:
    if chooses:
        classes = name.replace('scores', 'classes', 1)
        return (f'Of {classes} those hold that are true.' if hasattr(head, 'thr') else
                f'The class is that of {classes}, which is the argmax of {name}.')
    threshold, best = getattr(head, 'thr', None), getattr(head, 'topk', None)
    if threshold is not None:
        return f'Of {name} those classes hold that are at least {threshold}.'
    if hasattr(head, 'thr'):
        return f'Of {name} the {best} greatest hold.'
    return f'The class is the argmax of {name}.'
