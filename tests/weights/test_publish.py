"""What is published holds what its users need, and nothing that is the owner's alone."""

import datetime
import socket
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from focalnet_mm.weights import convert_file, publish, read_model
from focalnet_mm.weights.clean import clean_config, clean_text
from tests.helpers.tools import ROOT

# What is secret, by where it lies in the config.
SECRETS = dict(
    home='alice77', api_key='k3y-One-4711', wandb='5f4dcc3b5aa765d61d8327deb882cf99aabbccdd', entity='acme-labs',
    token='hf_AbCdEfGhIjKlMnOpQrStUvWx12', password='correct horse', access_key='AKIAIOSFODNN7EXAMPLE',
    secret='wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    url_user='s3user', url_password='s3p@ss,word', bucket='hidden-bucket',
    host='gpu17.acme.internal', remote='git@git.acme.internal:vision/stealth.git', signed='X-Amz-Signature=deadbeef99',
    github='ghp_16C7e42F292c6912E7710c838347Ae178B4a', slack='T024BE7LD/B024BE7LE/qWeRtYuIoP1',
    jwt='eyJhbGci.eyJzdWIi.SflKx',
    mail='bob@acme.example', command='--resume-secret=tr0ub4dor', windows='Carol Smith', proxy='10.11.12.13:3128',
    numeric_password=8675309, pem='MIIEpAIBAAKCAQEA', dsn='postgres0wner', env='env5ecret', hook='h00k-secret',
    optimizer='0pt1mizer-note', hub='hub-secret-9', name='exp-by-dave', seed_key='s33dk3y', project='private-proj',
    classes_path='erin-classes')
CONFIG = f'''
# {SECRETS['name']}
data_root = '/home/{SECRETS['home']}/data/coco/'
work_dir = '/mnt/lustre/{SECRETS['home']}/work_dirs/x'
load_from = 's3://{SECRETS['url_user']}:{SECRETS['url_password']}@{SECRETS['bucket']}/models/start.pth'
resume_from = 'https://{SECRETS['host']}/a/b/last.pth?{SECRETS['signed']}'
api_key = '{SECRETS['api_key']}'
db_password = {SECRETS['numeric_password']}
custom_imports = dict(imports=['focalnet_mm'], allow_failed_imports=False)
model = dict(
    type='MaskRCNN',
    backbone=dict(type='FocalNet', arch='tiny-lrf', with_cls_token=True, out_type='cls_token', num_tokens=100,
                  init_cfg=dict(type='Pretrained', checkpoint='/home/{SECRETS['home']}/focalnet_tiny_lrf.pth')),
    decoder=dict(type='Mask2FormerTransformerDecoder', key_indicator='x', special_tokens_list=['[CLS]']))
vis_backends = [
    dict(type='LocalVisBackend'),
    dict(type='WandbVisBackend', init_kwargs=dict(project='{SECRETS['project']}', entity='{SECRETS['entity']}',
                                                  settings=dict(api_key='{SECRETS['wandb']}')))]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, wandb_key='{SECRETS['wandb']}')
train_dataloader = dict(batch_size=2, dataset=dict(
    type='CocoDataset', ann_file='annotations/instances_train2017.json',
    metainfo=dict(classes=('cat', 'km/h', '/m/01g317')),
    backend_args=dict(backend='petrel', access_key='{SECRETS['access_key']}', secret_key='{SECRETS['secret']}'),
    lists=['/data/{SECRETS['home']}/a.json', 'data/coco/b.json', '../../{SECRETS['home']}/c.json']))
val_dataloader = dict(dataset=dict(metainfo=dict(classes='/home/erin/{SECRETS['classes_path']}')))
notify = dict(hf_token='{SECRETS['token']}', password='{SECRETS['password']}', to='{SECRETS['mail']}',
              slack='https://hooks.slack.com/services/{SECRETS['slack']}', text='{SECRETS['jwt']}')
cluster = dict(host='{SECRETS['host']}', hosts=['{SECRETS['host']}'], git='{SECRETS['remote']}',
               gitlab='https://oauth2:{SECRETS['github']}@git.acme.internal/x.git', proxy='http://{SECRETS['proxy']}')
command = 'python /home/{SECRETS['home']}/train.py {SECRETS['command']}'
script = '/usr/bin/python train.py --api-key {SECRETS['seed_key']}'
desktop = 'C:\\\\Users\\\\{SECRETS['windows']}\\\\start.pth'
env = dict(WANDB='{SECRETS['env']}')
store = dict(dsn='postgresql://{SECRETS['dsn']}:pw@db/runs', pem="""-----BEGIN RSA PRIVATE KEY-----
{SECRETS['pem']}
-----END RSA PRIVATE KEY-----""")
'''


