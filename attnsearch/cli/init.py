"""`attnsearch init FILE`: a space file to begin with, every line explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnsearch.cli.common import note, option, setting, show_text
from attnsearch.core.errors import EnvironmentFault, UsageError

EXAMPLE = """\
# A space: one question about a ResNet, as the things that may stand in its slots.
# See what it holds:  attnsearch spaces {file}
# Answer it:          attnsearch run --space {file}

question: Which attention, in which stages, is worth its cost on my images?

host: resnet20          # resnet8 to resnet110: small images; resnet18 to resnet152: large ones
# host: {{name: resnet18, stem: cifar, width: 32}}      # a stem, a width of your own
# host: {{name: resnet50, weights: resnet50.pth}}       # already trained
# Or a model of your own, with --host-module my_model.py: host: {{module: my_model.py, make: build}}

stages:                 # one mapping for all stages, each stage chooses for itself; or a list, one per stage
  attention:            # what may stand behind the convolutions of a unit
    - none              # nothing: keep it among the choices
    - eca
    - {{block: se, ratio: [4, 16]}}       # a list is a choice; `attnsearch blocks se` tells the options
    - {{block: cbam, kernel: [3, 7]}}
  units: [all, last]    # in every residual unit of the stage, or in its last one: all, first, last, alternate
  # position: [before_add, after_stage]  # where in the unit: before_add, after_conv, after_add, after_stage
  # init: identity      # a gate that starts as x -> x, so that the network begins as it was without it
  # conv: [conv3x3, dsconv]              # what may stand in the place of a 3x3 convolution

# tied: true            # one choice for all stages: a far smaller space
# limits: {{params: 1.2x, macs: 60M}}      # never train what costs more; x is times the plain host

recipe: {{epochs: 12, lr: 0.2, batch_size: 128}}

for_data:
  cued-digits:          # the embedded data: a shallower host, so that a first run ends in minutes
    host: {{name: resnet8, unit: single}}
    recipe: {{epochs: 4, lr: 0.015, batch_size: 32, optimizer: adamw, warmup: 0.15}}
"""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as my_space.yaml.")],
    data: Annotated[str, option("Images that it should fit: a folder, a file, a name.")] = "",
    weights: Annotated[str | None, setting("weights")] = None,
    image_size: Annotated[int | None, setting("image_size")] = None,
) -> None:
    """Write a space file to begin with, every line explained.

    An example, or one that fits the images of --data and the checkpoint of --weights.
    """
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{file}: a space file ends in .yaml")
    if file.exists():  # before the images are read, which may take long
        raise UsageError(f"{file} exists and is left as it is; choose another name")
    text, options = EXAMPLE.format(file=file), ""
    if data:
        text, options = _fitted(file, data, weights, image_size)
    elif weights or image_size:
        raise UsageError("--weights and --image-size fit the space to images: add --data")
    try:
        with open(file, "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UsageError(f"{file} exists and is left as it is; choose another name") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot write {file}: {error.strerror}") from None
    show_text(f"Wrote {file}. Now edit it, then:")
    for command in ("spaces", "run --space"):  # not wrapped: it is to be copied
        typer.echo(f"  attnsearch {command} {file}{options}")


def _fitted(file: Path, data: str, weights: str | None, image_size: int | None) -> tuple[str, str]:
    """The text for these images, and the options that name them."""
    from attnsearch.core.checks import check_data

    check_data(data)
    from attnsearch.tools.fitted_space import fitted

    made = fitted(file, data, weights, image_size)
    for warning in made.warnings:
        note(warning)
    return made.text, f" {made.options}"
