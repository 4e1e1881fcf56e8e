"""Images of a training stay where they are: splits of a seed's own, parts and halves are rows, not copies."""

from __future__ import annotations

import torch

from attnsearch.core.trial import Recipe
from attnsearch.data import open_data
from attnsearch.train.images import (
    Picked,
    device_data,
    picked,
    resplit,
    with_half_of_train,
    with_half_of_val,
)


def maps(count: int, first: int) -> torch.Tensor:
    """Images (count, 3, 2, 2) in channels-last memory; each holds one number, from `first` on."""
    numbers = torch.arange(first, first + count, dtype=torch.uint8)
    return numbers[:, None, None, None].expand(count, 2, 2, 3).contiguous().permute(0, 3, 1, 2)


def numbers(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_rows_of_two_tensors_are_read_as_of_one() -> None:
    both = picked([maps(4, 0), maps(3, 10)], torch.tensor([6, 0, 3, 4]))
    assert both.shape == (4, 3, 2, 2)
    assert numbers(both[:]) == [12, 0, 3, 10]
    assert numbers(both[1:3]) == [0, 3]
    assert numbers(both[torch.tensor([3, 3, 0])]) == [10, 10, 12]
    assert [int(image[0, 0, 0]) for image in both] == [12, 0, 3, 10]
    assert both[:].is_contiguous(memory_format=torch.channels_last)


def test_rows_of_picked_rows() -> None:
    first = picked([maps(4, 0), maps(3, 10)], torch.tensor([6, 0, 3]))
    again = picked([maps(2, 20), first], torch.tensor([False, True, True, False, True]))
    assert numbers(again[:]) == [21, 12, 3]


def test_nothing_is_copied() -> None:
    data = open_data("digits")
    whole = device_data(data, Recipe(), "cpu")
    held = {whole.train_images.data_ptr(), whole.val_images.data_ptr()}  # type: ignore[union-attr]
    few = device_data(data, Recipe(train_images=100), "cpu")
    assert len(few.train_images) == len(few.train_labels) == 100
    made = [
        few.train_images,
        resplit(whole, 3).train_images,
        resplit(few, 3).val_images,
        with_half_of_val(whole, "second").val_images,
        with_half_of_train(resplit(whole, 3)).train_images,
    ]
    for images in made:
        assert isinstance(images, Picked)
        assert {part.data_ptr() for part in images.parts} <= held


def test_the_kept_images_are_those_of_their_labels() -> None:
    data = open_data("digits")
    few = device_data(data, Recipe(train_images=100), "cpu")
    whole = device_data(data, Recipe(), "cpu")
    known = {
        bytes(image.flatten().tolist()): int(label)
        for image, label in zip(whole.train_images, whole.train_labels, strict=True)
    }
    for image, label in zip(few.train_images, few.train_labels, strict=True):
        assert known[bytes(image.flatten().tolist())] == int(label)
