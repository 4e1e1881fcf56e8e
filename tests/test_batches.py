"""Augmentation and normalisation of whole batches, against one image at a time in NumPy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from attnsearch.core.augmentations import AUGMENTATIONS
from attnsearch.core.errors import UsageError
from attnsearch.data import open_data
from attnsearch.data.batches import normalise, on_device
from attnsearch.train.augment import augment
from attnsearch.train.augment.pixels import crop, cutout, flip

SHAPES = [(64, 3, 32, 32), (64, 1, 8, 8), (5, 3, 12, 20)]


def batch(shape: tuple[int, ...], channels_last: bool = True) -> torch.Tensor:
    """Every pixel above 0, so that black is told from image."""
    images = torch.randint(1, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return images.to(memory_format=torch.channels_last) if channels_last else images


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_flip_gives_each_image_or_its_mirror(shape, channels_last):
    images = batch(shape, channels_last)
    changed = flip(images, generator())
    mirrored = [torch.equal(new, old.flip(2)) for new, old in zip(changed, images, strict=True)]
    same = [torch.equal(new, old) for new, old in zip(changed, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 0 < sum(mirrored) < len(images)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_crop_shifts_each_image_and_leaves_black(shape, channels_last):
    images = batch(shape, channels_last)
    changed = crop(images, generator(), pad=2).numpy()
    height, width = shape[2:]
    shifts = set()
    for new, old in zip(changed, images.numpy(), strict=True):
        padded = np.pad(old, ((0, 0), (2, 2), (2, 2)))
        fits = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if (padded[:, y : y + height, x : x + width] == new).all()
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert len(shifts) > len(images) // 5


def test_crop_reaches_every_shift_equally_often():
    """4 pixels each way: 81 shifts. Chi-square with 80 degrees of freedom is below 124.8 with p = 0.999."""
    images = torch.zeros(8100, 1, 32, 32, dtype=torch.uint8)
    images[:, :, 16, 16] = 255
    place = crop(images, generator()).flatten(1).argmax(1)
    counts = torch.bincount(place)
    counts = counts[counts > 0].double()
    assert len(counts) == 81
    assert float(((counts - 100) ** 2 / 100).sum()) < 124.8


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_blackens_one_square(shape):
    images = batch(shape)
    changed = cutout(images, generator(), hole=4)
    sizes = set()
    for new, old in zip(changed, images, strict=True):
        black = (new == 0).all(0)
        assert torch.equal(new[:, ~black], old[:, ~black])
        y, x = black.nonzero(as_tuple=True)
        height, width = int(y.max() - y.min()) + 1, int(x.max() - x.min()) + 1
        assert int(black.sum()) == height * width
        sizes.add((height, width))
    assert max(sizes) == (4, 4)
    assert min(sizes) >= (2, 2)  # centred within the image


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_input_is_left_as_it_is(name):
    images = batch((16, 3, 32, 32))
    before = images.clone()
    augment(images, (name,), generator())
    torch.testing.assert_close(images, before, rtol=0, atol=0)


def test_the_generator_alone_decides():
    images, names = batch((128, 3, 32, 32)), ("flip", "crop", "cutout")
    torch.manual_seed(1)
    first = augment(images, names, generator(3))
    torch.manual_seed(2)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        second = augment(images, reversed(names), generator(3))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, augment(images, names, generator(4)))


def test_no_names_change_nothing_and_draw_nothing():
    images, source = batch((4, 3, 32, 32)), generator()
    state = source.get_state()
    assert augment(images, (), source) is images
    assert torch.equal(source.get_state(), state)


def test_an_unknown_augmentation_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"Unknown augmentation 'flop'\. Did you mean 'flip'\?"):
        augment(batch((4, 3, 32, 32)), ("flop",), generator())


@pytest.mark.parametrize("names", [("flip",), ("crop",), ("cutout",), ("flip", "crop", "cutout")])
def test_batches_stay_uint8_and_channels_last(names):
    changed = augment(batch((16, 3, 32, 32)), names, generator())
    assert changed.dtype == torch.uint8
    assert changed.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise_follows_its_formula(dtype):
    images, mean, std = batch((16, 3, 32, 32)), (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
    out = normalise(images, mean, std, dtype)
    pixels = images.numpy().astype(np.float64) / 255
    expected = (pixels - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    torch.testing.assert_close(
        out, torch.from_numpy(expected).to(dtype), rtol=1e-5 if dtype == torch.float32 else 8e-3, atol=1e-6
    )
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_normalised_training_images_have_mean_0_and_std_1(tmp_path):
    data = open_data("digits", cache=tmp_path)
    images, _ = on_device(data.train, "cpu")
    out = normalise(images, data.mean, data.std)
    assert abs(float(out.mean())) < 1e-5
    assert abs(float(out.std(correction=0)) - 1) < 1e-5


def test_on_the_cpu_the_cache_itself_is_used(tmp_path):
    data = open_data("cluttered-digits", limit=100, cache=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images, labels = on_device(data.train, "cpu")
    assert images.data_ptr() == data.train.images.ctypes.data
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(images.numpy(), data.train.images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cpu_generator_gives_a_gpu_the_same_images():
    images, names = batch((64, 3, 32, 32)), ("flip", "crop", "cutout")
    here = augment(images, names, generator())
    there = augment(images.cuda(), names, generator())
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=0)
