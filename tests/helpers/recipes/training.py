"""What a config says of training, data and evaluation, in the recipes' fields."""

from .plain import flat

# Images of COCO's train2017, and those of them with boxes.
_COCO, _COCO_WITH_BOXES = 118287, 117266
# What is read of schedules below.
_OF_SCHEDULES = {'type', 'by_epoch', 'begin', 'end', 'start_factor', 'milestones', 'gamma', 'eta_min', 'power', 'T_max',
                 'convert_to_iter_based'}


def training_fields(cfg):
    """All but the model."""
    return {**_optimizer(cfg['optim_wrapper']), **_schedule(cfg), **_batch(cfg), **_data(cfg),
            'ema': any(hook['type'] == 'EMAHook' for hook in cfg.get('custom_hooks') or ())}


def _optimizer(wrapper):
    optimizer, clip, paramwise = (wrapper.get(key) or {} for key in ('optimizer', 'clip_grad', 'paramwise_cfg'))
    keys = paramwise.get('custom_keys', {})
    further = {f'optimizer.{key}': value for key, value in optimizer.items()}
    further.update({f'optimizer.wrapper.{key}': value for key, value in wrapper.items()
                    if key not in ('type', 'optimizer', 'clip_grad', 'paramwise_cfg', 'constructor')})
    further.update({f'optimizer.clip_grad.{key}': value for key, value in clip.items()})
    return {
        **further,
        'optimizer.type': optimizer['type'],
        'optimizer.lr': optimizer['lr'],
        'optimizer.betas': optimizer.get('betas', [0.9, 0.999]),
        'optimizer.eps': optimizer.get('eps', 1e-8),
        'optimizer.weight_decay': optimizer['weight_decay'],
        'optimizer.backbone_lr_mult': paramwise.get('backbone_lr_mult', keys.get('backbone', {}).get('lr_mult', 1.0)),
        'optimizer.sampling_offsets_lr_mult': keys.get('sampling_offsets', {}).get('lr_mult', 1.0),
        'optimizer.clip_grad.max_norm': clip.get('max_norm'),
        # torch's default.
        'optimizer.clip_grad.norm_type': clip.get('norm_type', 2) if clip else None,
        'precision': {'AmpOptimWrapper': 'amp', 'OptimWrapper': 'fp32'}[wrapper.get('type', 'OptimWrapper')],
    }


