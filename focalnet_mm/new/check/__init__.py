"""Whether a config and its data fit together, and whether its model learns: asked before a long training."""

from __future__ import annotations

import contextlib
import copy
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed

from ...data.own.looking.problems import find_problems
from ...data.own.records import OwnData
from ...run.build import build_model, load_weights, unwrap
from ...run.checks import check_dataset, check_first_files, check_heads
from ...run.config import evaluators, loaders, registry_scope, type_name
from ...run.failures import OURS, explain_failure
from ...run.loading import load_fitted
from ...run.machine import fit_to_machine
from ..report import Checked, Finding, write_report
from ..report.contents import spread
from .datasets import Items, OfDatasets, items_of, own_data
from .findings import of_classes, of_evaluators, of_learning_rate, of_memory, of_objects
from .overfit import first_batches, of_losses, overfit
from .pipelines import of_pipeline
from .views import given, of_numbers, predicted

__all__ = ['Result', 'check_config']

# A batch on a CPU: two batches of more pictures would not be learned in a minute.
_BATCH_ON_CPU = 2
# Of more pictures so many are decoded, spread evenly.
_MOST_DECODED = 5000


class Result(NamedTuple):
    """What :func:`check_config` found and wrote."""

    checked: Checked
    #: The page.
    file: Path

    @property
    def errors(self) -> int:
        """How many findings are certain to be wrong."""
        return sum(finding.level == 'error' for finding in self.checked.findings)


def check_config(cfg: Config, folder: Path, checkpoint: str | None = None, *, steps: int | None = None,
                 train: bool = True, device: str | None = None, tell: Callable[[str], None] = print) -> Result:
    """Look at a config and its data, train on a few pictures, and write a report.

    Args:
        cfg: The config, of mmdet, mmseg or mmpretrain; left as it is.
        folder: Where the report goes, see :func:`~focalnet_mm.new.report.write_report`.
        checkpoint: Weights to begin with; by default those that the config names.
        steps: How many steps to train on two batches; by default as many as a minute has, up to 100.
        train: Whether to train at all; without it no weights are needed.
        device: Where to train, by default the GPU if there is one.
        tell: Takes lines about what was left out.

    Returns:
        What was found, and the page.

    Raises:
        ValueError: The config has no model, or no data.
        OSError: The folder cannot be written to.
    """
    cfg = copy.deepcopy(cfg)
    device = device or get_device()
    # That of a run lists every tensor that is initialised; mmengine keeps one a name.
    MMLogger.get_instance(f'check-{uuid.uuid4()}', log_level='WARNING')
    init_default_scope(registry_scope(cfg))
    fit_to_machine(cfg)
    set_random_seed((cfg.get('randomness') or {}).get('seed') or 0)
    check = _Check(cfg, Checked(str(cfg.filename or 'config')), device, tell)
    check.look_at_data()
    check.look_at_model()
    if train and check.can_train:
        check.train(checkpoint, steps)
    check.draw(train)
    if not check.checked.findings:
        check.checked.findings.append(Finding('note', 'There was nothing to look at.'))
    root = Path(cfg.get('data_root') or Path(cfg.filename or '.').parent)
    data, files = check.data or (OwnData(root, 'none', 'classes', []), None)
    return Result(check.checked, write_report(data, folder, tell, files=files, checked=check.checked))


def _length(dataset: Any) -> int | str:
    return len(dataset) if hasattr(dataset, '__len__') else 'unknown'


