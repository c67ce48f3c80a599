"""URLs and names on the Hugging Face Hub → whole local files."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

import torch
from filelock import FileLock
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

__all__ = ['cached_files', 'download', 'download_from_hub', 'files_on_hub', 'parse_hub_name', 'sha256']

#: A server that sends nothing for so many seconds has stalled.
STALL_SECONDS = 10
_CHUNK = 1 << 20


def download(url: str) -> Path:
    """The file behind a URL, downloaded once into torch hub's folder of checkpoints.

    The file appears there under its own name (on a model hub, where all files are called alike, with the names of
    owner, repository and revision before it) when it is whole: it has the size that the server declared and, where
    its name ends in ``-HASH.ENDING`` as those of torch hub and OpenMMLab do, that SHA-256. Until then it lies in
    ``partial`` beside that folder; a download that broke off goes on from there. Several processes may ask for the
    same file at once: one downloads it.

    Args:
        url: Begins with ``http://`` or ``https://``.

    Returns:
        Path of the file.

    Raises:
        ConnectionError: The server refused, stalled, or broke off again without having sent more.
        ValueError: What the server sent, or what lies in the cache, is not the file.
        OSError: It cannot be stored.
    """
    name = _cache_name(url)
    hub = Path(torch.hub.get_dir())
    path = hub / 'checkpoints' / name
    if path.is_file():
        _check_cached(path, url)
        return path
    partial = hub / 'partial'
    for folder in (path.parent, partial):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(partial / f'{name}.lock'):
        if path.is_file():
            _check_cached(path, url)
        else:
            print_log(f'Downloading {url} to {path}', logger='current')
            _Download(url, path, partial / name).run()
    return path


class _Download:
    """One file on its way: ``part`` holds its beginning, ``part.json`` where it comes from and which version it is."""

    def __init__(self, url: str, path: Path, part: Path) -> None:
        self.url = url
        self.path = path
        self.part = part
        self.notes = part.with_name(f'{part.name}.json')
        self.total: int | None = None

    def run(self) -> None:
        columns = (TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
                   TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(self.path.name, total=None)
            received = self._size()
            while True:
                try:
                    self._fetch(lambda done: progress.update(task, completed=done, total=self.total))
                    break
                # A reset or a stalled connection comes as an OSError too; one of the disk does, and going on gains
                # nothing then either.
                except (OSError, http.client.HTTPException) as error:
                    before, received = received, self._size()
                    if isinstance(error, HTTPError) and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                        self.part.unlink(missing_ok=True)
                    elif received <= before or isinstance(error, (_UnusableError, HTTPError)):
                        self._give_up(error, received)
        self._check_hash()
        record = self.path.with_name(f'{self.path.name}.json')
        record.write_text(json.dumps(dict(url=self.url, bytes=self._size())) + '\n')
        os.replace(self.part, self.path)
        self.notes.unlink()

    def _fetch(self, report: Callable[[int], None]) -> None:
        """Get what is missing of the part, or all of it anew where the server has another version by now."""
        have, version = self._size(), self._version()
        headers = {'User-Agent': 'focalnet-mm'}
        if have and version:
            headers.update({'Range': f'bytes={have}-', 'If-Range': version})
        with urlopen(Request(self.url, headers=headers), timeout=STALL_SECONDS) as response:
            if response.headers.get_content_type() == 'text/html':
                raise _UnusableError('it is a web page, not a file')
            goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
            have = have if goes_on else 0
            length = response.headers.get('Content-Length')
            self.total = None if length is None else have + int(length)
            if self.total is not None:
                free = shutil.disk_usage(self.part.parent).free
                if self.total - have > free:
                    raise _UnusableError(f'it has {self.total:,} bytes, and {free:,} are free in {self.part.parent}')
            version = response.headers.get('ETag') or response.headers.get('Last-Modified')
            self.notes.write_text(json.dumps(dict(url=self.url, version=version)))
            with open(self.part, 'ab' if goes_on else 'wb') as part:
                while chunk := response.read1(_CHUNK):
                    part.write(chunk)
                    have += len(chunk)
                    report(have)
        if self.total is not None and have != self.total:
            raise ConnectionResetError(f'the connection was closed after {have:,} of {self.total:,} bytes')

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _version(self) -> str | None:
        """What tells this version of the file from others; weak tags don't."""
        notes = json.loads(self.notes.read_text()) if self.notes.is_file() else {}
        version = notes.get('version') if notes.get('url') == self.url else None
        return version if version and not version.startswith('W/') else None

    def _give_up(self, error: Exception, received: int) -> None:
        if not received:
            self.part.unlink(missing_ok=True)
            self.notes.unlink(missing_ok=True)
        reason = error if isinstance(error, HTTPError) else getattr(error, 'reason', error)
        if isinstance(reason, TimeoutError):
            reason = f'the server sent nothing for {STALL_SECONDS} seconds'
        kept = (f'; the {received:,} bytes received so far are kept, and the next attempt goes on from there'
                if received and self._version() else '')
        raise ConnectionError(f'{self.url} could not be downloaded ({reason}): check the URL and the connection, or '
                              f'put the file at {self.path} yourself{kept}.') from error

    def _check_hash(self) -> None:
        found = _wrong_hash(self.part, self.path.name)
        if found:
            self.part.unlink()
            self.notes.unlink()
            raise ValueError(f'{self.url} has the SHA-256 {found}…, not the one in its name, and was thrown away: '
                             'download it again, or yourself and give its path.')


