"""Studies as one small table: what every training gave after every epoch, to compare samplers without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from attnsearch.core.errors import EnvironmentFault, NoResultError
from attnsearch.core.study_info import StudyRecord


def packed(records: Sequence[StudyRecord]) -> pd.DataFrame:
    """One row per training and epoch: study, arch, key, seed, role, state, epoch, metric, errors, losses and costs.

    Of a search also `site:NAME`, the option that stands at each site. Trainings that failed or were lost are left
    out; errors are in percent, by the metric.

    Raises:
        NoResultError: no training has reached the end of an epoch.
    """
    rows = [
        {
            "study": record.name,
            "arch": row.arch,
            "key": row.key,
            "seed": row.seed,
            "role": row.role,
            "state": row.state,
            "epochs": row.epochs,
            "epoch": epoch.epoch,
            "metric": record.info.metric.name,
            "val_error_pct": epoch.val_error,
            "val_loss": epoch.val_loss,
            "train_loss": epoch.train_loss,
            "seconds": epoch.seconds,
            **row.costs,
            **{f"site:{site}": option for site, option in row.sites.items()},
        }
        for record in records
        for row in record.trials
        if row.state in ("complete", "stopped") and not row.lost
        for epoch in row.curve
    ]
    if not rows:
        raise NoResultError(
            f"no training of {', '.join(record.name for record in records)} has ended an epoch"
        )
    return pd.DataFrame(rows)


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write the table whole or not at all.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        table.to_parquet(draft, index=False)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise EnvironmentFault(f"cannot write {path}: {error.strerror or error}") from None
