"""`attnsearch dashboard [STUDY]`: Optuna's dashboard, to look and not to touch."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from attnsearch.cli.common import Out, Storage, StudyArgument, check_study, note, whole


def dashboard(
    study: StudyArgument = None,
    storage: Storage = None,
    out: Out = Path("results"),
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", parser=whole, help="Port to listen on.")] = 8080,
    public: Annotated[
        bool, typer.Option("--i-know-it-is-public", help="Allow a --host that others can reach.")
    ] = False,
) -> None:
    """Serve Optuna's dashboard, read-only, on this machine."""
    from attnsearch.report.dashboard import MANY_TRIALS, application, check_place, server

    check_place(host, port, public=public)  # before anything heavy is imported

    check_study(study, storage, out)

    from attnsearch.core.settings import Settings
    from attnsearch.store.database import open_storage
    from attnsearch.study.study import open_study

    opened = open_study(study, storage, out=out)
    if len(opened.record.trials) > MANY_TRIALS:
        note(f"{len(opened.record.trials):,} trials: the dashboard will be slow; `attnsearch report` is not")
    database = open_storage(Settings(storage=storage, out=out).url(), create=False)
    served = server(application(database), host, port, public=public)
    number = database.get_study_id_from_name(opened.name)
    if public:
        note("everybody who reaches this address can read every study of the database")
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{port}/dashboard/studies/{number}   (Ctrl-C ends it)", file=sys.stderr, flush=True)
    with served, contextlib.suppress(KeyboardInterrupt):
        served.serve_forever()
