"""What all cases share: pictures, and the part of a config that is not about data."""

import json

import cv2
import numpy as np

SIZE = 64
RUN = '''
custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
backbone = dict(type='mmengine.FocalNet', arch='tiny-srf', embed_dims=8, depths=(1, 1, 1, 1), in_channels={channels},
                drop_path_rate=0.0, out_indices={indices})
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.002, momentum=0.9))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_scope = '{scope}'
default_hooks = dict(logger=dict(type='LoggerHook', interval=1), checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
'''
# A loader of one's own, of six channels that NumPy wrote.
LOAD_SIX = '''
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module(force=True)
class LoadSix(BaseTransform):
    def transform(self, results):
        image = np.load(results['img_path'])
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results
'''


def random(seed=0):
    return np.random.default_rng(seed)


def picture(path, seed, box, channels=3, dtype=np.uint8):
    """Write noise with a bright box (left, top, width, height) in a form that the ending says."""
    top = np.iinfo(dtype).max
    image = random(seed).integers(0, top // 4, (SIZE, SIZE, channels)).astype(dtype)
    x, y, w, h = box
    image[y:y + h, x:x + w] = top - top // 8
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npy':
        np.save(path, image)
    else:
        assert cv2.imwrite(str(path), image.squeeze())
    return path


def box_of(i):
    return 4 + 3 * i, 6 + 2 * i, 24 + i, 20 + i


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def with_module(root, name, source):
    """Lines of a config that import a module of its own, which lies beside the data."""
    own = f'{name}_{abs(hash(str(root)))}'
    write(root / f'{own}.py', source)
    return (f"import sys\nsys.path.insert(0, {str(root)!r})\n"
            f"custom_imports = dict(imports=['focalnet_mm', {own!r}], allow_failed_imports=False)\ndel sys\n")


def loader(dataset, train, batch=2):
    return dict(batch_size=batch, num_workers=0, persistent_workers=False, dataset=dataset,
                sampler=dict(type='DefaultSampler', shuffle=train))


def text(**settings):
    """Settings as the lines of a config."""
    return '\n'.join(f'{name} = {value!r}' for name, value in settings.items()) + '\n'


def in_classes(config, modules):
    """A config of strings as a pure-Python one: classes of mmengine and of these modules in place of their names."""
    modules = {**modules, 'mmengine.dataset': ('DefaultSampler',), 'mmengine.hooks': ('CheckpointHook', 'LoggerHook'),
               'mmengine.optim': ('OptimWrapper',), 'torch.optim': ('SGD',), 'focalnet_mm': ('FocalNet',),
               'mmengine.runner': ('EpochBasedTrainLoop', 'TestLoop', 'ValLoop')}
    lines = [line for line in config.splitlines() if not line.startswith('custom_imports')]
    body = '\n'.join(lines).replace('mmengine.FocalNet', 'FocalNet')
    for name in (name for names in modules.values() for name in names):
        body = body.replace(f"'type': '{name}'", f"'type': {name}").replace(f"type='{name}'", f'type={name}')
    return '\n'.join(f'from {module} import {", ".join(names)}' for module, names in modules.items()) + '\n' + body
