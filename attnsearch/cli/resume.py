"""`attnsearch resume [STUDY]`: go on with a study by the command that began it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from attnsearch.cli.common import (
    HostModule,
    Out,
    Storage,
    StudyArgument,
    check_study,
    option,
    positive,
    whole,
)

# What a study's database says of these is not taken from there: where it lies, and whose code may run.
LEFT_OUT = ("--storage", "--out", "--study", "--host-module")


def resume(
    study: StudyArgument = None,
    trials: Annotated[int | None, option("Trainings in all; the study's own number when left out.", "N", whole)] = None,
    timeout: Annotated[float | None, option("Start nothing new after so long.", "SECONDS", positive)] = None,
    host_module: HostModule = None,
    storage: Storage = None,
    out: Out = Path("results"),
) -> None:  # fmt: skip
    """Go on with a study: the command that began it, with --resume.

    Finished trainings are kept, interrupted ones are run again.
    """
    check_study(study, storage, out)

    from attnsearch.cli import app
    from attnsearch.core.settings import Settings
    from attnsearch.study.study import open_study

    opened = open_study(study, storage, out=out)
    arguments = run_arguments(opened.name, opened.record.info.run.command or "")
    arguments += [
        "--study",
        opened.name,
        "--storage",
        Settings(storage=storage, out=out).url(),
        "--out",
        str(out),
    ]
    arguments += ["--host-module", host_module] if host_module else []
    arguments += ["--trials", str(trials)] if trials else []
    arguments += ["--timeout", f"{timeout:g}"] if timeout else []
    app([*arguments, "--resume"], prog_name="attnsearch", standalone_mode=False)


def run_arguments(name: str, command: str) -> list[str]:
    """The arguments of `attnsearch` that began a study, without those that say where it is kept or that let code run.

    Raises:
        UsageError: it was not begun on a command line.
    """
    from attnsearch.core.errors import UsageError

    words = shlex.split(command)
    if words[:2] != ["attnsearch", "run"]:
        raise UsageError(
            f"study '{name}' was not begun by `attnsearch run`: run its command again with resume=True"
            + (f": {command}" if command else "")
        )
    kept: list[str] = []
    skip = False
    for word in words[1:]:
        if skip or word == "--resume":
            skip = False
        elif word in LEFT_OUT:
            skip = True
        elif not word.startswith(tuple(f"{name}=" for name in LEFT_OUT)):
            kept.append(word)
    return kept