@pytest.fixture
def checkpoint(tmp_path):
    """A run's checkpoint with secrets everywhere."""
    history = HistoryBuffer()
    history.update(0.5)
    # What a view is a view of would be saved too.
    whole = torch.frombuffer(bytearray(SECRETS['optimizer'].ljust(16).encode()), dtype=torch.uint8)
    torch.save(dict(
        state_dict={'a.weight': torch.arange(6.).reshape(2, 3), 'part': whole[:1]},
        optimizer=dict(note=SECRETS['optimizer']), param_schedulers=[dict(path=SECRETS['home'])],
        message_hub=dict(log_scalars=dict(loss=history), runtime_info=dict(last_ckpt=SECRETS['hub'])),
        argv=[SECRETS['command']],
        meta=dict(cfg=CONFIG, epoch=np.int64(12), iter=300, seed=SECRETS['numeric_password'],
                  hook_msgs=dict(last=SECRETS['hook']), experiment_name=SECRETS['name'], hostname=SECRETS['host'],
                  command=SECRETS['command'], env_info=SECRETS['env'], config=SECRETS['api_key'],
                  time=datetime.datetime(2026, 1, 1), mmengine_version='0.10.7', torch_version='2.13.0+cpu',
                  internal_version=f'1.0 built by {SECRETS["home"]}',
                  dataset_meta=dict(classes=('cat', 'km/h', '/m/01g317'), palette=np.uint8([[1, 2, 3]] * 3),
                                    label_map={0: 1}, from_file=f'/home/{SECRETS["home"]}/coco.py',
                                    access_token=SECRETS['token'], homepage=f'http://{SECRETS["host"]}/coco'))),
               tmp_path / 'epoch_12.pth')
    return tmp_path / 'epoch_12.pth'


def bytes_of(path):
    """The content of a file, and of each file in it where it is an archive."""
    content = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            content += b''.join(archive.read(entry) for entry in archive.infolist())
    return content


@pytest.mark.parametrize('ending', ['safetensors', 'pth'])
@pytest.mark.parametrize('with_config', [False, True])
def test_no_secret_is_published(ending, with_config, checkpoint, tmp_path):
    assert len(SECRETS) >= 30
    original = bytes_of(checkpoint)
    assert all(str(secret).encode() in original for secret in SECRETS.values())
    published, left_out = publish(checkpoint, tmp_path / f'x.{ending}', with_config=with_config)
    content = bytes_of(published)
    found = [name for name, secret in SECRETS.items()
             if str(secret).encode() in content or str(secret).encode('unicode_escape') in content]
    assert not found
    assert socket.gethostname().encode() not in content
    assert str(tmp_path).encode() not in content
    assert set(left_out) >= {'optimizer', 'param_schedulers', 'message_hub', 'argv', 'meta.hook_msgs',
                             'meta.experiment_name', 'meta.time', 'meta.seed', 'meta.internal_version'}
    assert ('meta.cfg' in left_out) != with_config
    meta = read_model(published)['meta']
    assert meta['dataset_meta'] == dict(
        classes=['cat', 'km/h', '/m/01g317'], palette=[[1, 2, 3]] * 3, label_map={'0': 1}, from_file='coco.py',
        access_token='***', homepage='***')
    assert (meta['epoch'], meta['iter'], meta['mmengine_version'], meta['torch_version']) == (
        12, 300, '0.10.7', '2.13.0+cpu')
    assert len(meta) == 5 + with_config


