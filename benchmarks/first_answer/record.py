"""Trainings of the embedded data, judged image by image, for `control` and `noise`.

    python -m benchmarks.first_answer.record --out /tmp/recorded --seeds 12 plain 7-14-28 4-8-16 cbam

A network is `plain`, widths of the plain host, or a block for every unit. Each seed has a training and validation split
of its own, as in the last block of a search; beside the 2,000 validation images each training is judged on 8,000 more
that are made of the same digits. One npz a training: `wrong` and `loss` of every image after every epoch, of
the live weights, and the same of averaged weights after the last one (decay 0.99: over the last 100 steps or so).
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnsearch.build.resnet import build
from attnsearch.core.trial import Epoch, Recipe
from attnsearch.data import open_data
from attnsearch.data.batches import normalise
from attnsearch.data.digits import CUED_SIDE, _handwritten, cue
from attnsearch.space.arch import Arch
from attnsearch.train import fused
from attnsearch.train.fit import fit
from attnsearch.train.images import DeviceData, Picked, device_data, resplit

RECIPE = Recipe(epochs=4, batch_size=32, optimizer="adamw", lr=0.015, warmup=0.15)
MORE = 8_000
BATCH = 500
DECAY = 0.99
FIRST_SEED = 900  # of the last block of a study of seed 0


def arch_of(name: str) -> Arch:
    """`plain`, `7-14-28` or a block's name, in the host of the default run."""
    host: dict[str, Any] = {"name": "resnet8", "unit": "single"}
    if name[0].isdigit():
        host["widths"] = [int(width) for width in name.split("-")]
    block = "none" if name == "plain" or name[0].isdigit() else name
    return Arch.from_dict({"host": host, "stages": [{"attention": block}]})


@cache
def _data() -> DeviceData:
    torch.set_num_threads(1)
    return device_data(open_data("cued-digits"), RECIPE, "cpu")


def more_images(data: DeviceData, seed: int) -> tuple[Tensor, Tensor]:
    """Further images, and their classes, of the digits that this seed's split keeps for validation."""
    kept = resplit(data, seed).val_images
    assert data.groups is not None
    assert isinstance(kept, Picked)
    rows = data.groups[kept.rows].unique().numpy()
    ink, kinds = _handwritten()
    images, labels, _ = cue(ink[rows], kinds[rows], MORE, CUED_SIDE, np.random.default_rng([7, seed]))
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)


@torch.inference_mode()
def judged(model: nn.Module, images: Tensor, labels: Tensor, data: DeviceData) -> tuple[Tensor, Tensor]:
    """(N,) whether each image is named wrongly, and its cross-entropy."""
    model.eval()
    parts = []
    for start in range(0, len(images), BATCH):
        x = normalise(images[start : start + BATCH], data.mean, data.std, torch.float32)
        with fused.kernels():
            parts.append(model(x).float())
    logits = torch.cat(parts)
    return logits.argmax(1) != labels, F.cross_entropy(logits, labels, reduction="none")


def record(name: str, seed: int, out: Path, epochs: int = RECIPE.epochs) -> str:
    """One training, written to `out`; a line that says so."""
    data, recipe = _data(), replace(RECIPE, epochs=epochs, ema=DECAY, resplit=True)
    split, (extra, extra_labels) = resplit(data, seed), more_images(data, seed)
    images, labels = torch.cat([split.val_images[:], extra]), torch.cat([split.val_labels, extra_labels])
    model = build(arch_of(name), seed=seed)
    wrong, loss = [], []

    def on_epoch(epoch: Epoch) -> bool:
        w, nats = judged(model, images, labels, data)
        wrong.append(w.numpy())
        loss.append(nats.numpy())
        return True

    began = time.process_time()
    history = fit(model, data, recipe, seed=seed, on_epoch=on_epoch)
    seconds = time.process_time() - began
    np.savez_compressed(
        out / f"{name},{epochs},{seed}.npz",
        wrong=np.array(wrong), loss=np.array(loss, np.float32),
        averaged=np.array([history[-1].val_error, history[-1].val_loss]), seconds=seconds,
    )  # fmt: skip
    few, many = (100 * float(wrong[-1][part].mean()) for part in (slice(2000), slice(2000, None)))
    return f"{name} seed {seed}: {few:.2f} %, {many:.2f} %, {seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    wanted = [(name, seed) for seed in seeds for name in options.names]
    missing = [(n, s) for n, s in wanted if not (options.out / f"{n},{options.epochs},{s}.npz").exists()]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        futures = [pool.submit(record, n, s, options.out, options.epochs) for n, s in missing]
        for future in futures:
            print(future.result(), flush=True)


if __name__ == "__main__":
    main()
