"""`attnsearch run`: the main job."""

from __future__ import annotations

from dataclasses import fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnsearch.cli._groups import GroupedCommand, by_name, grouped
from attnsearch.cli.common import (
    Json,
    Out,
    Plugins,
    Storage,
    StudyOption,
    add_plugins,
    allow_host_module,
    check_host_module,
    option,
    required_space,
    setting,
    show_json,
    show_table,
    show_text,
    whole,
)
from attnsearch.core.errors import UsageError
from attnsearch.core.settings import Settings, flags, kind_of

if TYPE_CHECKING:
    from attnsearch.core.requirements import Requirements
    from attnsearch.report.formatting import Table
    from attnsearch.space.space import Space
    from attnsearch.study.study import Study


DRY_RUN_HELP = "Say what the run will take in time and memory, and stop."
SPACE_HELP = "Search space: a built-in name (attnsearch spaces) or a YAML file."


def run(
    *,
    space: str,
    host: str,
    blocks: str,
    stages: str,
    plugin: list[Path],
    dry_run: bool,
    json: bool,
    **values: Any,
) -> None:
    """Run an architecture search or an ablation, and report.

    Ends with the Pareto front of error against cost, or with the verdicts of the ablation.
    """
    from attnsearch.store import sqlite

    if not (host or blocks or stages):
        required_space(space)
    settings = Settings(**values).check()
    add_plugins(plugin)
    allow_host_module(settings.host_module)
    question = _question(space, host, blocks, stages, settings)
    check_host_module(settings.host_module, question.host.module, question.host.name)
    if not settings.resume:
        sqlite.check_free(settings.study or question.name, settings.url())
    if dry_run:
        _show_requirements(question, settings, json)
        return
    finished = _watched(question, settings)
    _show(finished, settings.out / finished.name, json)


def _question(space: str, host: str, blocks: str, stages: str, settings: Settings) -> Space:
    """The space that is named, or the one that --host and --blocks ask for."""
    from attnsearch.space.question import written
    from attnsearch.space.space import load_space, read_space

    if not (host or blocks or stages):
        return load_space(space, settings.weights)
    if space:
        raise UsageError(
            "--space states the whole question; --host, --blocks and --stages make one without a file"
        )
    if not host or not blocks:
        raise UsageError("a question without a file takes both, as in --host resnet18 --blocks se,cbam,eca")
    text = written(host, _words(blocks), [whole(word) for word in _words(stages)], settings.weights or "")
    return read_space(text, host, settings.weights)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _parameter(name: str, default: Any) -> Parameter:
    """A field of `Settings` as a parameter that typer makes an option of."""
    shared = {"study": StudyOption, "storage": Storage, "out": Out}
    kind: Any = kind_of(name)
    if kind is tuple:  # an option that may be repeated, or one text with commas
        kind, default = (list[str], []) if default == () else (str, ",".join(default))
    kind = kind | None if default is None else kind
    return _keyword(name, shared.get(name, Annotated[kind, setting(name)]), default)


def _keyword(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


GROUPS = by_name(
    {
        "First of all": ("space", "data", "trials", "epochs", "workers"),
        "What to train": (
            *("host", "blocks", "stages", "host_module", "weights", "freeze", "lr", "batch_size", "metric"),
            *("class_weights", "plugin"),
        ),
        "Search": ("sampler", "pruner", "confirm", "costs", "budget", "enqueue", "extend"),
        "Ablation": ("design", "reference", "controls", "seeds", "margin", "effect"),
        "Data": (
            *(
                "image_size",
                "resize",
                "train_images",
                "resplit",
                "data_seed",
                "min_per_class",
                "group_by",
                "follow_links",
            ),
            "bad_images",
        ),
        "Machine": (
            *("device", "engine", "address", "patience", "timeout", "trial_timeout", "retries", "seed"),
            "dry_run",
        ),
        "Output": ("study", "out", "storage", "resume", "allow_changed_data", "no_images", "json"),
    }
)
OTHERS = "Further options"  # settings that no group names yet


def _signature() -> Signature:
    """Every option of the command, in the order of its groups."""
    found = [
        _keyword("space", Annotated[str, option(SPACE_HELP, "NAME|FILE")], ""),
        _keyword(
            "host", Annotated[str, option("Without --space: the backbone, such as resnet18.", "NAME")], ""
        ),
        _keyword(
            "blocks",
            Annotated[str, option("Attention blocks to add to --host, one variant each.", "NAME,...")],
            "",
        ),
        _keyword(
            "stages", Annotated[str, option("Insert into each of these stages separately.", "N,...")], ""
        ),
        *(_parameter(field.name, field.default) for field in fields(Settings) if field.name in flags()),
        _keyword("plugin", Plugins, []),
        _keyword("dry_run", Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)], False),
        _keyword("json", Json, False),
    ]
    order = list(GROUPS)
    found.sort(key=lambda entry: order.index(entry.name) if entry.name in GROUPS else len(order))
    return Signature(
        [
            entry.replace(annotation=grouped(entry.annotation, GROUPS.get(entry.name, OTHERS)))
            for entry in found
        ]
    )


run.__signature__ = _signature()  # type: ignore[attr-defined]
COMMAND = GroupedCommand


def _show_requirements(question: Space, settings: Settings, json: bool) -> None:
    """What the run would take, on stdout; nothing is trained, and no study is left."""
    from attnsearch.cli._progress import Lines
    from attnsearch.study.run import Run

    needed = Run(question, settings, Lines()).estimate()
    if json:
        show_json({"study": settings.study or question.name, **needed.to_dict()})
        return
    show_text(f"It {needed}.")
    show_table(_timed(needed))


def _timed(needed: Requirements) -> Table:
    from attnsearch.report.formatting import Column, Table

    columns = (
        Column("arch", "timed arch"),
        Column("steps", "steps", "integer"),
        Column("step", "seconds a step", "number", 3),
        Column("seconds", "seconds a training", "number", 1),
    )
    rows = tuple((timed.arch, timed.steps, timed.step, timed.seconds) for timed in needed.timed)
    return Table("timed", "Timed steps", columns, rows)


def _watched(question: Space, settings: Settings) -> Study:
    """Run under a progress display that gives the terminal back however the run ends."""
    from attnsearch.cli._progress import observer
    from attnsearch.study.run import Run

    watcher = observer()
    try:
        return Run(question, settings, watcher).execute()
    finally:
        watcher.close()


def _show(study: Study, folder: Path, json: bool) -> None:
    """The report on stdout; where its files are, on stderr."""
    from attnsearch import report as reports
    from attnsearch.cli.report import print_report

    print_report(reports.build(study.record), json)
    typer.echo(
        f"\nThe whole report: {folder / 'report.html'}. Again: attnsearch report {study.name}", err=True
    )
