"""`attnsearch export STUDY`: a network of a study, to use without attnsearch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnsearch.cli.common import (
    HostModule,
    Out,
    Plugins,
    Storage,
    StudyArgument,
    add_plugins,
    check_study,
    note,
    setting,
    show_text,
)


def export(
    study: StudyArgument = None,
    trial: Annotated[
        str,
        typer.Option(
            "--trial",
            metavar="best|A3|N",
            help="best: lowest mean error; A3 as in reports; or a trial's number.",
        ),
    ] = "best",
    format: Annotated[
        str, typer.Option("--format", metavar="LIST", help="Of py, safetensors, pt2, onnx, by comma.")
    ] = "py,safetensors",
    train: Annotated[
        bool, typer.Option("--train", help="Repeat the trial's training; else weights are untrained.")
    ] = False,
    weights: Annotated[str | None, setting("weights")] = None,
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    storage: Storage = None,
    out: Out = Path("results"),
) -> None:
    """Write a network as plain PyTorch, weights or a graph.

    Into OUT/STUDY/export; each file is run and compared with the network.
    """
    from attnsearch.export import check_formats, choose, pack

    formats = [word.strip() for word in format.split(",")]
    check_formats(formats)
    check_study(study, storage, out)
    add_plugins(plugin)  # all before anything heavy is imported

    from attnsearch.study import own_model
    from attnsearch.study.study import open_study

    opened = open_study(study, storage, out=out)
    row = choose(opened.record, trial)
    show_text(f"Trial {row.number} of {opened.name}: {row.arch}, seed {row.seed}.")
    name = "best" if trial == "best" else ""
    folder = out / opened.name / "export"
    info = opened.record.info
    own_model.allow(host_module, info)
    package = pack(row, info, folder, name=name, formats=formats, train=train, weights=weights, tell=note)
    for kind, file in package.files.items():
        show_text(f"{file}: output within {package.differences[kind]:.1g} of the network's", hanging=2)
    if package.error is not None and row.error is not None:
        error = info.metric.error
        show_text(f"Trained again: validation {error} {package.error:.2f} %, in the study {row.error:.2f} %.")
    if not train:
        what = "only the host's own weights are trained" if package.started else "the weights are untrained"
        note(f"{what}; --train repeats the trial's training first")