def _schedule(cfg):
    loop = cfg['train_cfg']
    unit = 'epoch' if 'max_epochs' in loop else 'iter'
    length = loop.get('max_epochs', loop.get('max_iters'))
    total, images = cfg['auto_scale_lr']['base_batch_size'], _COCO_WITH_BOXES if _filter(cfg) else _COCO
    an_epoch = -(-images // total)
    found = {'schedule.unit': unit, 'schedule.length': length,
             'schedule.warmup.type': None, 'schedule.warmup.iters': 0, 'schedule.warmup.factor': None}
    if unit == 'epoch':
        found['schedule.epochs_nominal'] = length
    for step in cfg['param_scheduler'] if isinstance(cfg['param_scheduler'], list) else [cfg['param_scheduler']]:
        kind, by_epoch = step['type'], step.get('by_epoch', True)
        assert set(step) <= _OF_SCHEDULES, f'a schedule has {sorted(set(step) - _OF_SCHEDULES)}'
        if kind == 'LinearLR':
            assert 'schedule.warmup.from' not in found
            if by_epoch:
                found['schedule.warmup.each_iteration'] = step.get('convert_to_iter_based', False)
            found.update({'schedule.warmup.type': 'linear', 'schedule.warmup.factor': step['start_factor'],
                          f'schedule.warmup.{"epochs" if by_epoch else "iters"}': step['end'] - step.get('begin', 0),
                          'schedule.warmup.from': step.get('begin', 0)})
            continue
        assert 'schedule.policy' not in found
        found['schedule.policy'] = {'MultiStepLR': 'step', 'PolyLR': 'poly', 'CosineAnnealingLR': 'cosine'}[kind]
        ends = {step[key] for key in ('end', 'T_max') if step.get(key) not in (None, length)}
        found['schedule.until'] = sorted(ends) or 'the end'
        if kind == 'MultiStepLR':
            found['schedule.step_from'] = step.get('begin', 0)
            found['schedule.gamma'] = step.get('gamma', 0.1)
            milestones = step['milestones']
            if by_epoch:
                found['schedule.milestones_epochs'] = milestones
            found['schedule.milestones_iters'] = [step * an_epoch if by_epoch else step for step in milestones]
        else:
            start = f'schedule.{found["schedule.policy"]}_from_{"epoch" if by_epoch else "iter"}'
            found[start] = step.get('begin', 0)
            found['schedule.min_lr'] = step.get('eta_min', 0)
            if 'power' in step:
                found['schedule.power'] = step['power']
            found['schedule.each_iteration'] = not by_epoch or step.get('convert_to_iter_based', False)
    return found


def _batch(cfg):
    total, each = cfg['auto_scale_lr']['base_batch_size'], cfg['train_dataloader']['batch_size']
    return {'batch.total': total, 'batch.per_gpu_in_config': each, 'batch.gpus': total // each}


def _filter(cfg):
    if cfg['default_scope'] != 'mmdet':
        return None
    return (cfg['train_dataloader']['dataset'].get('filter_cfg') or {}).get('filter_empty_gt', False)


def _data(cfg):
    preprocessor = cfg['model'].get('data_preprocessor') or cfg['data_preprocessor']
    train, test = (cfg[f'{split}_dataloader']['dataset']['pipeline'] for split in ('train', 'test'))
    bgr = preprocessor.get('bgr_to_rgb', preprocessor.get('to_rgb', False))
    found = {'data.mean': preprocessor['mean'], 'data.std': preprocessor['std'], 'data.rgb': bgr,
             'data.filter_empty': _filter(cfg)}
    if cfg['default_scope'] == 'mmpretrain':
        return {**found, **_classification(cfg, train, test)}
    segments = cfg['default_scope'] == 'mmseg'
    pad = preprocessor.get('size') if segments else preprocessor.get('pad_size_divisor', 1)
    found.update({
        'data.train.pipeline': in_one_form(train),
        'data.test.pipeline': in_one_form(test),
        'data.train.pad': pad,
        'data.test.pad': preprocessor.get('test_cfg') if segments else pad,
        'data.train.batch_augments': preprocessor.get('batch_augments'),
        'sync_bn_in_heads': 'SyncBN' in flat(cfg['model']).values(),
    })
    if segments:
        found['data.test.multi_scale'] = _multi_scale(cfg['tta_pipeline'])
    return found


def _multi_scale(pipeline):
    """The scales and flips of test-time augmentation."""
    load, augment = pipeline
    resizes, flips, annotations, packing = augment['transforms']
    kinds = [step['type'] for step in (load, augment, *resizes, *flips, *annotations, *packing)]
    assert kinds == ['LoadImageFromFile', 'TestTimeAug', *['Resize'] * len(resizes), *['RandomFlip'] * 2,
                     'LoadAnnotations', 'PackSegInputs']
    if 'scale_factor' in resizes[0]:
        size, ratios = 'photo', [step['scale_factor'] for step in resizes]
    else:
        # The whole size is the one without a factor of its own.
        size = next(step['scale'] for step in resizes if step['scale'][1] in (512, 640))
        ratios = [step['scale'][1] / size[1] for step in resizes]
        assert all(step['scale'] == [int(side * ratio) for side in size] for step, ratio in zip(resizes, ratios))
    assert all(step['keep_ratio'] for step in resizes)
    # What they do besides is their defaults.
    further = [key for step in (load, augment, *resizes, *flips, *annotations, *packing) for key in step]
    assert set(further) <= {'type', 'transforms', 'scale', 'scale_factor', 'keep_ratio', 'prob'}, further
    return dict(ratios=ratios, scale=size, flip=[step['prob'] for step in flips])


def in_one_form(pipeline):
    """Augmentations in order, of our configs as of the recipes; what loads and packs is left out."""
    steps = [step if 'op' in step else _operation(step) for step in pipeline
             if not step.get('type', '').startswith(('Load', 'Pack'))]
    found = []
    for step in steps:
        if step['op'] == 'test':
            # MultiScaleFlipAug with one scale and no flip resizes and no more.
            assert step['flip'] is False
            step = dict(op='resize', **{key: step[key] for key in ('shorts', 'max_long', 'keep_ratio')})
        if step['op'] == 'choice':
            branches = [in_one_form(branch) for branch in step['of']]
            # A flip drawn in each branch has the distribution of one drawn before the choice.
            while all(branch and branch[0] == branches[0][0] and branch[0]['op'] == 'flip' for branch in branches):
                found.append(branches[0][0])
                branches = [branch[1:] for branch in branches]
            step = dict(step, of=branches)
        found.append(step)
    return found


def _operation(step):
    """A transform of mmcv, mmdet or mmseg."""
    settings = {key: value for key, value in step.items() if key != 'type'}
    kind = step['type']
    if kind == 'RandomFlip':
        return dict(op='flip', **{'direction': 'horizontal', **settings})
    if kind == 'RandomChoice':
        return dict(op='choice', of=settings.pop('transforms'), **settings)
    if kind == 'RandomCrop':
        return dict(op='crop', **settings)
    if kind == 'RandomResize':
        if settings.get('resize_type') == 'Resize':
            # The default.
            settings.pop('resize_type')
        return dict(op='resize_ratio', **dict(settings, scale=sorted(settings['scale'])))
    if kind == 'RandomChoiceResize' and settings.get('resize_type') == 'ResizeShortestEdge':
        settings.pop('resize_type')
        return dict(op='resize', shorts=settings.pop('scales'), max_long=settings.pop('max_size'), keep_ratio=True,
                    **settings)
    if kind in ('Resize', 'RandomChoiceResize'):
        scales = settings.pop('scales') if 'scales' in settings else [settings.pop('scale')]
        longs = {max(scale) for scale in scales}
        return dict(op='resize', shorts=[min(scale) for scale in scales],
                    max_long=longs.pop() if len(longs) == 1 else sorted(longs), **{'keep_ratio': False, **settings})
    return dict(op=kind, **settings)


def _classification(cfg, train, test):
    """mmpretrain's augmentations in timm's words."""
    steps = {step['type']: step for step in train}
    crop, auto, erase = (steps.pop(name, None) for name in ('RandomResizedCrop', 'RandAugment', 'RandomErasing'))
    flip = steps.pop('RandomFlip')
    assert set(steps) == {'LoadImageFromFile', 'PackInputs'}
    loss = cfg['model']['head']['loss']
    mixing = (cfg['model'].get('train_cfg') or {}).get('augments', ())
    augments = {step['type']: step['alpha'] for step in mixing}
    # Twice the same would be drawn twice as often.
    assert len(augments) == len(mixing)
    assert all(set(step) == {'type', 'alpha'} for step in mixing)
    resize, *rest = test[1:-1]
    side = rest[0]['crop_size'] if rest else resize['scale']
    found = {
        'train.epochs': cfg['train_cfg']['max_epochs'],
        'data.num_classes': (cfg['model'].get('data_preprocessor') or cfg['data_preprocessor'])['num_classes'],
        'optimizer.base_lr_per_512': cfg['optim_wrapper']['optimizer']['lr'] * 512 / cfg['auto_scale_lr'][
            'base_batch_size'],
        'loss.type': loss['type'],
        'loss.label_smoothing': loss.get('label_smooth_val', 0.0),
        'aug.mixup_alpha': augments.get('Mixup', 0.0),
        'aug.cutmix_alpha': augments.get('CutMix', 0.0),
        # One of the two for each batch, with equal chance: `augments` has no probabilities of its own.
        'aug.mix_prob': 1.0 if augments else 0.0,
        'aug.mix_switch_prob': 0.5 if len(augments) == 2 else None,
        'aug.mix_mode': 'batch' if augments else None,
        'aug.auto_augment': _timm_words(auto),
        'aug.color_jitter': None,
        'aug.erase_prob': erase['erase_prob'] if erase else 0.0,
        'aug.erase_mode': {'rand': 'pixel', 'const': 'const'}[erase['mode']] if erase else None,
        'aug.erase_count': 1 if erase else None,
        'aug.repeated_augmentation': cfg['train_dataloader']['sampler']['type'] == 'RepeatAugSampler',
        'aug.flip_prob': flip['prob'],
        'aug.rrc_scale': crop.get('crop_ratio_range', [0.08, 1.0]),
        'data.train.size': crop['scale'],
        'data.train.interpolation': crop.get('interpolation', 'bilinear'),
        'data.test.resize_short': resize['scale'],
        'data.test.crop': side,
        'data.test.crop_pct': side / resize['scale'],
        'data.test.interpolation': resize.get('interpolation', 'bilinear'),
    }
    assert resize['type'] == 'Resize' or (resize['type'], resize['edge']) == ('ResizeEdge', 'short')
    return found


def _timm_words(auto):
    """RandAugment of mmpretrain as timm names it."""
    if auto is None:
        return None
    return (f'rand-m{auto["magnitude_level"]}-mstd{auto["magnitude_std"]}'
            f'{"-inc1" if auto["policies"] == "timm_increasing" else ""}')
