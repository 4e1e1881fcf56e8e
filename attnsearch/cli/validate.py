"""`attnsearch validate`: does the short proxy rank like a long training?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    option,
    positive,
    setting,
    show_json,
    whole,
)
from attnsearch.cli.common import workers as worker_count


def validate(
    study: StudyArgument = None,
    archs: Annotated[int, option("Archs trained long; at least 8.", "N", whole)] = 30,
    factor: Annotated[int, option("How many times longer.", "N", whole)] = 4,
    seeds: Annotated[int, option("Of every arch at both lengths.", "N", whole)] = 1,
    timeout: Annotated[float | None, option("Start nothing new after so long.", "SECONDS", positive)] = None,
    workers: Annotated[int | None, option("Processes; gpus: one per GPU.", "N", worker_count)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps, or cuda:0,cuda:1.")] = "auto",
    weights: Annotated[str | None, setting("weights")] = None,
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    storage: Storage = None,
    out: Out = Path("results"),
    json: Json = False,
) -> None:  # fmt: skip
    """Say whether a short proxy ranks archs as a long one.

    Trains a sample of a study's archs to greater length.
    """
    check_study(study, storage, out)

    from attnsearch.cli._progress import observer
    from attnsearch.cli.common import show_text
    from attnsearch.statistics import proxy
    from attnsearch.study import proxy_audit

    add_plugins(plugin)
    watcher = observer()
    try:
        done = proxy_audit.validate(
            study, archs=archs, factor=factor, seeds=seeds, storage=storage, out=out, observer=watcher,
            timeout=timeout, workers=workers, device=device, weights=weights, host_module=host_module,
        )  # fmt: skip
    finally:
        watcher.close()
    outcome = done.record.info.audit
    values = outcome.to_attrs()["audit"] if outcome else {}
    if json:
        show_json(values)
    else:
        show_text(str(proxy.Audit.of(values)))
