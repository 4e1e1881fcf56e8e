"""`attnsearch evaluate ARCH --weights FILE`: what a checkpoint is worth on images, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from attnsearch.cli.common import (
    HostModule,
    Json,
    Plugins,
    add_plugins,
    allow_host_module,
    check_host_module,
    note,
    option,
    setting,
    show_json,
    show_table,
    show_text,
)
from attnsearch.cli.cost import ArchArgument

if TYPE_CHECKING:
    from attnsearch.report.formatting import Table
    from attnsearch.tools.evaluate import Evaluation


def evaluate(
    arch: ArchArgument,
    data: Annotated[str, option("A name, hf:NAME, a folder, a .parquet or .npz file.")],
    weights: Annotated[
        str, option("A checkpoint, else the one that ARCH names; FILE::KEY: one of several in it.", "FILE")
    ] = "",
    split: Annotated[str, option("train, val, test, or all.")] = "test",
    normalise: Annotated[
        str, option("imagenet, cifar10, cifar100, half, none, data, or MEANS/STDS.", "WORD")
    ] = "auto",
    image_size: Annotated[int | None, setting("image_size")] = None,
    resize: Annotated[str, setting("resize")] = "crop",
    on_bad_image: Annotated[str, option("fail, or skip and count.")] = "fail",
    device: Annotated[str, option("cpu, cuda or cuda:1.")] = "cpu",
    plugin: Plugins = [],  # noqa: B006  # typer makes a fresh list for each call
    host_module: HostModule = None,
    json: Json = False,
) -> None:
    """Test a checkpoint on images, without training.

    Accuracy, balanced accuracy, macro-F1, top-5 and the recall of each class, in float32 and eval mode.
    """
    from attnsearch.core.checks import check_data
    from attnsearch.core.normalisation import convention
    from attnsearch.space.presets import read_start

    add_plugins(plugin)
    allow_host_module(host_module)
    network, named = read_start(arch)
    weights = weights or named
    check_host_module(host_module, network.host.module, network.host.name)
    convention(normalise)
    check_data(data)  # mistyped words are answered before torch is imported

    from attnsearch.core.machine import pick_devices
    from attnsearch.tools.evaluate import evaluate as run

    options = {"image_size": image_size, "resize": resize, "on_bad_image": on_bad_image}
    found = run(
        network,
        weights,
        data,
        split=split,
        normalisation=normalise,
        device=pick_devices(device)[0],
        options=options,
    )
    if json:
        show_json(
            {"arch": str(network), "host": network.to_dict()["host"], "weights": weights, **found.to_dict()}
        )
        return
    for sentence in (f"{weights or arch}: {found.loaded}", *found.warnings):
        note(sentence)
    _show(found, split)


def _show(evaluation: Evaluation, split: str) -> None:
    images = f"{evaluation.n:,} images" if split == "all" else f"{evaluation.n:,} {split} images"
    right = f"{evaluation.accuracy:.2f} % of {images} right"
    show_text(f"{right}, error {100 - evaluation.accuracy:.2f} %", "bold")
    scores = evaluation.counts.scores()
    top5 = f", top-5 accuracy {scores['top5']:.2f} %" if "top5" in scores else ""
    show_text(
        f"Mean recall of the classes (balanced accuracy): {scores['balanced_accuracy']:.2f} %, "
        f"macro-F1 {scores['macro_f1']:.2f} %{top5}."
    )
    size = "×".join(map(str, evaluation.image))
    show_text(f"Images {size}, normalised by {evaluation.note}. No training, float32, eval mode.")
    show_text()
    show_table(_table(evaluation))


def _table(evaluation: Evaluation) -> Table:
    from attnsearch.report.formatting import Column, Table

    rows = tuple(zip(evaluation.classes, evaluation.counts.images, evaluation.counts.recalls(), strict=True))
    columns = (
        Column("class", "class"),
        Column("n", "images", "number", 0),
        Column("recall", "recall %", "number", 2),
    )
    return Table("classes", "Classes", columns, rows)


__all__ = ["evaluate"]