def test_the_config_is_still_one():
    """mmengine reads what is left, and the model and data set in it are as they were."""
    before, after = (Config.fromstring(text, '.py') for text in (CONFIG, clean_config(CONFIG)))
    expected = before.model.copy()
    expected.backbone.init_cfg.checkpoint = 'focalnet_tiny_lrf.pth'
    assert after.model == expected
    assert after.train_dataloader.dataset.metainfo == before.train_dataloader.dataset.metainfo
    assert after.train_dataloader.dataset.ann_file == 'annotations/instances_train2017.json'
    assert after.train_dataloader.dataset.lists == ['a.json', 'data/coco/b.json', 'c.json']
    assert after.train_dataloader.dataset.backend_args is None
    assert (after.load_from, after.resume_from) == ('start.pth', 'last.pth')
    assert after.visualizer.vis_backends[1].init_kwargs is None


@pytest.mark.parametrize('name', ['mmdet/maskrcnn_focalnet_t_shapes', 'mmpretrain/focalnet_t_in1k'])
def test_our_own_configs_have_no_secrets(name):
    """Nothing of a config that has none is lost."""
    written = Config.fromfile(ROOT / 'configs' / f'{name}.py').pretty_text
    cleaned, text = Config.fromstring(clean_config(written), '.py'), Config.fromstring(written, '.py')
    different = {key for key in text if cleaned.get(key) != text[key]}
    # Where the weights of the start come from: the published file has those of the end.
    private = {key for key in text if 'backend_args' in str(text[key])}
    assert different <= {'model', 'load_from', 'pretrained', 'data_source', *private}
    if 'model' in different:
        cleaned.model.backbone.init_cfg = text.model.backbone.init_cfg
        assert cleaned.model == text.model


@pytest.mark.parametrize('text', [
    'a = 1\nimport os', 'def f(): pass', 'a = [x for x in y]', "a = f'{b}'", 'a =', "a = 'x' + 'y'", 'a = lambda: 1'])
def test_what_is_no_config_is_not_published(text, tmp_path):
    """A form in which something could hide."""
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta=dict(cfg=text)), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'The config in the checkpoint cannot be cleaned \(.+\): publish without it'):
        publish(tmp_path / 'x.pth', tmp_path / 'y.pth', with_config=True)
    assert publish(tmp_path / 'x.pth', tmp_path / 'y.pth')[1] == ['meta.cfg']


def test_no_config_to_keep(tmp_path):
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta={}), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=r'x.pth notes no config: publish it without'):
        publish(tmp_path / 'x.pth', tmp_path / 'y.pth', with_config=True)


@pytest.mark.parametrize('text', [
    'data/coco/annotations/instances_val2017.json', 'LN', 'bbox_head.cls_branches', 'open-mmlab://resnet50_caffe',
    'torchvision://resnet50', 'https://download.openmmlab.com/a/b/mask_rcnn_r50-1234abcd.pth', 'km/h', 'n/a',
    'focalnet_t_8xb128-cosine_in1k_2x-ade20k-512x512', 'absolute_pos_embed', '(.*)norm', 'coco/bbox_mAP_50',
    'Mask2FormerTransformerDecoderLayerV2', './local.py', '{best}', 'Shared4Conv1FCBBoxHead'])
def test_what_is_nobodys_stays(text):
    assert clean_text(text) == text


def test_never_over_a_file(checkpoint, tmp_path):
    published, _ = publish(checkpoint, tmp_path / 'x.safetensors')
    with pytest.raises(FileExistsError, match=r'is there already: give another name, or replace it with --force'):
        publish(checkpoint, tmp_path / 'x.safetensors')
    before = published.stat().st_ino
    assert publish(checkpoint, tmp_path / 'x.safetensors', force=True)[0] == published
    assert published.stat().st_ino != before


def test_conversion_keeps_no_secrets_either(tmp_path, classifier):
    from focalnet_mm.weights import convert
    _, state = classifier('tiny-srf')
    torch.save(dict(state_dict=convert(state, 'mm'), meta=dict(
        cfg=CONFIG, epoch=3, dataset_meta=dict(classes=('a', 'b'), palette=np.uint8([[1, 2, 3]]), ids={2, 1}))),
               tmp_path / 'x.pth')
    for name in ('y.pth', 'y.safetensors'):
        convert_file(tmp_path / 'x.pth', tmp_path / name, 'mm')
        assert SECRETS['home'].encode() not in bytes_of(tmp_path / name)
        assert read_model(tmp_path / name)['meta'] == dict(epoch=3, dataset_meta=dict(
            classes=['a', 'b'], palette=[[1, 2, 3]], ids=[1, 2]))
