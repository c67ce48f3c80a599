"""What the metafiles say of each config."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

__all__ = ['Collection', 'Row', 'Size', 'read_collections', 'read_results', 'read_zoo', 'select_rows',
           'write_json']


@dataclass(frozen=True)
class Row:
    """One model of the zoo.

    Attributes:
        name: The config's name without its ending.
        config: Path of the config, relative to the root of the zoo.
        collection: Name of the method.
        input_size: (H, W) in pixels of the published FLOPs.
        size: What the metafile says was measured.
        published_parameters: In millions, ``None`` where nobody published them.
        published_flops: In billions of multiply-adds at ``input_size``, or ``None``.
        results: Published results: data set → metric → value in percent.
        weights: URL of a public checkpoint of the whole model, or ``None``.
        weights_kind: What kind of file that is.
        note: Why measured and published differ, where they do.
    """

    name: str
    config: str
    collection: str
    input_size: tuple[int, int]
    size: Size
    published_parameters: float | None
    published_flops: float | None
    results: Mapping[str, Mapping[str, float]]
    weights: str | None
    weights_kind: str | None
    note: str | None


@dataclass(frozen=True)
class Collection:
    """A method.

    Attributes:
        name: Its name in the model index.
        page: Path of its page, relative to the root of the zoo.
        description: What it is, in a few sentences.
        data: What it is trained on.
    """

    name: str
    page: str
    description: str
    data: str


@dataclass(frozen=True)
class Size:
    """The size of a model.

    Attributes:
        parameters: Number of parameters.
        flops: Number of multiply-adds in convolutions and matrix products for one image.
    """

    parameters: int
    flops: int


def read_zoo(root: str | Path) -> list[Row]:
    """Read the model index.

    Args:
        root: The folder that holds ``model-index.yml`` and ``configs``.

    Returns:
        All models, in the order of the index.

    Raises:
        FileNotFoundError: There is no model index.
    """
    rows = []
    for metafile in _metafiles(Path(root)):
        for model in metafile['Models']:
            meta = model['Metadata']
            height, width = (int(side) for side in meta['Input size'].split('x'))
            rows.append(Row(
                name=model['Name'],
                config=model['Config'],
                collection=model['In Collection'],
                input_size=(height, width),
                size=Size(meta['Parameters'], meta['FLOPs']),
                published_parameters=meta.get('Parameters (M, published)'),
                published_flops=meta.get('FLOPs (G, published)'),
                results=_published(model.get('Results', ())),
                weights=model.get('Weights'),
                weights_kind=meta.get('Weights kind'),
                note=meta.get('Note')))
    return rows


def read_collections(root: str | Path) -> list[Collection]:
    """Read the methods of the model index.

    Args:
        root: As for :func:`read_zoo`.

    Returns:
        All methods, in the order of the index.

    Raises:
        FileNotFoundError: There is no model index.
    """
    return [Collection(collection['Name'], collection['README'], collection['Metadata']['Description'],
                       collection['Metadata']['Training Data'])
            for metafile in _metafiles(Path(root)) for collection in metafile['Collections']]


def _metafiles(root: Path) -> Iterator[dict[str, Any]]:
    index = root / 'model-index.yml'
    if not index.is_file():
        raise FileNotFoundError(f'{index} does not exist: give the folder that holds model-index.yml and configs.')
    for metafile in yaml.safe_load(index.read_text())['Import']:
        yield yaml.safe_load((root / metafile).read_text())


def select_rows(rows: Iterable[Row], names: Iterable[str]) -> list[Row]:
    """The models of some names, with * and ? as wildcards."""
    patterns = list(names)
    return [row for row in rows if any(fnmatch(row.name, pattern) for pattern in patterns)]


def read_results(file: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote; nothing where there is no file.

    Raises:
        ValueError: The file is damaged; names it.
    """
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{file} is no JSON ({error}): move it away, and the rows in it are run again.') from None
    if not isinstance(found, dict):
        raise ValueError(f'{file} holds no results, but a {type(found).__name__}: move it away.')
    return found


def write_json(file: str | Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    partial = Path(f'{file}.partial')
    partial.write_text(json.dumps(content, indent=1) + '\n')
    os.replace(partial, file)


def _published(results: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for result in results:
        for metric, value in result['Metrics'].items():
            found.setdefault(result['Dataset'], {})[metric.removesuffix(' (published)')] = value
    return found
