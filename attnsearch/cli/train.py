"""`attnsearch train STUDY`: a winner to full length."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attnsearch.cli.common import (
    HostModule,
    Json,
    Out,
    Plugins,
    Storage,
    StudyArgument,
    add_plugins,
    check_study,
    note,
    option,
    setting,
    show_json,
    show_text,
    whole,
)


def train(
    epochs: Annotated[int, option("How long.", "N", whole)],
    study: StudyArgument = None,
    trial: Annotated[
        str, option("best: lowest mean error; A3 as in reports; or a trial's number.", "best|A3|N")
    ] = "best",
    test: Annotated[bool, typer.Option("--test", help="Then read the test images, once.")] = False,
    device: Annotated[str, option("auto, cpu, cuda or cuda:1.")] = "auto",
    threads: Annotated[int, option("Of a CPU; one is what the study's trials had.", "N", whole)] = 1,
    weights: Annotated[str | None, setting("weights")] = None,
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    storage: Storage = None,
    out: Out = Path("results"),
    json: Json = False,
) -> None:
    """Train a study's network to full length.

    With the study's images, recipe and weights. Called again, it goes on where it was stopped.
    """
    check_study(study, storage, out)
    add_plugins(plugin)  # both before anything heavy is imported

    from attnsearch.cli._training import watcher
    from attnsearch.core.machine import pick_devices
    from attnsearch.export import choose
    from attnsearch.study.study import open_study, settings_of
    from attnsearch.tools import full_training

    record = open_study(study, storage, out=out).record
    settings = settings_of(record, storage=storage, out=out, weights=weights, host_module=host_module)
    row = choose(record, trial)
    plan = full_training.Plan(row, epochs, pick_devices(device)[0], threads, weights)
    note(f"trial {row.number} of {record.name}: {row.arch}, seed {row.seed}")
    with watcher(sys.stderr) as watching:
        result = full_training.train(record, plan, settings, watching)
        if test:
            result = full_training.evaluate_on_test(record, plan, settings, watching)
    if json:
        show_json(result)
        return
    for line in described(result):
        show_text(line)


def described(result: dict[str, Any]) -> list[str]:
    """The result in sentences."""
    from attnsearch.core.metrics import METRICS
    from attnsearch.core.text import clock, many

    lines = []
    for split in ("validation", "test"):
        if (scores := result[split]) is not None:
            error = METRICS[scores["metric"]].error
            lines.append(f"{split.capitalize()} {error} {scores['error']:.2f} % of {scores['n']:,} images.")
    lines.append(
        f"{many(result['epochs'], 'epoch')} in {clock(result['seconds'])} on {result['device']}, seed "
        f"{result['seed']}, n = 1 training."
    )
    if result["test"] is None:
        lines.append("The test images were not read; --test does that.")
    return [*lines, f"Weights: {result['weights']}"]


__all__ = ["described", "train"]
