"""Downloads: whole, once, resumed where they broke off; names on the Hub through a stand-in of it."""

import hashlib
import json
import os
import subprocess
import sys
import threading

import pytest
import torch
from safetensors.torch import save

from focalnet_mm.weights import download as downloads
from focalnet_mm.weights import local_file, read_checkpoint
from focalnet_mm.weights.download import download, parse_hub_name

TENSORS = {'a': torch.arange(5000.)}
CONTENT = save(TENSORS)


@pytest.fixture
def server(tmp_path, monkeypatch, serve):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(downloads, 'STALL_SECONDS', 0.3)
    with serve() as served:
        served.files['/x.safetensors'] = CONTENT
        yield served


@pytest.fixture
def cache(tmp_path):
    return tmp_path / 'cache' / 'hub' / 'checkpoints'


def listed(folder):
    """The checkpoints in a cache, without their records."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != '.json')


class TestUrl:

    def test_downloaded_once(self, server, cache):
        for _ in range(2):
            assert torch.equal(read_checkpoint(f'{server.url}/x.safetensors')['a'], TENSORS['a'])
        assert local_file(f'{server.url}/x.safetensors') == cache / 'x.safetensors'
        assert [request[:2] for request in server.requests] == [('GET', '/x.safetensors')]
        assert json.loads((cache / 'x.safetensors.json').read_text()) == {
            'url': f'{server.url}/x.safetensors', 'bytes': len(CONTENT)}

    def test_several_at_once(self, server, cache):
        threads = [threading.Thread(target=download, args=(f'{server.url}/x.safetensors',)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.requests) == 1
        assert (cache / 'x.safetensors').read_bytes() == CONTENT

    def test_goes_on_where_the_connection_broke_off(self, server, cache):
        server.cut['/x.safetensors'] = 6000
        assert download(f'{server.url}/x.safetensors').read_bytes() == CONTENT
        assert [asked for _, _, asked in server.requests] == [None, 'bytes=6000-', 'bytes=12000-', 'bytes=18000-']

    def test_goes_on_next_time(self, server, cache):
        server.stall['/x.safetensors'] = 6000
        with pytest.raises(ConnectionError, match=r'x\.safetensors could not be downloaded \(the server sent nothing '
                           r'for 0\.3 seconds\).*the 6,000 bytes received so far are kept, and the next attempt goes'):
            download(f'{server.url}/x.safetensors')
        assert not listed(cache)
        server.stall.clear()
        assert download(f'{server.url}/x.safetensors').read_bytes() == CONTENT
        assert [asked for _, _, asked in server.requests] == [None, 'bytes=6000-', 'bytes=6000-']
        assert [path.suffix for path in (cache.parent / 'partial').iterdir()] == ['.lock']

    def test_the_file_changed_meanwhile(self, server, cache):
        server.cut['/x.safetensors'] = 6000
        server.ranges = False
        with pytest.raises(ConnectionError):
            download(f'{server.url}/x.safetensors')
        server.cut.clear()
        server.ranges = True
        server.version = '2'
        server.files['/x.safetensors'] = other = save({'b': torch.ones(3000)})
        assert download(f'{server.url}/x.safetensors').read_bytes() == other

    def test_longer_than_what_is_left_to_get(self, server):
        """The part is already whole, or longer than the file has become: it starts anew."""
        server.cut['/x.safetensors'] = 6000
        server.ranges = False
        with pytest.raises(ConnectionError):
            download(f'{server.url}/x.safetensors')
        server.cut.clear()
        server.version = '2'
        server.files['/x.safetensors'] = CONTENT[:3000]
        assert download(f'{server.url}/x.safetensors').read_bytes() == CONTENT[:3000]

    def test_hash_in_the_name(self, server, cache):
        digest = hashlib.sha256(CONTENT).hexdigest()
        server.files[f'/x-{digest[:8]}.safetensors'] = CONTENT
        # Digits alone are a date.
        server.files['/x-20240131.safetensors'] = CONTENT
        server.files['/x-abcdef01.safetensors'] = CONTENT
        assert read_checkpoint(f'{server.url}/x-{digest[:8]}.safetensors').keys() == {'a'}
        assert read_checkpoint(f'{server.url}/x-20240131.safetensors').keys() == {'a'}
        with pytest.raises(ValueError, match=rf'x-abcdef01.safetensors has the SHA-256 {digest[:8]}…, not the one in '
                           'its name, and was thrown away'):
            read_checkpoint(f'{server.url}/x-abcdef01.safetensors')
        assert 'x-abcdef01.safetensors' not in listed(cache)
        (cache / 'y-abcdef01.safetensors').write_bytes(CONTENT)
        with pytest.raises(ValueError, match=r'y-abcdef01.safetensors, the cached copy of .*delete it to download'):
            read_checkpoint(f'{server.url}/y-abcdef01.safetensors')

    def test_cached_file_was_changed(self, server, cache):
        path = download(f'{server.url}/x.safetensors')
        path.write_bytes(CONTENT[:100])
        with pytest.raises(ValueError, match=r'has 100 bytes, not \d+: delete it to download it again'):
            read_checkpoint(f'{server.url}/x.safetensors')
        server.files['/v2/x.safetensors'] = CONTENT
        with pytest.raises(ValueError, match=r'is the cached copy of .*/x.safetensors, not of .*/v2/x.safetensors: '):
            read_checkpoint(f'{server.url}/v2/x.safetensors')

    def test_file_that_was_put_there(self, server, cache):
        cache.mkdir(parents=True)
        (cache / 'y.safetensors').write_bytes(CONTENT)
        assert read_checkpoint(f'{server.url}/y.safetensors').keys() == {'a'}
        assert not server.requests

    def test_files_of_a_model_hub_by_url(self, server, cache):
        for name in ('one', 'two'):
            server.files[f'/timm/{name}/resolve/main/model.safetensors'] = save({name: torch.ones(1)})
        for name in ('one', 'two'):
            assert read_checkpoint(f'{server.url}/timm/{name}/resolve/main/model.safetensors').keys() == {name}
        assert listed(cache) == [f'timm--{name}--main--model.safetensors' for name in ('one', 'two')]

    def test_several_files(self, server):
        server.files.update({
            '/model.safetensors.index.json': json.dumps({'weight_map': {'a': 'm-1.safetensors',
                                                                        'b': 'm-2.safetensors'}}).encode(),
            '/m-1.safetensors': CONTENT, '/m-2.safetensors': save({'b': torch.ones(2)})})
        assert read_checkpoint(f'{server.url}/model.safetensors.index.json').keys() == {'a', 'b'}

    def test_server_that_declares_no_length(self, server):
        server.headers['Content-Length'] = None
        assert download(f'{server.url}/x.safetensors').read_bytes() == CONTENT

    @pytest.mark.parametrize(('path', 'fault', 'message'), [
        ('/missing.pth', {}, r'HTTP Error 404: Not Found'),
        ('/page.pth', {'files': {'/page.pth': b'<html>Sign in</html>'}}, 'it is a web page, not a file'),
        ('/x.safetensors', {'stall': {'/x.safetensors': 0}}, r'the server sent nothing for 0\.3 seconds'),
        ('/x.safetensors', {'cut': {'/x.safetensors': 500}, 'ranges': False},
         r'the connection was closed after 500 of [\d,]+ bytes'),
        ('/x.safetensors', {'cut': {'/x.safetensors': 0}}, r'the connection was closed after 0 of [\d,]+ bytes'),
        ('/x.safetensors', {'headers': {'Content-Length': str(10**18)}},
         r'it has 1,000,000,000,000,000,000 bytes, and [\d,]+ are free in '),
    ])
    def test_refused(self, server, cache, path, fault, message):
        for name, value in fault.items():
            setattr(server, name, value)
        with pytest.raises(ConnectionError, match=rf'{path[1:]} could not be downloaded \({message}.*put the file at '):
            read_checkpoint(f'{server.url}{path}')
        assert not list(cache.iterdir())

    def test_nobody_listens(self, server, cache):
        with pytest.raises(ConnectionError, match=r'x.pth could not be downloaded \(\[Errno \d+\] Connection ref'):
            read_checkpoint('http://127.0.0.1:9/x.pth')

    def test_no_file(self):
        with pytest.raises(ValueError, match=r'^http://127.0.0.1/ names no file: give the URL of a checkpoint'):
            read_checkpoint('http://127.0.0.1/')


class TestNames:

    def test_models_of_openmmlab(self, server, monkeypatch):
        """mmengine's lists of names lead to URLs."""
        from focalnet_mm.weights import files
        monkeypatch.setitem(files._NAMED_MODELS, 'open-mmlab://', lambda: {'some': f'{server.url}/x.safetensors'})
        assert read_checkpoint('open-mmlab://some').keys() == {'a'}
        with pytest.raises(FileNotFoundError, match='open-mmlab://other names no model that mmengine knows'):
            read_checkpoint('open-mmlab://other')
        with pytest.raises(FileNotFoundError, match='torchvision://nothing names no model'):
            read_checkpoint('torchvision://nothing')

    def test_storage_backend(self, tmp_path):
        from mmengine.fileio import LocalBackend, register_backend

        class Backend(LocalBackend):
            def get_local_path(self, path):
                return super().get_local_path(path.removeprefix('memory://'))

        register_backend('memory', Backend, prefixes='memory', force=True)
        (tmp_path / 'x.safetensors').write_bytes(CONTENT)
        assert torch.equal(read_checkpoint(f'memory://{tmp_path}/x.safetensors')['a'], TENSORS['a'])

    @pytest.mark.parametrize(('source', 'expected'), [
        ('hf://timm/focalnet_tiny_lrf.ms_in1k', ('timm/focalnet_tiny_lrf.ms_in1k', None, None)),
        ('hf://o/n@v1.0', ('o/n', 'v1.0', None)),
        ('hf://o/n@refs%2Fpr%2F1/a/b.pth', ('o/n', 'refs/pr/1', 'a/b.pth')),
        ('hf://o/n/b.pth', ('o/n', None, 'b.pth')),
    ])
    def test_names_on_the_hub(self, source, expected):
        assert parse_hub_name(source) == expected

    @pytest.mark.parametrize('source', ['hf://', 'hf://name', 'hf://o/', 'hf://o/n@', 'hf://o/n@a@b'])
    def test_malformed(self, source):
        with pytest.raises(ValueError, match=r'is no name on the Hugging Face Hub: expected hf://owner/name\[@revisio'):
            read_checkpoint(source)


