"""`attnsearch plan`: how many seeds and hours an ablation takes."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnsearch.cli.common import (
    HostModule,
    Json,
    Out,
    Plugins,
    RequiredSpace,
    Storage,
    StudyOption,
    add_plugins,
    allow_host_module,
    check_host_module,
    check_study,
    note,
    option,
    positive,
    setting,
    show_json,
    show_table,
    show_text,
    whole,
)
from attnsearch.core.errors import UsageError
from attnsearch.core.metrics import METRICS

VISIBLE = "found with 80 % power; none where the seeds leave too little to know the noise by"

if TYPE_CHECKING:
    from attnsearch.core.settings import Settings
    from attnsearch.report.formatting import Table
    from attnsearch.space.space import Space
    from attnsearch.statistics.power import Plan
    from attnsearch.study.planning import Noise

SHOWN = (3, 5, 6, 10, 20)  # seeds whose smallest visible effect is listed


def plan(
    space: RequiredSpace = "",
    effect: Annotated[float, option("The gain or harm that must not be missed.", "POINTS", positive)] = 1.0,
    design: Annotated[str | None, option("search, loo, add, swap, factorial, named; else the space's, or add.")] = None,
    trials: Annotated[int | None, option("Of a search.", "N", whole)] = None,
    confirm: Annotated[float, setting("confirm")] = 0.5,
    sd: Annotated[float | None, option("Of a run over seeds, where you know it.", "POINTS", positive)] = None,
    study: StudyOption = None,
    measure: Annotated[int | None, option("Train the baseline so often to know its noise.", "N", whole)] = None,
    seeds: Annotated[int | None, option("Seeds that you could afford.", "N", whole)] = None,
    data: Annotated[str, option("A name, hf:NAME, a folder, a .parquet or .npz file.")] = "cued-digits",
    reference: Annotated[str | None, option("What a design adds or leaves out.", "OPTION|...")] = None,
    controls: Annotated[str, option("As `run` has them, by comma; or none.")] = "null,width,narrow",
    epochs: Annotated[int | None, option("Length of a proxy training.", "N", whole)] = None,
    weights: Annotated[str | None, setting("weights")] = None,
    image_size: Annotated[int | None, setting("image_size")] = None,
    train_images: Annotated[int | None, option("At most so many.", "N", whole)] = None,
    metric: Annotated[str | None, setting("metric")] = None,
    class_weights: Annotated[str | None, setting("class_weights")] = None,
    resplit: Annotated[bool, typer.Option("--resplit", help="Re-split train/val per seed.")] = False,
    workers: Annotated[int, option("Trainings side by side, for the hours.", "N", whole)] = 1,
    device: Annotated[str, option("auto, cpu or cuda, for --measure.")] = "auto",
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    storage: Storage = None,
    out: Out = Path("results"),
    json: Json = False,
) -> None:  # fmt: skip
    """Say how many seeds and hours an ablation or a search takes.

    The noise between seeds comes from --sd, from the records of --study, or from --measure runs.
    """
    from attnsearch.core.settings import Settings
    from attnsearch.space.space import load_space

    add_plugins(plugin)
    allow_host_module(host_module)
    question = load_space(space, weights)
    check_host_module(host_module, question.host.module, question.host.name)
    kind = design or (question.design if question.design != "search" else "add")
    settings = Settings(
        data=data, design=kind, reference=reference, controls=controls, epochs=epochs,
        image_size=image_size, train_images=train_images, metric=metric, class_weights=class_weights,
        weights=weights, resplit=resplit, device=device, storage=storage, out=out,
    ).check()  # fmt: skip
    if study is not None:
        check_study(study, storage, out)

    from attnsearch.study import planning
    from attnsearch.study.search_shape import TRIALS

    if kind == "search":
        noise, control = _noise(question, settings, sd, study, measure), "narrow" in controls.split(",")
        search = planning.search_plan(trials or TRIALS, confirm, noise, control=control, workers=workers)
        return show_json(asdict(search)) if json else show_text(str(search))
    variants = len(planning.rows(question, settings, note))
    noise = _noise(question, settings, sd, study, measure)
    planned = _ablation(effect, variants, noise, workers, seeds)
    return show_json(asdict(planned)) if json else _show(planned, question, settings, seeds)


def _ablation(effect: float, variants: int, noise: Noise, workers: int, at_hand: int | None) -> Plan:
    from attnsearch.statistics import power

    return power.plan(
        effect, variants, sd=noise.sd, degrees=noise.degrees, rho=noise.rho,
        seconds=noise.seconds, workers=workers, at_hand=at_hand,
    )  # fmt: skip


def _show(planned: Plan, space: Space, settings: Settings, at_hand: int | None) -> None:
    from attnsearch.study.starting_weights import prepared

    show_text(str(planned))
    minimised = METRICS[prepared(space, settings).recipe.metric]
    if minimised.name != "error":
        show_text(f"Points are {minimised.points}.")
    show_table(_visible(planned, at_hand))


def _noise(space: Space, settings: Settings, sd: float | None, study: str | None, runs: int | None) -> Noise:
    from attnsearch.study import planning
    from attnsearch.study.starting_weights import prepared
    from attnsearch.study.study import open_study

    if sum(source is not None for source in (sd, study, runs)) != 1:
        raise UsageError("Say where the noise between seeds comes from: one of --sd, --study and --measure")
    if sd is not None:
        return planning.Noise(sd)
    if study is not None:
        record = open_study(study, settings.storage, out=settings.out).record
        return planning.known(record, prepared(space, settings))
    return planning.measured(space, settings, runs or 0, note)


def _visible(planned: Plan, at_hand: int | None) -> Table:
    """Smallest effect that so many seeds see."""
    from attnsearch.report.formatting import Column, Table
    from attnsearch.statistics.power import mde

    def visible(n: int) -> float | None:
        points = mde(n, planned.variants, sd=planned.sd, rho=planned.rho)
        return points if math.isfinite(points) else None

    listed = sorted({*SHOWN, *(n for n in (planned.seeds, at_hand) if n)})
    columns = (
        Column("seeds", "seeds", "integer"),
        Column("trials", "trials", "integer"),
        Column("visible_points", "smallest visible effect (points)", "number", note=VISIBLE),
        Column("is", ""),
    )
    rows = tuple(
        (
            n,
            n * planned.variants,
            visible(n),
            f"enough for {planned.effect:.2f}" if n == planned.seeds else "",
        )
        for n in listed
    )
    return Table("plan", "What so many seeds would see", columns, rows)
