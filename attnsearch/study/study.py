"""A study as a notebook or a report reads it: from its storage, without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnsearch.core.checks import masked
from attnsearch.core.errors import DataError, NoResultError, UsageError
from attnsearch.core.settings import Settings
from attnsearch.core.study_attrs import DataInfo, WeightsInfo
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Weights
from attnsearch.space.arch import read_host
from attnsearch.space.space import Space, read_space
from attnsearch.store.sqlite import read_sqlite, sqlite_path
from attnsearch.study import own_model

if TYPE_CHECKING:
    import pandas as pd

    from attnsearch.data import Data
    from attnsearch.report.picture import Picture


@dataclass(frozen=True)
class Study:
    """A study as it stands in its storage."""

    name: str
    record: StudyRecord

    def trials(self) -> pd.DataFrame:
        """One row per training."""
        from attnsearch.report import tables

        return tables.trials_frame(self.record)

    def front(self) -> pd.DataFrame:
        """One row per arch on the front, with n, interval, costs and P(front)."""
        from attnsearch.report import tables

        return tables.front_frame(self.record)

    def verdicts(self) -> pd.DataFrame:
        """One row per variant of a design; empty for a search."""
        from attnsearch.report import tables

        return tables.verdicts_frame(self.record)

    def plot(self, name: str = "pareto", width: str = "screen") -> Picture:
        """A picture that a notebook shows; `.png` and `.svg`, for a paper `.pdf` too, hold it as a file would.

        Args:
            name: `pareto`; `curves` (error by epoch); `forest` (differences from the baseline); `effects` of a
                design; `optimism` of a search.
            width: `screen`, or for a paper `single` (a column, 3.5 inches) or `double` (7 inches).

        Raises:
            UsageError: no such picture or width, or no numbers for it yet.
            NoResultError: no trial has finished.
        """
        from attnsearch import report
        from attnsearch.report import notebook_html

        return notebook_html.picture(report.build(self.record), name, width)

    def _repr_html_(self) -> str:
        """The answer and the main tables, for notebooks."""
        from markupsafe import escape

        from attnsearch import report
        from attnsearch.report import notebook_html

        try:
            return notebook_html.html(report.build(self.record))
        except NoResultError as error:
            return f"<p>{escape(error)}</p>"


def open_study(name: str | None = None, storage: str | None = None, *, out: Path | str = "results") -> Study:
    """A study by name, the latest when None; raises `UsageError` for an unknown one."""
    url = Settings(storage=storage, out=Path(out)).url()
    path = sqlite_path(url)
    if path is not None and (record := read_sqlite(path, name)) is not None:
        return Study(record.name, record)

    from attnsearch.store import database
    from attnsearch.store.read import read_record, study_names

    opened = database.open_storage(url, create=False)
    with database.faults(url, reading=True):
        names = study_names(opened)
        if not names:
            raise UsageError(f"No study in {masked(url)} yet: attnsearch run --space cbam_variants makes one")
        name = name or names[-1]
        return Study(name, read_record(opened, name))


def space_of(record: StudyRecord) -> Space:
    """The space that a study asks about, on the study's data and with its recipe.

    Raises:
        UsageError: the study does not say, or blocks of its space are not what they were.
    """
    info = record.info
    if not info.space.text or info.data is None or info.run.recipe is None:
        raise UsageError(f"study '{record.name}' does not say what space it asks about")
    outside = info.weights.path if info.weights and info.weights.outside else None
    module = read_host(info.module.host) if info.module.sha256 else None
    space = read_space(info.space.text, str(info.space.name), outside, module).on(info.data.name)
    if space.fingerprint() != info.space.fingerprint:
        raise UsageError(f"the blocks of the space have changed since study '{record.name}' began")
    return replace(space, recipe=info.run.recipe)


def weights_of(stored: WeightsInfo | None, path: str | None = None) -> Weights | None:
    """The checkpoint that a study's trainings start from; None where they start at random.

    Args:
        path: where it is now, if it has moved.

    Raises:
        UsageError: the file at `path` is another one, or the study has none.
    """
    if stored is None:
        if path is not None:
            raise UsageError("--weights: the study began without weights")
        return None
    if path is None:
        return Weights(stored.path, stored.sha256)

    from attnsearch.build.host_weights import identify

    moved = identify(path)
    if moved.sha256 != stored.sha256:
        raise UsageError(
            f"the study began with other weights than {path}: SHA-256 {stored.sha256[:12]} there, "
            f"{moved.sha256[:12]} here. Use another --study"
        )
    return moved


def data_of(info: DataInfo | None) -> Data:
    """The images that a study saw.

    Raises:
        DataError: they cannot be found any more, or have changed.
    """
    from attnsearch.data import open_data

    if info is None:
        raise DataError("the study does not say what images it saw")
    data = open_data(info.name, **info.options)
    if data.fingerprint != info.fingerprint:
        raise DataError(f"the images of '{data.name}' have changed since the study began")
    return data


def settings_of(record: StudyRecord, **changes: Any) -> Settings:
    """Settings that go on with a study's data, seed and cost axes; `changes` are further fields.

    The file of a host of the user's own, where they name it, may be run from now on.
    """
    info, data = record.info, record.info.data
    if data is None:
        raise UsageError(f"study '{record.name}' does not say what images it saw")
    own_model.allow(changes.get("host_module"), info)
    options = dict(data.options)
    return Settings(
        data=data.name,
        data_seed=options.get("seed", 0),
        bad_images=options.get("on_bad_image", "fail"),
        image_size=options.get("image_size"),
        resize=options.get("resize", "crop"),
        min_per_class=options.get("min_per_class"),
        group_by=options.get("group_by"),
        follow_links=options.get("follow_links", False),
        study=record.name,
        seed=info.run.seed,
        costs=info.costs.chosen,
        **changes,
    ).check()
