"""The configs that this package ships, for projects of one's own."""

from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ['copy_config', 'find_config', 'shipped']


def shipped() -> Path:
    """The folder that holds ``configs``, ``tools`` and ``model-index.yml``: within the installed package, or the
    checkout around it.

    Raises:
        FileNotFoundError: There is none.
    """
    package = Path(__file__).parents[1]
    for folder in (package / '.mim', package.parent):
        index = folder / 'model-index.yml'
        if index.is_file():
            # An editable install only links to the checkout.
            return index.resolve().parent
    raise FileNotFoundError(f'{package} lies beside no configs: install focalnet-mm again.')


def find_config(root: Path, name: str) -> Path:
    """A shipped config by its name.

    Args:
        root: The folder that holds ``configs``.
        name: Such as ``maskrcnn_focalnet_b_1x``; folder and ending don't matter.

    Returns:
        Its path.

    Raises:
        ValueError: There is none of this name; says which are close.
    """
    name = Path(name).name.removesuffix('.py')
    found = {path.stem: path for path in sorted((root / 'configs').glob('*/*.py'))}
    if name not in found:
        close = difflib.get_close_matches(name, found, n=3, cutoff=0.5)
        hint = f': did you mean {" or ".join(close)}?' if close else '; `focalnet-mm config` lists them.'
        raise ValueError(f'No shipped config is named {name}{hint}')
    return found[name]


def copy_config(config: Path, out: Path, force: bool = False) -> list[Path]:
    """Copy a config with the files that it inherits, so that it can be changed and trained from there.

    What it inherits of mmdet, mmseg and mmpretrain stays with them.

    Args:
        config: A shipped config.
        out: The folder to write to; the config lies in it under its own name.
        force: Whether files that are there with another content may be replaced.

    Returns:
        The files, the config first.

    Raises:
        FileExistsError: One of the files is there with another content, and ``force`` is not set; none is written then.
    """
    config = config.resolve()
    targets = {source: out / (source.name if source == config else Path('_base_') / source.name)
               for source in _with_bases(config)}
    texts = {}
    for source, target in targets.items():
        text = source.read_text(encoding='utf-8')
        for base in _bases(source):
            inherited = targets[(source.parent / base).resolve()]
            text = text.replace(repr(base), repr(f'./{os.path.relpath(inherited, target.parent)}'))
        texts[target] = text
    for target, text in texts.items():
        if target.exists() and not force and not _holds(target, text):
            raise FileExistsError(f'{target} is there already: name another folder with --out, or add --force.')
    for target, text in texts.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding='utf-8')
    return list(texts)


def _holds(path: Path, text: str) -> bool:
    """Whether a file with this very text is there, such as one that another config brought along."""
    return path.is_file() and path.read_bytes() == text.encode()


def _with_bases(config: Path) -> Iterator[Path]:
    """A config and, after it, all files that it inherits; any may come twice."""
    yield config.resolve()
    for base in _bases(config):
        yield from _with_bases(config.parent / base)


def _bases(config: Path) -> list[str]:
    """The files that a config names as its bases, without those of other packages."""
    for node in ast.parse(config.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == '_base_':
            named = ast.literal_eval(node.value)
            return [base for base in ([named] if isinstance(named, str) else named) if '::' not in base]
    return []
