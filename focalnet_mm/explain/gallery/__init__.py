"""A gallery of focal maps: a page that opens from disk, with every number behind the pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor

from ...data.pictures import printable
from ..fields import ReceptiveField
from ..maps import FocalMaps

__all__ = ['Gallery']

_LEVELS = 65535
_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                         keep_trailing_newline=True)


class Gallery:
    """Writes ``index.html`` and, beside it, the pictures and maps that it shows.

    Maps are stored at the size of the feature map in steps of 1/65535 of their range, an image to a file, which the
    page loads when it is looked at.

    Args:
        folder: Where to write; made where it is missing.
        title: Title of the page.
        facts: Lines below the title, such as the config and the checkpoint.
    """

    def __init__(self, folder: str | Path, title: str, facts: Mapping[str, str]) -> None:
        self._folder = Path(folder)
        self._title = title
        self._facts = dict(facts)
        self._images: list[dict[str, Any]] = []
        self._blocks: list[tuple[int, int]] = []
        for name in ('images', 'maps'):
            (self._folder / name).mkdir(parents=True, exist_ok=True)

    def add(self, name: str, image: np.ndarray, maps: Mapping[tuple[int, int], FocalMaps]) -> None:
        """Add an image.

        Args:
            name: What to call it.
            image: RGB image (H, W, 3), uint8, as the model saw it.
            maps: What :func:`~focalnet_mm.explain.focal_maps` returns for this image alone, without ``upsample``; of
                the same blocks for all images.
        """
        number = f'{len(self._images):04d}'
        _, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        (self._folder / 'images' / f'{number}.jpg').write_bytes(data.tobytes())
        blocks = {f'{stage},{block}': dict(stride=found.stride, height=found.norm.shape[1], width=found.norm.shape[2],
                                           gates=[_packed(gate) for gate in found.gates[0]],
                                           modulator=_packed(found.norm[0]))
                  for (stage, block), found in maps.items()}
        (self._folder / 'maps' / f'{number}.js').write_text(f'receive({json.dumps(number)}, {json.dumps(blocks)});\n')
        self._blocks = list(maps)
        self._images.append(dict(name=printable(name), number=number, height=image.shape[0], width=image.shape[1]))

    def finish(self, fields: Iterable[ReceptiveField], kernels: str | None) -> Path:
        """Write the page.

        Args:
            fields: The receptive fields of the levels of these blocks.
            kernels: The picture of the kernels, its path relative to the folder; ``None`` if there is none.

        Returns:
            The path of the page.
        """
        from matplotlib import colormaps
        colours = {name: colormaps[name](np.arange(256), bytes=True)[:, :3].flatten().tolist()
                   for name in ('viridis', 'inferno')}
        sizes: dict[int, dict[int, int]] = {}
        for field in fields:
            sizes.setdefault(field.stage, {})[field.level] = field.theoretical * field.stride
        data = dict(images=self._images, blocks=self._blocks, fields=sizes, kernels=kernels, colours=colours,
                    levels=_LEVELS)
        page = _TEMPLATES.get_template('index.html').render(
            title=printable(self._title),
            facts=[(printable(name), printable(text)) for name, text in self._facts.items()], data=data)
        path = self._folder / 'index.html'
        path.write_text(page, encoding='utf-8')
        return path


def _packed(values: Tensor) -> dict[str, Any]:
    """A map as 16-bit steps from its least to its greatest value, little-endian, row by row."""
    array = values.double().cpu().numpy()
    least, greatest = float(array.min()), float(array.max())
    steps = np.round((array - least) / ((greatest - least) or 1) * _LEVELS).astype('<u2')
    return dict(least=least, greatest=greatest, data=base64.b64encode(steps.tobytes()).decode())