@pytest.mark.slow
class TestHub:
    """``huggingface_hub`` reads HF_ENDPOINT when it is imported, so each runs in a process of its own."""

    @pytest.fixture
    def hub(self, tmp_path, serve):
        with serve() as served:
            served.headers['X-Repo-Commit'] = 'c' * 40
            yield served

    @staticmethod
    def read(hub, tmp_path, source, offline=False, **environment):
        code = ('import sys, focalnet_mm.weights as w\n'
                'try: print("keys", *w.read_checkpoint(sys.argv[1]))\n'
                'except Exception as error: print(type(error).__name__, error)')
        environment = {**os.environ, 'HF_ENDPOINT': hub.url, 'HF_HOME': str(tmp_path / 'hf'),
                       'HF_HUB_DISABLE_XET': '1', 'HF_HUB_DOWNLOAD_TIMEOUT': '1', **environment}
        if not offline:
            environment.pop('HF_HUB_OFFLINE', None)
        done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, source], env=environment, text=True,
                              capture_output=True, timeout=120, check=False)
        return done.stdout.strip().splitlines()[-1]

    def test_first_of_the_usual_names(self, hub, tmp_path):
        hub.files['/timm/some/resolve/main/model.safetensors'] = CONTENT
        assert self.read(hub, tmp_path, 'hf://timm/some') == 'keys a'
        count = len([request for request in hub.requests if request[0] == 'GET'])
        assert self.read(hub, tmp_path, 'hf://timm/some') == 'keys a'
        assert len([request for request in hub.requests if request[0] == 'GET']) == count

    def test_revision_and_several_files(self, hub, tmp_path):
        index = json.dumps({'weight_map': {'a': 'm-1.safetensors', 'b': 'm-2.safetensors'}}).encode()
        hub.files.update({f'/o/n/resolve/v2/{name}': content for name, content in {
            'sub/model.safetensors.index.json': index, 'sub/m-1.safetensors': CONTENT,
            'sub/m-2.safetensors': save({'b': torch.ones(1)})}.items()})
        assert self.read(hub, tmp_path, 'hf://o/n@v2/sub/model.safetensors.index.json') == 'keys a b'
        del hub.files['/o/n/resolve/v2/sub/m-2.safetensors']
        hub.headers['X-Error-Code'] = 'EntryNotFound'
        found = self.read(hub, tmp_path, 'hf://o/n@v2/sub/model.safetensors.index.json', HF_HOME=str(tmp_path / 'new'))
        assert found.startswith('FileNotFoundError The repository hf://o/n holds no sub/m-2.safetensors, which ')

    def test_the_only_checkpoint(self, hub, tmp_path):
        """Whatever its name; two of them are named. Without a connection it is that of the cache."""
        def listed(*names):
            return json.dumps([dict(type='file', path=name, size=1, oid='0') for name in names]).encode()

        tree = '/api/models/o/n/tree/main?recursive=True&expand=False'
        hub.files[tree] = listed('.gitattributes', 'README.md', 'x.safetensors', 'optimizer.pt')
        hub.files['/o/n/resolve/main/x.safetensors'] = CONTENT
        for name in ('model.safetensors', 'pytorch_model.bin'):
            for ending in ('', '.index.json'):
                hub.errors[f'/o/n/resolve/main/{name}{ending}'] = 'EntryNotFound'
        assert self.read(hub, tmp_path, 'hf://o/n') == 'keys a'
        assert self.read(hub, tmp_path, 'hf://o/n', offline=True, HF_HUB_OFFLINE='1') == 'keys a'
        hub.files[tree] = listed('a.pth', 'sub/b.ckpt')
        found = self.read(hub, tmp_path, 'hf://o/n', HF_HOME=str(tmp_path / 'new'))
        assert found.endswith('name one of a.pth, sub/b.ckpt, as hf://o/n/a.pth.')

    @pytest.mark.parametrize(('code', 'source', 'message'), [
        ('EntryNotFound', 'hf://o/n', 'FileNotFoundError hf://o/n: the repository o/n holds no model.safetensors or '),
        ('EntryNotFound', 'hf://o/n/x.pth', 'FileNotFoundError hf://o/n/x.pth: the repository o/n holds no x.pth: '),
        ('RepoNotFound', 'hf://o/n', 'FileNotFoundError hf://o/n does not exist on the Hugging Face Hub, or is priva'),
        ('RevisionNotFound', 'hf://o/n@v9', 'FileNotFoundError hf://o/n@v9: the repository o/n has no branch, tag or '),
    ])
    def test_nothing_there(self, hub, tmp_path, code, source, message):
        hub.headers['X-Error-Code'] = code
        assert self.read(hub, tmp_path, source).startswith(message)

    @pytest.mark.slow
    def test_nobody_listens(self, hub, tmp_path):
        found = self.read(hub, tmp_path, 'hf://o/n', HF_ENDPOINT='http://127.0.0.1:9')
        assert found.startswith('ConnectionError hf://o/n/model.safetensors could not be downloaded, and is not in the '
                                'cache of huggingface_hub: check the connection')

    def test_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
        with pytest.raises(ModuleNotFoundError, match=r"hf://o/n needs the package huggingface_hub: pip install "
                           r"'focalnet-mm\[hub\]', or"):
            read_checkpoint('hf://o/n')
