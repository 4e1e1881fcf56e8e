"""The test split, opened once: what the chosen archs are worth on images that had no say in anything.

The archs are selected first: the baseline, and all that are on the front, confirmed or not. Each is trained again, by
the study's recipe and with seeds that no search, design or audit has used, and only when all are trained are the test
images read, once for all of them. Every opening is written down before it happens: in the study, and as a line that
is only ever appended to OUT/STUDY/test_ledger.jsonl. As long as the selected archs are the same a further call opens
nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnsearch.core.errors import DataError, NoResultError, UsageError
from attnsearch.core.machine import pick_devices, versions
from attnsearch.core.metrics import ClassCounts
from attnsearch.core.seeds import Repeats, trial_seed
from attnsearch.core.settings import Settings
from attnsearch.core.study_attrs import TestLedger, TestResult
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Recipe, Weights
from attnsearch.data import open_test
from attnsearch.report.archs import cost_axes, proxy_epochs
from attnsearch.space.arch import Arch
from attnsearch.statistics import front
from attnsearch.statistics.arch_runs import gather
from attnsearch.store import database
from attnsearch.store.study_store import StudyStore
from attnsearch.study.signals import stopping
from attnsearch.study.study import data_of, open_study, settings_of, weights_of

if TYPE_CHECKING:
    from attnsearch.data import Data

SEEDS = 3
LEDGER = "test_ledger.jsonl"

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Selection:
    """What is tested: archs by key, the baseline first, and the hash of all that decides the numbers."""

    archs: dict[str, Arch]
    seeds: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class Tested:
    """Errors in percent, {key: {"val": [...], "test": [...]}} with one for each seed, and the numbers of images.

    `variances` are those of the same errors over other images, in points squared; 0 where they are not known.
    """

    errors: Mapping[str, Mapping[str, list[float]]]
    variances: Mapping[str, Mapping[str, list[float]]]
    val_images: int
    test_images: int


def open_test_split(
    name: str | None = None,
    *,
    seeds: int = SEEDS,
    storage: str | None = None,
    out: Path = Path("results"),
    device: str = "auto",
    weights: str | None = None,
    host_module: str | None = None,
    notify: Notify = lambda message: None,
) -> TestResult:
    """Open the test split for a study's selected archs; an earlier result where nothing has changed.

    Args:
        seeds: fresh trainings of each arch, at least 3.
        weights: where the study's are now, if they have moved. host_module: the file of a host of the user's own.
        notify: called with one line per training.

    Raises:
        UsageError: no such study, or too few seeds. NoResultError: nothing has been trained to the end.
        DataError: the images have changed, or there is no test split.
    """
    if seeds < SEEDS:
        raise UsageError(f"The test takes {SEEDS} seeds at least, got {seeds}")
    record = open_study(name, storage, out=out).record
    settings = settings_of(
        record, storage=storage, out=out, device=device, weights=weights, host_module=host_module
    )
    url = settings.url()
    opened = database.open_storage(url, create=False)
    with stopping(), database.owned(url, record.name, opened), database.faults(url):
        store = StudyStore.reopen(opened, record.name)
        selected = select(store.snapshot(), seeds)
        entries = store.info.test.openings
        if old := next((e for e in entries if e.digest == selected.digest and e.errors), None):
            return old
        opening = Opening(store, out / record.name / LEDGER, selected, entries)
        opening.announce(notify)
        return opening.close(evaluate_all(store.snapshot(), selected, settings, notify, before=opening.begin))


def select(record: StudyRecord, seeds: int = SEEDS) -> Selection:
    """The baseline and every arch that is confirmed or stands on the observed front.

    Raises:
        NoResultError: nothing has been trained to the end, or the baseline has not.
    """
    epochs = proxy_epochs(record)
    done = [trial for trial in record.trials if trial.finished and trial.epochs == epochs]
    info = record.info
    baseline = info.space.baseline
    if baseline is None or info.data is None or not any(trial.key == baseline for trial in done):
        raise NoResultError(f"study '{record.name}': the baseline has no finished training to compare with")
    rivals = [trial for trial in done if trial.key not in info.controls]
    standing = front.assess(gather(rivals, cost_axes(record.info, done)), baseline=baseline)
    chosen = [row.key for row in standing if row.observed or row.status == front.Status.CONFIRMED]
    specs = {trial.key: trial.spec for trial in done}
    keys = list(dict.fromkeys([baseline, *sorted(chosen)]))
    numbers = tuple(trial_seed(info.run.seed, repeat) for repeat in Repeats.TEST.take(seeds))
    decides = [keys, numbers, record.attrs["recipe"], info.data.fingerprint]
    if info.weights:
        decides.append(info.weights.sha256)
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    return Selection({key: Arch.from_dict(specs[key]) for key in keys}, numbers, digest)


def evaluate_all(
    record: StudyRecord,
    selected: Selection,
    settings: Settings,
    notify: Notify,
    *,
    before: Callable[[], None],
) -> Tested:
    """Train every selected arch on every seed, then read the test images; `before` is called between the two."""
    import torch

    from attnsearch.data.batches import on_device
    from attnsearch.train.fit import evaluate, precision
    from attnsearch.train.images import device_data

    data, recipe = data_of(record.info.data), record.info.recipe
    if "test" not in data.counts:
        raise DataError(f"{data.name}: has no test images; its owner split it into train and val only")
    weights = weights_of(record.info.weights, settings.weights)
    place = torch.device(pick_devices(settings.device)[0])
    images = device_data(data, recipe, place)
    errors: dict[str, dict[str, list[float]]] = {key: {"val": [], "test": []} for key in selected.archs}
    variances: dict[str, dict[str, list[float]]] = {key: {"val": [], "test": []} for key in selected.archs}
    models = []

    def note_down(key: str, part: str, counts: ClassCounts) -> float:
        errors[key][part].append(error := counts.error(recipe.metric))
        variances[key][part].append(counts.sampling_variance(recipe.metric) or 0.0)
        return error

    for key, arch in selected.archs.items():
        for seed in selected.seeds:
            model, counts = _trained(arch, seed, data, images, recipe, weights)
            error = note_down(key, "val", counts)
            notify(f"{arch}, seed {seed}: validation {record.info.metric.error} {error:.2f} %")
            models.append((key, model))
    before()
    split = open_test(settings.data, **settings.data_options())
    x, y = on_device(split, place)
    for key, model in models:
        _, counts = evaluate(model, x, y, images, precision(recipe, place))
        note_down(key, "test", counts)
    return Tested(errors, variances, len(data.val), len(split))


def _trained(
    arch: Arch, seed: int, data: Data, images: Any, recipe: Recipe, weights: Weights | None
) -> tuple[Any, ClassCounts]:
    """The network after the recipe, and its answers on the validation images."""
    from attnsearch.build.host_weights import start
    from attnsearch.train.fit import fit

    model = start(arch, weights, classes=len(data.classes), in_channels=data.image[0], seed=seed)
    counts = fit(model, images, recipe, seed=seed)[-1].counts
    assert counts is not None
    return model, counts


class Opening:
    """One opening of the test split, kept in the study and in the ledger."""

    def __init__(
        self, store: StudyStore, ledger: Path, selected: Selection, entries: Sequence[TestResult]
    ) -> None:
        self.store, self.ledger, self.before = store, ledger, tuple(entries)
        archs = {key: str(arch) for key, arch in selected.archs.items()}
        self.entry = TestResult(len(entries) + 1, selected.digest, archs, selected.seeds)

    def announce(self, notify: Notify) -> None:
        if self.before:
            notify(
                f"the test split of this study has been opened {len(self.before)} time(s) for other archs: "
                "this opening is less of a test, and the ledger says so"
            )

    def begin(self) -> None:
        """Write down that the test images are about to be read."""
        opened = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.entry = replace(self.entry, opened=opened, versions=versions())
        self._write()

    def close(self, tested: Tested) -> TestResult:
        """Write down what came of it."""
        self.entry = replace(self.entry, **asdict(tested))
        self._write()
        return self.entry

    def _write(self) -> None:
        self.store.set_attrs(TestLedger((*self.before, self.entry)))
        self.ledger.parent.mkdir(parents=True, exist_ok=True)
        with open(self.ledger, "a", encoding="utf-8") as file:
            file.write(json.dumps(self.entry.to_dict(), sort_keys=True) + "\n")