class _Check:
    """A check of a config, step by step; what a step finds lets the others go on."""

    def __init__(self, cfg: Config, checked: Checked, device: str, tell: Callable[[str], None]) -> None:
        self.cfg, self.checked, self.device, self.tell = cfg, checked, device, tell
        self.parts: list[Items] = []
        #: The outermost data set for training, and the settings of its loader.
        self.loader: tuple[Mapping[str, Any], Any] | None = None
        self.data: tuple[OwnData, OfDatasets] | None = None
        self.model: BaseModel | None = None
        self.batches: list[Any] = []

    @property
    def can_train(self) -> bool:
        """Whether there is a model and something to train it on."""
        return self.model is not None and bool(self.batches) and not any(
            finding.level == 'error' for finding in self.checked.findings)

    def look_at_data(self) -> None:
        """Build the data sets, and look at their items."""
        for split in ('train', 'val', 'test'):
            for i, settings in enumerate(self._loaders(split)):
                several = len(loaders(self.cfg, split)) > 1
                self._build(split, f'{split}_dataloader{f".{i}" if several else ""}.dataset', settings)
        if not self.parts:
            return
        for part in self.parts:
            with self._finding(f'{part.key}: ', passed=f'{part.key} has {_length(part.dataset)} items.'):
                check_dataset(part.dataset, part.key)
                check_first_files(part.dataset, self.cfg)
                self._add(of_objects(part))
                self._add(of_pipeline(part, self.cfg))
        with self._finding():
            self.data = own_data(self.parts, Path(self.cfg.get('data_root') or Path(self.cfg.filename or '.').parent))
        self._add(of_evaluators(self.cfg, self.parts))
        if self.data:
            self._add(of_classes(*self.data))
            self._add(of_memory(self.cfg, self.data[0]))
            with self._finding('A look at the pictures failed: ', 'warning'):
                self._look_for_problems(self.data[0])
        for settings in loaders(self.cfg, 'train'):
            self._add(of_learning_rate(self.cfg, settings.get('batch_size')))

    def _loaders(self, split: str) -> list[Mapping[str, Any]]:
        """The data loaders of a split; those of tests only where they are not those of validation."""
        found = loaders(self.cfg, split)
        if split == 'test' and [loader.get('dataset') for loader in found] == [
                loader.get('dataset') for loader in loaders(self.cfg, 'val')]:
            return []
        return found

    def _build(self, split: str, key: str, settings: Mapping[str, Any]) -> None:
        here = copy.deepcopy(dict(settings, num_workers=0, persistent_workers=False))
        here.pop('prefetch_factor', None)
        with self._finding():
            dataset = Runner.build_dataloader(here, seed=0).dataset
            self.parts += items_of(split, key, dataset)
            if split == 'train' and self.loader is None:
                self.loader = here, dataset

    def _look_for_problems(self, data: OwnData) -> None:
        elsewhere = [picture.path for picture in data.pictures if not os.path.isfile(picture.path)]
        if elsewhere:
            self._note(f'Pictures were not looked at one by one, since {len(elsewhere)} of {len(data.pictures)} are no '
                       f'files of this machine, such as {elsewhere[0]}.')
            return
        part = data
        if len(data.pictures) > _MOST_DECODED:
            part = copy.copy(data)
            part.pictures = spread(data.pictures, _MOST_DECODED)
            self._note(f'{_MOST_DECODED} of the {len(data.pictures)} pictures were looked at one by one.')
        find_problems(part)
        data.problems = part.problems
        kinds = list(dict.fromkeys(problem.kind for problem in data.problems))
        if kinds:
            self._note(f'{len(data.problems)} suspicious entries in the data, of the kinds {", ".join(kinds)}: see '
                       'the report.')

    def look_at_model(self) -> None:
        """Build the model, and compare it with the data."""
        with self._finding():
            self.model = build_model(self.cfg)
        if self.model is None:
            return
        for part in self.parts:
            if any(type_name(metric) == 'FirstClasses' for metric in evaluators(self.cfg, part.split)):
                continue
            with self._finding(passed=f'The heads have as many classes as {part.key}.'):
                check_heads(unwrap(self.model), part.dataset, part.key)
        if self.loader is None:
            return
        self.model.dataset_meta = getattr(self.loader[1], 'metainfo', {})
        if any(finding.level == 'error' for finding in self.checked.findings):
            return
        most = _BATCH_ON_CPU if self.device == 'cpu' else None
        with self._finding('train_dataloader: '):
            self.batches = first_batches(*self.loader, most)
            for batch in self.batches[:1]:
                self._add(of_numbers(self.model, self.cfg, batch))

    def train(self, checkpoint: str | None, steps: int | None) -> None:
        """Train on two batches."""
        model = self.model
        assert model is not None
        with self._finding():
            if checkpoint:
                load_weights(model, self.cfg, checkpoint)
            else:
                model.init_weights()
                if self.cfg.get('load_from'):
                    self._note(load_fitted(model, self.cfg.load_from, model.dataset_meta))
            self.checked.losses = overfit(model.to(self.device), self.cfg, self.batches, steps)
            pictures = sum(len(batch['inputs']) for batch in self.batches if isinstance(batch, Mapping))
            self._add(of_losses(self.checked.losses, pictures))

    def draw(self, trained: bool) -> None:
        """Draw what the network is given, and what it predicts once it was trained."""
        if self.model is None or self.data is None or not self.batches:
            return
        with self._finding('Drawing what the network is given: ', 'warning'):
            self.checked.given = given(self.model, self.cfg, self.data[0], self.batches)
        if self.checked.losses and self.cfg.get('test_dataloader'):
            with self._finding('Predicting: ', 'warning'):
                self.checked.predicted = predicted(self.model, self.cfg, self.batches, self.device)

    def _add(self, findings: Iterator[Finding]) -> None:
        """Take what a look finds; one that fails, as on settings of an unusual kind, is told and ends no check."""
        with self._finding('A look at the config failed: ', 'warning'):
            for finding in findings:
                self.checked.findings.append(finding)

    def _note(self, text: str) -> None:
        self.checked.findings.append(Finding('note', text))

    @contextlib.contextmanager
    def _finding(self, place: str = '', level: str = 'error', passed: str | None = None) -> Iterator[None]:
        """Take what fails for a finding."""
        try:
            yield
        except Exception as error:
            text = explain_failure(error, self.cfg)
            ours = isinstance(error, OURS) and place.rstrip(': ') in text
            self.checked.findings.append(Finding(level, text if ours else place + text))
        else:
            if passed:
                self.checked.findings.append(Finding('passed', passed))
