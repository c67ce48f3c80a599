"""What a config says, in mmengine's older and newer style."""

import mmcv.transforms
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.config.lazy import LazyAttr, LazyObject

from focalnet_mm.run.config import type_name

PURE = '''
from mmcv.transforms import LoadImageFromFile
import mmcv.transforms
imported = dict(type=LoadImageFromFile)
attribute = dict(type=mmcv.transforms.LoadImageFromFile)
nowhere = dict(type='no.such.module.LoadImageFromFile')
steps = [dict(type=LoadImageFromFile)]
'''


class TestTypeName:

    @pytest.mark.parametrize('kind', [
        'LoadImageFromFile', 'mmcv.LoadImageFromFile', 'mmcv.transforms.loading.LoadImageFromFile',
        mmcv.transforms.LoadImageFromFile, LazyObject('no.such.module', 'LoadImageFromFile'),
        LazyAttr('LoadImageFromFile', LazyObject('no.such.module'))], ids=repr)
    @pytest.mark.parametrize('mapping', [dict, ConfigDict])
    def test_every_way_to_name_a_class(self, kind, mapping):
        assert type_name(mapping(type=kind)) == 'LoadImageFromFile'

    def test_pure_python_config(self, tmp_path):
        (tmp_path / 'pure.py').write_text(PURE)
        cfg = Config.fromfile(tmp_path / 'pure.py', lazy_import=True)
        assert {type_name(cfg[key]) for key in ('imported', 'attribute', 'nowhere')} == {'LoadImageFromFile'}
        assert type_name(cfg.steps[0]) == 'LoadImageFromFile'

    @pytest.mark.parametrize('settings', [{}, None, dict(type=None), dict(other=1), print])
    def test_no_type(self, settings):
        assert type_name(settings) == ''

    def test_function(self):
        assert type_name(dict(type=len)) == 'len'
