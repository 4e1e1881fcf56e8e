"""`attnsearch run`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnsearch.cli.common import (
    Json,
    Out,
    Plugins,
    RequiredSpace,
    Storage,
    StudyOption,
    add_plugins,
    option,
    positive,
    whole,
)
from attnsearch.cli.common import (
    workers as worker_count,
)

if TYPE_CHECKING:
    from attnsearch.core.settings import Settings
    from attnsearch.space.space import Space
    from attnsearch.study.study import Study


def _count(help: str) -> Any:
    return option(help, "N", whole)


def run(
    space: RequiredSpace = "",
    data: Annotated[str, option("A name, hf:NAME, a folder, a .parquet or .npz file.")] = "cluttered-digits",
    study: StudyOption = None,
    trials: Annotated[int | None, _count("Trainings in all, those before --resume counted.")] = None,
    timeout: Annotated[float | None, option("Start nothing new after so long.", "SECONDS", positive)] = None,
    epochs: Annotated[int | None, _count("Length of a proxy training.")] = None,
    batch_size: Annotated[int | None, _count("Images per step.")] = None,
    lr: Annotated[float | None, option("Peak of the one-cycle schedule.", "RATE", positive)] = None,
    train_images: Annotated[int | None, _count("At most so many, a fixed stratified part.")] = None,
    resplit: Annotated[bool, typer.Option("--resplit", help="Re-split train/val per seed.")] = False,
    seeds: Annotated[int | None, _count("Seed blocks of a design; most fresh seeds of one arch.")] = None,
    seed: Annotated[int, option("Of the study; every trial's seed follows from it.")] = 0,
    design: Annotated[str | None, option("search, or an ablation: loo, add, swap, factorial.")] = None,
    reference: Annotated[str | None, option("What a design adds or leaves out.", "OPTION|...")] = None,
    margin: Annotated[float | None, option("A difference below it would not matter.", "POINTS", positive)] = None,
    controls: Annotated[str, option("Run beside a design: null, width, frozen, by comma; or none.")] = "null,width",
    enqueue: Annotated[list[str], option("Train this arch first, to the end; may be repeated.", "OPTION|...")] = [],  # noqa: B006
    sampler: Annotated[str, option("auto, exhaustive, pool, tpe, nsga2, random or gp.")] = "auto",
    pruner: Annotated[str, option("par, none, moasha or one-epoch.")] = "par",
    confirm: Annotated[float, option("Share of the trials for fresh seeds and verdicts.", "SHARE")] = 0.5,
    cost: Annotated[str, option("Cost axis: macs, params, flops, bytes_moved, ...")] = "macs",
    budget: Annotated[str, option('Limits before training, as "params<=1.2x,macs<=60M".', "LIMITS")] = "",
    workers: Annotated[int | None, option("Processes, or gpus.", "N", worker_count)] = None,
    device: Annotated[str, option("auto, cpu, cuda, or cuda:0,cuda:1.")] = "auto",
    engine: Annotated[str, option("local: processes of this machine; ray: the nodes of a cluster.")] = "local",
    address: Annotated[str, option("Of the Ray cluster.", "HOST:PORT")] = "",
    patience: Annotated[float, option("Wait so long for a node of the cluster.", "SECONDS", positive)] = 600.0,
    trial_timeout: Annotated[float | None, option("End a training that takes longer.", "SECONDS", positive)] = None,
    retries: Annotated[int, option("Times a training is begun again whose worker died.", "N")] = 2,
    image_size: Annotated[int | None, option("Resize images to squares of this side.", "PIXELS", whole)] = None,
    min_per_class: Annotated[int | None, option("Leave out classes with fewer images.", "N", whole)] = None,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Read links out of an image folder.")] = False,
    on_bad_image: Annotated[str, option("fail, or skip and count.")] = "fail",
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    storage: Storage = None,
    out: Out = Path("results"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study that exists.")] = False,
    extend: Annotated[str | None, option("Take over what another study found out.", "STUDY")] = None,
    allow_changed_data: Annotated[bool, typer.Option("--allow-changed-data", help="Resume all the same.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Search a space, or work off an ablation; then report.

    Ends with the front of accuracy against cost, or with the verdicts of the ablation.
    """
    from attnsearch.core.settings import Settings
    from attnsearch.space.space import load_space
    from attnsearch.store import sqlite

    given = {name: value for name, value in locals().items() if name in Settings.__dataclass_fields__}
    given["enqueue"] = tuple(enqueue)
    settings = Settings(**given, costs=tuple(cost.split(",")), bad_images=on_bad_image).check()  # type: ignore[arg-type]
    add_plugins(plugin)
    question = load_space(space)
    if not resume:
        sqlite.check_free(settings.study or question.name, settings.url())
    finished = _watched(question, settings)
    _show(finished, out / finished.name, json)


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
