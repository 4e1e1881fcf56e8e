"""What a gate does to a trained network before it has learned anything: accuracy with it, at both of its starts.

    python -m benchmarks.pretrained.inserted WEIGHTS --host resnet20 --data cifar10/ --out results/pretrained

Every gate in every residual unit, at every position, nothing trained. With `init: identity` no image may be classified
otherwise than by the plain network; with `init: default` the table says what is left. Files: start.json and start.md.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnsearch.blocks import registry
from attnsearch.build.checkpoint import Checkpoint, read_checkpoint
from attnsearch.build.host_weights import load_host
from attnsearch.build.resnet import build
from attnsearch.core.normalisation import CONVENTIONS
from attnsearch.data import open_test
from attnsearch.data.batches import normalise, on_device
from attnsearch.report import atomic
from attnsearch.space.arch import INITS, POSITIONS
from attnsearch.space.presets import read_arch

BATCH = 250
SEED = 0
OPTIONS = {"ela": {"block": "ela", "form": "B"}}  # form T needs 32 channels, the first stage has 16


def guesses(checkpoint: Checkpoint, host: dict[str, Any], stage: dict[str, Any], images: Tensor) -> Tensor:
    """The class that the network with this in every stage takes each image for."""
    arch = read_arch({"host": host, "stages": [stage]})
    model = build(arch, seed=SEED)
    load_host(model, checkpoint, head=True)
    model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        parts = [model(normalise(x, *CONVENTIONS["imagenet"])).argmax(1) for x in images.split(BATCH)]
    return torch.cat(parts)


def rows(weights: str, host: dict[str, Any], data: str, count: int | None) -> dict[str, Any]:
    """Accuracy in percent by gate, start and position, and images classified otherwise than without the gate."""
    images, labels = on_device(open_test(data), "cpu")
    images, labels = images[:count], labels[:count]
    checkpoint = read_checkpoint(weights)
    plain = guesses(checkpoint, host, {}, images)
    found: dict[str, Any] = {
        "host": host,
        "images": len(labels),
        "seed": SEED,
        "torch": torch.__version__,
        "plain": 100 * float((plain == labels).float().mean()),
        "gates": {},
    }
    for gate in [name for name, info in registry.blocks().items() if info.slot == "attention"]:
        entry: dict[str, Any] = {}
        for init in INITS:
            for position in POSITIONS:
                stage = {"attention": OPTIONS.get(gate, gate), "init": init, "position": position}
                seen = guesses(checkpoint, host, stage, images)
                accuracy = 100 * float((seen == labels).float().mean())
                entry.setdefault(init, {})[position] = [accuracy, int((seen != plain).sum())]
        found["gates"][gate] = entry
        print(gate, entry, flush=True)
    return found


def table(found: dict[str, Any]) -> str:
    """The table as Markdown, one row for each gate."""
    lines = [
        f"Accuracy in percent on {found['images']:,} images, nothing trained; without a gate {found['plain']:.2f}.",
        "",
        f"| gate | {' | '.join(POSITIONS)} | other answers, identity start |",
        f"|---|{'--:|' * (len(POSITIONS) + 1)}",
    ]
    for gate, entry in found["gates"].items():
        default = " | ".join(f"{entry['default'][position][0]:.2f}" for position in POSITIONS)
        changed = sum(entry["identity"][position][1] for position in POSITIONS)
        lines.append(f"| {gate} | {default} | {changed} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights")
    parser.add_argument("--host", default="resnet20")
    parser.add_argument("--shortcut", default="pad")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/pretrained"))
    args = parser.parse_args()
    began = time.monotonic()
    found = rows(args.weights, {"name": args.host, "shortcut": args.shortcut}, args.data, args.images)
    found["seconds"] = round(time.monotonic() - began)
    args.out.mkdir(parents=True, exist_ok=True)
    atomic.write(args.out / "start.json", json.dumps(found, indent=1) + "\n")
    atomic.write(args.out / "start.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