class _UnusableError(URLError):
    """What the server offers won't do, however often it is asked."""


def _check_cached(path: Path, url: str) -> None:
    """Whether a file in the cache is what it once was, and comes from this URL."""
    record = path.with_name(f'{path.name}.json')
    if not record.is_file():
        found = _wrong_hash(path, path.name)
        if found:
            raise ValueError(f'{path}, the cached copy of {url}, has the SHA-256 {found}…, not the one in its name: '
                             'delete it to download it again.')
        return
    notes = json.loads(record.read_text())
    if notes['url'] != url:
        raise ValueError(f'{path} is the cached copy of {notes["url"]}, not of {url}: move it elsewhere, or download '
                         'the other one yourself and give its path.')
    if path.stat().st_size != notes['bytes']:
        raise ValueError(f'{path}, the cached copy of {url}, has {path.stat().st_size} bytes, not {notes["bytes"]}: '
                         'delete it to download it again.')


def _cache_name(url: str) -> str:
    parts = [part for part in unquote(urlparse(url).path).split('/') if part]
    # OWNER/NAME/resolve/REVISION/FILE on the Hugging Face Hub and its mirrors.
    name = '--'.join(part for part in parts if part != 'resolve') if 'resolve' in parts else (parts or [''])[-1]
    if not name or name in ('.', '..'):
        raise ValueError(f'{url} names no file: give the URL of a checkpoint.')
    return name


def _wrong_hash(path: Path, name: str) -> str | None:
    """The first digits of a file's SHA-256 if its name carries others."""
    match = re.search(r'-([0-9a-f]{8,64})\.\w+$', name)
    # Digits alone are a date.
    if match is None or match[1].isdigit():
        return None
    found = sha256(path)
    return None if found.startswith(match[1]) else found[:len(match[1])]


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def parse_hub_name(source: str) -> tuple[str, str | None, str | None]:
    """Owner and name, revision, and file in ``hf://owner/name[@revision][/file]``.

    Args:
        source: The name; slashes of a revision written as ``%2F``.

    Returns:
        ``owner/name``, the revision and the file, ``None`` where they are not given.

    Raises:
        ValueError: It has another form.
    """
    match = re.fullmatch(r'hf://([\w.-]+/[\w.-]+)(?:@([^/@]+))?(?:/(.+))?', source)
    if match is None:
        raise ValueError(f'{source} is no name on the Hugging Face Hub: expected hf://owner/name[@revision][/file].')
    return match[1], unquote(match[2]) if match[2] else None, match[3]


def download_from_hub(repo: str, revision: str | None, file: str) -> Path | None:
    """A file of a repository on the Hugging Face Hub, in the cache of ``huggingface_hub``.

    Args:
        repo: ``owner/name``.
        revision: Branch, tag or commit; ``None`` for the main branch.
        file: Path in the repository.

    Returns:
        Path of the file, or ``None`` where the repository has no such file.

    Raises:
        ModuleNotFoundError: ``huggingface_hub`` is not installed.
        FileNotFoundError: There is no such repository or revision.
        ConnectionError: The download failed.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'hf://{repo} needs the package huggingface_hub: pip install '
                                  "'focalnet-mm[hub]', or download the file yourself and give its path.") from error
    where = f'hf://{repo}' + (f'@{revision}' if revision else '')
    try:
        return Path(hf_hub_download(repo, file, revision=revision, etag_timeout=STALL_SECONDS))
    except LocalEntryNotFoundError as error:
        raise ConnectionError(f'{where}/{file} could not be downloaded, and is not in the cache of huggingface_hub: '
                              f'check the connection ({_first_line(error.__cause__ or error)}).') from error
    except EntryNotFoundError:
        return None
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f'{where}: the repository {repo} has no branch, tag or commit {revision}.') from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(f'{where} does not exist on the Hugging Face Hub, or is private: check the name, or '
                                'log in with `hf auth login`.') from error
    except OSError as error:
        raise ConnectionError(f'{where}/{file} could not be downloaded: {_first_line(error)}.') from error


def files_on_hub(repo: str, revision: str | None) -> list[str]:
    """The files of a repository on the Hugging Face Hub.

    Args:
        repo: ``owner/name``.
        revision: Branch, tag or commit; ``None`` for the main branch.

    Returns:
        Their paths in the repository; none where the Hub does not tell.

    Raises:
        ConnectionError: The Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError
    try:
        return sorted(HfApi().list_repo_files(repo, revision=revision))
    except EntryNotFoundError:
        return []
    except OSError as error:
        raise ConnectionError(f'The files of hf://{repo} could not be listed ({_first_line(error)}): check the '
                              'connection, or name the file.') from error


def cached_files(repo: str, revision: str | None) -> list[str]:
    """The files of a repository on the Hugging Face Hub that are in the cache of ``huggingface_hub``.

    Args:
        repo: ``owner/name``.
        revision: Branch, tag or commit; ``None`` for the main branch.

    Returns:
        Their paths in the repository.
    """
    from huggingface_hub import snapshot_download
    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except OSError:
        return []
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')
