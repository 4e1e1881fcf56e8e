"""Whether a study that exists may be gone on with: is it still the same question, on the same images?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnsearch.core.errors import DataError, UsageError
from attnsearch.core.machine import versions
from attnsearch.core.settings import Settings
from attnsearch.core.study_attrs import DataInfo, ModuleInfo, WeightsInfo
from attnsearch.core.study_info import StudyInfo
from attnsearch.data import Data
from attnsearch.space.space import Space
from attnsearch.store.read import read_info, read_record, study_names
from attnsearch.study import own_model
from attnsearch.study.observer import Observer
from attnsearch.study.starting_weights import check_same


class Resume:
    """The checks of one run before it opens a study for writing."""

    def __init__(self, name: str, space: Space, settings: Settings, observer: Observer) -> None:
        self.name, self.space, self.settings, self.observer = name, space, settings, observer

    def check(
        self, opened: Any, data: Data, weights: WeightsInfo | None = None, module: ModuleInfo | None = None
    ) -> None:
        if self.name not in study_names(opened):
            if self.settings.resume and self.settings.study:
                self.observer.note(f"no study '{self.name}' to resume; beginning it")
            return
        if not self.settings.resume:
            record = read_record(opened, self.name)
            if done := sum(row.state != "running" and not row.lost for row in record.trials):
                raise UsageError(
                    f"study '{self.name}' exists ({done} trials). Use --resume or another --study"
                )
        info = read_info(opened, self.name)
        check_same(self.name, info.weights, weights)
        own_model.check_same(self.name, info.module, module or ModuleInfo())
        self._check_same_settings(info)
        self._check_same_question(info)
        self._check_same_data(info.data, data)
        if (was := info.run.versions) and was != versions():
            moved = ", ".join(f"{k} {was.get(k)} -> {v}" for k, v in versions().items() if was.get(k) != v)
            self.observer.note(f"versions have changed since this study began: {moved}")

    def _check_same_question(self, info: StudyInfo) -> None:
        """Space and recipe as they were when the study began."""
        if (had := info.space.fingerprint) and had != self.space.fingerprint():
            diff = _site_diff(info.space.sites, {s: tuple(o) for s, o in self.space.sites.items()})
            raise UsageError(
                f"the space has changed since study '{self.name}' began: {diff}. Use another --study"
            )
        if info.run.recipe is not None and info.recipe != self.space.recipe:
            then, now = info.recipe.to_dict(), self.space.recipe.to_dict()
            changed = [name for name, value in now.items() if then[name] != value]
            raise UsageError(
                f"the recipe has changed since study '{self.name}' began ({', '.join(changed)}). Use another --study"
            )

    def _check_same_data(self, info: DataInfo | None, data: Data) -> None:
        before = info.fingerprint if info else None
        if before and before != data.fingerprint and not self.settings.allow_changed_data:
            raise DataError(
                f"the images of '{data.name}' have changed since study '{self.name}' began; "
                "--allow-changed-data goes on all the same"
            )

    def _check_same_settings(self, info: StudyInfo) -> None:
        """What a study cannot change halfway: its seed, what it minimises, and what is asked of it."""
        now = {
            "seed": self.settings.seed,
            "metric": self.space.recipe.metric,
            "cost": ",".join(self.settings.costs),
            "design": self.settings.design or self.space.design,
        }
        then = {
            "seed": info.run.seed,
            "metric": info.recipe.metric,
            "cost": ",".join(info.costs.chosen or self.settings.costs),
            "design": (info.design.kind if info.design else "search") if info.run.ended else now["design"],
        }
        for name, value in now.items():
            if then[name] != value:
                raise UsageError(
                    f"study '{self.name}' began with --{name} {then[name]}, not {value}. Use another --study"
                )


def _site_diff(old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for site in [*old, *(s for s in new if s not in old)]:
        gone = [o for o in old.get(site, []) if o not in new.get(site, [])]
        come = [o for o in new.get(site, []) if o not in old.get(site, [])]
        if gone or come:
            parts.append(f"{site}: {' '.join([*(f'-{o}' for o in gone[:4]), *(f'+{o}' for o in come[:4])])}")
    return "; ".join(parts) or "host or order of options"
