"""A space file that fits a data set, and weights where there are any: every line explained, ready to run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from attnsearch.core.errors import UsageError
from attnsearch.core.normalisation import CIFAR_SIDE, IMAGENET_SIDE
from attnsearch.core.text import many, printable
from attnsearch.data import Data, open_data
from attnsearch.space.space import read_space

STEPS = 8  # of an epoch at least: fewer, and a short training is over before its rate has come down
PHOTOS, SMALL = 32, 128  # images of a batch at most: 128 photos take gigabytes in each worker
NAMED = 5  # classes that are listed

TEXT = """\
# A space: one question about a ResNet, made for {data}.
# Images: {images}.
# Classes: {classes}.
# See what it holds:  {spaces}
# What it takes:      {run} --dry-run
# Answer it:          {run}

question: Which attention, in which stages, is worth its cost on {name}?

{host}

stages:                 # one mapping for all stages, each stage chooses for itself; or a list, one per stage
  attention:            # what may stand behind the convolutions of a unit
    - none              # nothing: keep it among the choices
    - eca
    - {{block: se, ratio: [4, 16]}}       # a list is a choice; `attnsearch blocks se` tells the options
    - {{block: cbam, kernel: [3, 7]}}
  units: [all, last]    # in every residual unit of the stage, or in its last one: all, first, last, alternate
  # position: [before_add, after_stage]  # where in the unit: before_add, after_conv, after_add, after_stage
  # init: {init}
  # conv: [conv3x3, dsconv]              # what may stand in the place of a 3x3 convolution

# design: add           # not a search but an ablation: each block for itself, with a verdict
# tied: true            # one choice for all stages: a far smaller space
# limits: {{params: 1.2x, macs: 60M}}      # never train what costs more; x is times the plain host

{recipe}
"""


@dataclass(frozen=True)
class FittedSpace:
    """The text of a space file, and the options that go with it on the command line."""

    text: str
    options: str
    warnings: tuple[str, ...]


def fitted(file: Path, data: str, weights: str | None = None, image_size: int | None = None) -> FittedSpace:
    """A search on this data set, in the host that the weights fit or in one for images of this size.

    Args:
        file: where the text will stand, for the commands in it.

    Raises:
        DataError: the images cannot be read or split. UsageError: the file holds no weights of a ResNet that we know.
    """
    host, stem = _host(weights)
    opened, asked = _opened(data, stem, image_size)
    options = shlex.join(["--data", data, *(["--image-size", str(asked)] if asked else [])])
    name = printable(Path(data).name or data)
    text = TEXT.format(
        data=printable(data),
        images=_images(opened),
        classes=_classes(opened),
        spaces=f"attnsearch spaces {shlex.quote(str(file))} {options}",
        run=f"attnsearch run --space {shlex.quote(str(file))} {options}",
        name=_quoted_inside(name),
        host=host,
        init="[identity, default]   # with weights, a gate starts as x -> x unless it is told otherwise"
        if weights
        else "identity      # a gate that starts as x -> x, so that the network begins as it was without it",
        recipe=_recipe(opened, bool(weights)),
    )
    read_space(text, file.stem)  # what is written can be run
    return FittedSpace(text, options, opened.warnings)


def _host(weights: str | None) -> tuple[str, str]:
    """The lines of the host, and its stem."""
    if weights is None:
        line = (
            "host: resnet20          # resnet8 to resnet110: small images; resnet18 to resnet152: large ones"
        )
        more = "# host: {name: resnet18, weights: FILE}   # a trained one, at the size of its images"
        return f"{line}\n{more}", "cifar"
    from attnsearch.build.checkpoint import read_checkpoint
    from attnsearch.build.host_weights import host_of, identify, spelled
    from attnsearch.space.arch import Host

    host = host_of(read_checkpoint(weights))
    if host is None:
        raise UsageError(f"{weights}: its names are not those of a ResNet that attnsearch knows")
    path = "'" + identify(weights).path.replace("'", "''") + "'"
    line = f"host: {spelled({**host, 'weights': path})}   # what these weights fit"
    return line, str(host.get("stem") or Host(host["name"]).filled().stem)


def _opened(data: str, stem: str, side: int | None) -> tuple[Data, int | None]:
    """The images at the size that suits the stem, and the size to ask for where it is not what a run would take."""
    if side is not None:
        return open_data(data, image_size=side), side
    if stem != "cifar":
        return open_data(data, image_size=IMAGENET_SIDE), IMAGENET_SIDE
    return open_data(data), None


def _images(data: Data) -> str:
    sizes = {split: sum(counts.values()) for split, counts in data.counts.items()}
    splits = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    return f"{splits}; {data.image[1]}×{data.image[2]} pixels here, --image-size changes that"


def _classes(data: Data) -> str:
    sizes = data.counts["train"]
    least = min(sizes, key=lambda name: sizes[name])
    few = many(sizes[least], "training image")
    listed = ", ".join(data.classes[:NAMED]) + (", ..." if len(data.classes) > NAMED else "")
    return f"{len(data.classes)} ({printable(listed)}); '{printable(least)}' has the fewest, {few}"


def _recipe(data: Data, weights: bool) -> str:
    """A recipe whose batches give some steps an epoch; the rate follows the batch."""
    most = PHOTOS if max(data.image[1:]) > 2 * CIFAR_SIDE else SMALL
    images = len(data.train)
    batch = 4
    while 2 * batch <= min(most, images // STEPS):
        batch *= 2
    if weights:
        lr = f"{0.01 * batch / 64:.2g}"
        return (
            f"recipe: {{start: finetune, batch_size: {batch}, lr: {lr}}}   # a low peak, the head at ten times it\n"
            "# freeze: host in it trains blocks and head alone; norm: frozen leaves the statistics of the norms"
        )
    return (
        f"recipe: {{epochs: 12, lr: {0.2 * batch / 128:.2g}, batch_size: {batch}}}   # `attnsearch validate` tells "
        "whether that is long enough to rank by"
    )


def _quoted_inside(name: str) -> str:
    """A name that may stand in a plain line of YAML."""
    return "".join(c if c.isalnum() or c in "-_. " else " " for c in name).strip() or "my images"


__all__ = ["FittedSpace", "fitted"]
