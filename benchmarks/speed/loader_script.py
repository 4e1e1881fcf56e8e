"""The script that its user would write instead: transforms per image in a DataLoader, float32, one trial after another.

Nothing here is slow on purpose: it is what tutorials show. Torch and the loader use all cores, as they do by default.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import optuna
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from attnsearch.build.resnet import build
from attnsearch.core.trial import Recipe
from attnsearch.data import Data
from attnsearch.space.arch import Arch


class CBAM(nn.Module):
    """As in the public copies of the official code, serial, ratio 16, kernel 7."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 1)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.average, self.maximum = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.mlp(self.average(x)) + self.mlp(self.maximum(x)))
        pooled = torch.cat([torch.max(x, 1, keepdim=True)[0], torch.mean(x, 1, keepdim=True)], 1)
        return x * torch.sigmoid(self.norm(self.conv(pooled)))


class Images(Dataset[tuple[Tensor, int]]):
    """One image at a time: pad, crop, flip, to float, normalise."""

    def __init__(self, data: Data, split: str, augment: bool) -> None:
        chosen = getattr(data, split)
        self.images, self.labels = chosen.images, chosen.labels
        self.names = data.augment if augment else ()
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (data.mean, data.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(np.ascontiguousarray(self.images[i]))
        if "crop" in self.names:
            pad = image.shape[1] // 8
            top, left = (int(v) for v in torch.randint(2 * pad + 1, (2,)))
            image = F.pad(image, (pad,) * 4)[:, top : top + image.shape[1], left : left + image.shape[2]]
        if "flip" in self.names and torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image.float() / 255 - self.mean) / self.std, int(self.labels[i])


def network(block: str, classes: int, seed: int) -> nn.Module:
    """The same ResNet from the same start, with the CBAM above where that is asked for."""
    arch = Arch.from_dict({"host": {"name": HOST}, "stages": [{}] * 3})
    model = build(arch, classes=classes, seed=seed)
    if block == "cbam":
        for stage in model.layers():
            for unit in stage:  # type: ignore[attr-defined]
                unit.attention, unit.position = CBAM(unit.bn2.num_features), "before_add"
    return model


HOST = "resnet20"


def search(data: Data, recipe: Recipe, blocks: list[str], seed: int) -> list[dict[str, Any]]:
    """One trial per block under `study.optimize`: seconds and validation accuracy in percent of each."""
    rows: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        block, began = trial.suggest_categorical("block", blocks), time.perf_counter()
        accuracy = train(network(block, len(data.classes), seed), data, recipe, seed)
        rows.append({"block": block, "seconds": time.perf_counter() - began, "accuracy": accuracy})
        return accuracy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler({"block": blocks}))
    study.optimize(objective, n_trials=len(blocks))
    return rows


def train(model: nn.Module, data: Data, recipe: Recipe, seed: int) -> float:
    """Validation accuracy in percent after the recipe's epochs, looked at after each."""
    torch.manual_seed(seed)
    loader = DataLoader(
        Images(data, "train", True), recipe.batch_size, shuffle=True, drop_last=True, num_workers=2
    )
    check = DataLoader(Images(data, "val", False), 500, num_workers=2)
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    steps, climb = recipe.epochs * len(loader), max(1, round(recipe.warmup * recipe.epochs * len(loader)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (
            (s + 1) / climb
            if s < climb
            else 0.5 * (1 + math.cos(math.pi * (s + 1 - climb) / (steps - climb + 1)))
        ),
    )
    right = 0
    for _ in range(recipe.epochs):
        model.train()
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss.item()  # for the progress bar
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in check)
    return 100 * right / len(data.val.labels)
