"""The images of a training on its device, and which of them train and validate.

Images stay where they are: on a CPU in the cache's memory-map, which all workers share. A split of a seed's own, a part
or a half of them are numbers of rows, never copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from attnsearch.core.messages import ValHalf
from attnsearch.core.normalisation import convention
from attnsearch.core.seeds import derive
from attnsearch.core.trial import Recipe
from attnsearch.data import Data, rows_of, subset
from attnsearch.data.batches import on_device
from attnsearch.data.dataset import Rows
from attnsearch.data.grouping import split_groups
from attnsearch.data.split import stratified


class Picked:
    """Rows of images (N, C, H, W) in one or more tensors, read as they are indexed, by a slice or a tensor of numbers.

    Args:
        parts: one after the other, all on one device.
        rows: numbers in all of them together.
    """

    def __init__(self, parts: Sequence[Tensor], rows: Tensor) -> None:
        self.parts, self.rows = tuple(parts), rows
        self.shape = torch.Size((len(rows), *parts[0].shape[1:]))
        self.device = parts[0].device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Images (n, C, H, W), each a whole run of memory, channels last."""
        rows = self.rows[index]
        runs = [part.permute(0, 2, 3, 1) for part in self.parts]  # whole rows gather faster than planes
        if len(runs) == 1:
            return runs[0][rows].permute(0, 3, 1, 2)
        images = torch.empty((len(rows), *runs[0].shape[1:]), dtype=runs[0].dtype, device=self.device)
        first = 0
        for run in runs:
            here = (rows >= first) & (rows < first + len(run))
            images[here] = run[rows[here] - first]
            first += len(run)
        return images.permute(0, 3, 1, 2)

    def __iter__(self) -> Iterator[Tensor]:
        """One image (C, H, W) after the other."""
        return (self[i : i + 1][0] for i in range(len(self)))


Images = Tensor | Picked


def picked(parts: Sequence[Images], chosen: Tensor) -> Picked:
    """Rows of images that stand one after the other, by their numbers or by a mask; of picked ones, rows of theirs."""
    tensors, numbers, first = list[Tensor](), list[Tensor](), 0
    for part in parts:
        own = part.rows if isinstance(part, Picked) else torch.arange(len(part), device=part.device)
        held = part.parts if isinstance(part, Picked) else (part,)
        numbers.append(own + first)
        tensors += held
        first += sum(map(len, held))
    return Picked(tensors, torch.cat(numbers)[chosen])


@dataclass(frozen=True)
class DeviceData:
    """Training and validation images as uint8 on the device, with what is needed to feed them.

    Args:
        groups: numbers of training, then validation images that must stay together when they are split again.
        half: whether half of the training images are used, each twice an epoch: as many steps on fewer images.
    """

    train_images: Images
    train_labels: Tensor
    val_images: Images
    val_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: tuple[str, ...]
    groups: Tensor | None = None
    half: bool = False

    @property
    def classes(self) -> int:
        """Classes; each has an image in one of the splits at least."""
        return 1 + max(int(self.train_labels.max()), int(self.val_labels.max()))


def device_data(data: Data, recipe: Recipe, device: torch.device | str) -> DeviceData:
    """Move a data set's uint8 images to the device, at most `recipe.train_images` of them for training."""
    mean, std = convention(recipe.normalise, data.image[0]) or (data.mean, data.std)
    kept, groups = rows_of(data.train, recipe.train_images), None
    if data.groups is not None:
        groups = torch.from_numpy(np.concatenate([data.groups["train"][kept], data.groups["val"]]))
    return DeviceData(
        *_training(data, kept, device),
        *on_device(data.val, device),
        mean=mean,
        std=std,
        augment=data.augment if recipe.augment is None else recipe.augment,
        groups=groups,
    )


def _training(data: Data, kept: Rows, device: torch.device | str) -> tuple[Images, Tensor]:
    """The kept training images: a GPU gets no others, on a CPU they stay where they are."""
    if len(kept) == len(data.train):
        return on_device(data.train, device)
    if torch.device(device).type != "cpu":
        return on_device(subset(data.train, len(kept)), device)
    images, labels = on_device(data.train, device)
    rows = torch.from_numpy(kept)
    return Picked((images,), rows), labels[rows]


def resplit(data: DeviceData, seed: int) -> DeviceData:
    """The same images in another split into training and validation, with as many of each class in validation.

    Images of one group (see `Data`) stay together: whole groups go to validation until a class has its number there,
    and what is then left of a group there is left out. Mean and standard deviation stay those of the first split.
    """
    labels = torch.cat([data.train_labels, data.val_labels])
    generator = torch.Generator().manual_seed(derive(seed, "split"))
    order = torch.randperm(len(labels), generator=generator)
    if data.groups is not None:
        rank = torch.randperm(int(data.groups.max()) + 1, generator=generator)
        order = order[torch.argsort(rank[data.groups[order]], stable=True)]
    order = order.to(labels.device)
    chosen = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    for kind, count in enumerate(data.val_labels.bincount().tolist()):
        members = order[labels[order] == kind]
        chosen[members[:count]] = True
    barred = torch.zeros_like(chosen)
    if data.groups is not None:
        of = data.groups.to(labels.device)
        barred = torch.isin(of, of[chosen]) & ~chosen
    return replace(
        data,
        train_images=picked([data.train_images, data.val_images], ~(chosen | barred)),
        train_labels=labels[~(chosen | barred)],
        val_images=picked([data.train_images, data.val_images], chosen),
        val_labels=labels[chosen],
        groups=None,
    )


def with_half_of_val(data: DeviceData, which: ValHalf) -> DeviceData:
    """The data with one fixed stratified half of its validation images: a search chooses by the first, the last
    block of seeds is judged on the second.
    """
    first = torch.zeros(len(data.val_labels), dtype=torch.bool)
    labels = data.val_labels.cpu().numpy()
    if data.groups is None:
        rows = stratified(labels, len(labels) // 2)
    else:  # no group in both halves
        rows, _ = split_groups(labels, data.groups[len(data.train_labels) :].cpu().numpy(), 0.5, 0)
    first[torch.from_numpy(rows)] = True
    taken = (first if which == "first" else ~first).to(data.val_labels.device)
    images = picked([data.val_images], taken)
    return replace(data, val_images=images, val_labels=data.val_labels[taken], groups=None)


def with_half_of_train(data: DeviceData) -> DeviceData:
    """The data with one fixed stratified half of its training images, each of them twice: as many rows as before."""
    labels = data.train_labels.cpu().numpy()
    half = torch.from_numpy(stratified(labels, -(-len(labels) // 2)))
    rows = torch.cat([half, half])[: len(labels)].to(data.train_labels.device)
    images = picked([data.train_images], rows)
    return replace(data, train_images=images, train_labels=data.train_labels[rows], groups=None)


__all__ = [
    "DeviceData",
    "Images",
    "Picked",
    "device_data",
    "picked",
    "resplit",
    "with_half_of_train",
    "with_half_of_val",
]
