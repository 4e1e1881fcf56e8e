"""Augmentations against Pillow, colorsys and formulas; seeds; one operation an image; losses of mixed labels."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import beta, kstest
from torch.nn import functional as F

from attnsearch.build.resnet import build
from attnsearch.core.augmentations import AUGMENTATIONS, MIXES, parse
from attnsearch.core.errors import SpaceError, UsageError
from attnsearch.core.trial import Recipe
from attnsearch.space.presets import read_arch
from attnsearch.space.space import read_space
from attnsearch.train.augment import CHANGES, augment, color, draws, geometry, mix
from attnsearch.train.augment.mixing import _MIXES
from attnsearch.train.augment.policy import LEVELS, OPERATIONS
from attnsearch.train.fit import fit
from attnsearch.train.images import DeviceData
from attnsearch.train.loss import Loss

NUMBERED = [name for name, row in AUGMENTATIONS.items() if row.strength is not None]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(height: int = 20, width: int = 24, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """(C, H, W) soft blobs with some noise, so that operations have something to work on."""
    drawn = torch.rand(1, channels, 4, 4, generator=generator(seed))
    blobs = F.interpolate(drawn, (height, width), mode="bicubic")[0]
    noise = torch.rand(blobs.shape, generator=generator(seed + 1))
    return (255 * (0.9 * blobs + 0.1 * noise)).clamp(0, 255).to(torch.uint8)


def photos(count: int, **shape: int) -> torch.Tensor:
    return torch.stack([photo(seed=i, **shape) for i in range(count)]).to(memory_format=torch.channels_last)


def changed(name: str, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """What becomes of images by one augmentation, mixed with each other or not."""
    if name in MIXES:
        labels = torch.arange(len(images)) % 3
        return mix(images, labels, (name,), generator(seed), 3)[0]
    return augment(images, (name,), generator(seed))


def test_every_row_has_its_function() -> None:
    assert [*CHANGES, *_MIXES] == list(AUGMENTATIONS)
    assert set(_MIXES) == set(MIXES)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_seed_decides_whatever_draws_beside_it(name: str) -> None:
    images = photos(48)
    torch.manual_seed(1)
    first = changed(name, images)
    torch.manual_seed(2)
    torch.rand(1000)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        second = changed(name, images)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, changed(name, images, seed=5))


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name not in MIXES])
def test_each_image_is_changed_in_its_own_way(name: str) -> None:
    """64 copies of one image: two outcomes of a flip, half of them erased, and many of the rest."""
    images = photo()[None].repeat(64, 1, 1, 1)
    kinds = len(torch.unique(changed(name, images).flatten(1), dim=0))
    least = {"flip": 2, "crop": 15, "random_erasing": 20}.get(name, 30)
    assert kinds >= least


def test_mixed_images_have_partners_and_shares_of_their_own() -> None:
    images = photos(64)
    for name in MIXES:
        _, target = mix(images, torch.arange(64), (f"{name}=1",), generator(), 64)
        shares = target.diagonal()
        assert len(torch.unique(shares)) > 40  # of a rectangle in pixels some are alike
        assert (target.sum(1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [{}, {"height": 8, "width": 8}, {"channels": 1}, {"channels": 4}])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_and_range_stay(name: str, shape: dict[str, int]) -> None:
    images = photos(40, **shape)
    out = changed(name, images)
    assert out.shape == images.shape
    assert out.dtype == (torch.float32 if name in MIXES else torch.uint8)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 255


@pytest.mark.parametrize("name", NUMBERED)
def test_off_is_the_identity_and_draws_nothing(name: str) -> None:
    images, source, labels = photos(4), generator(), torch.arange(4)
    state = source.get_state()
    off = f"{name}={AUGMENTATIONS[name].off:g}"
    assert augment(images, (off,), source) is images
    assert mix(images, labels, (off,), source, 4) == (images, labels)
    assert torch.equal(source.get_state(), state)


@pytest.mark.parametrize("name", ["color_jitter=1e-6", "random_resized_crop=0.9999"])
def test_next_to_nothing_changes_next_to_nothing(name: str) -> None:
    images = photos(16)
    difference = augment(images, (name,), generator()).int() - images.int()
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("name", list(OPERATIONS)[:10])
def test_operations_at_level_0_are_the_identity(name: str) -> None:
    images = photos(8)
    out = OPERATIONS[name](images, torch.zeros(8), torch.ones(8))
    torch.testing.assert_close(out, images, rtol=0, atol=0)


def pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def distance(ours: torch.Tensor, theirs: Image.Image) -> int:
    return int(np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - np.asarray(theirs).astype(int)).max())


ENHANCERS = {
    color.brightness: ImageEnhance.Brightness,
    color.contrast: ImageEnhance.Contrast,
    color.saturation: ImageEnhance.Color,
    color.sharpness: ImageEnhance.Sharpness,
}


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize("change", ENHANCERS, ids=lambda change: change.__name__)
def test_colours_are_pillows(change: object, factor: float) -> None:
    """Within 2 of 255: Pillow cuts fractions off, of the lightness as of the result."""
    image = photo()
    ours = change(image[None], torch.tensor([factor]))  # type: ignore[operator]
    assert distance(ours, ENHANCERS[change](pillow(image)).enhance(factor)) <= 2  # type: ignore[index]


def test_whole_number_operations_are_pillows_to_the_bit() -> None:
    image = photo(64, 64)  # 16 pixels for each of the 256 numbers, so that equalising has something to round
    assert (
        distance(color.posterize(image[None], torch.tensor([3])), ImageOps.posterize(pillow(image), 3)) == 0
    )
    assert (
        distance(color.solarize(image[None], torch.tensor([99.0])), ImageOps.solarize(pillow(image), 99)) == 0
    )
    assert distance(color.equalize(image[None]), ImageOps.equalize(pillow(image))) == 0
    assert distance(color.autocontrast(image[None]), ImageOps.autocontrast(pillow(image))) <= 1
    one = torch.full_like(image, 7)[None]
    assert torch.equal(color.autocontrast(one), one)
    assert torch.equal(color.equalize(one), one)


@pytest.mark.parametrize("turn", [-0.4, 0.1, 0.5])
def test_hue_is_colorsys(turn: float) -> None:
    image = photo(6, 6)
    ours = color.hue(image[None], torch.tensor([turn]))[0]
    for y in range(6):
        for x in range(6):
            h, s, v = colorsys.rgb_to_hsv(*(float(c) / 255 for c in image[:, y, x]))
            expected = [255 * c for c in colorsys.hsv_to_rgb((h + turn) % 1, s, v)]
            assert ours[:, y, x].tolist() == pytest.approx(expected, abs=0.51)


@pytest.mark.parametrize("degrees", [25.0, -130.0])
def test_rotation_is_pillows(degrees: float) -> None:
    image = photo(21, 21)
    maps = geometry.rotate(torch.tensor([degrees]), 21, 21)
    ours = geometry.sampled(image[None], maps, "nearest", "zeros")[0].permute(1, 2, 0).numpy()
    differs = (ours != np.asarray(pillow(image).rotate(degrees))).any(2)
    assert differs.mean() < 0.01  # places half-way between two pixels may round either way


MAPS = {
    "shear_x": (geometry.shear_x, lambda v: (1, v, 0, 0, 1, 0)),
    "shear_y": (geometry.shear_y, lambda v: (1, 0, 0, v, 1, 0)),
    "shift_x": (geometry.shift_x, lambda v: (1, 0, -v, 0, 1, 0)),
    "shift_y": (geometry.shift_y, lambda v: (1, 0, 0, 0, 1, -v)),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("amount", [0.37, -0.21])
def test_shears_and_shifts_are_pillows(name: str, amount: float) -> None:
    amount = round(10 * amount) if name.startswith("shift") else amount
    make, coefficients = MAPS[name]
    image = photo()
    ours = geometry.sampled(image[None], make(torch.tensor([float(amount)]), 20, 24), "nearest", "zeros")
    theirs = pillow(image).transform((24, 20), Image.Transform.AFFINE, coefficients(amount))
    differs = (ours[0].permute(1, 2, 0).numpy() != np.asarray(theirs)).any(2)
    assert differs.mean() < 0.01


def test_strengths_of_the_policy_are_its_papers() -> None:
    """TrivialAugment's wide space at its top level: 32 pixels, 135 degrees, factor 1.99, 2 bits, threshold 0."""
    ramp = torch.arange(64, dtype=torch.uint8).repeat(1, 3, 64, 1)
    top, plus = torch.ones(1), torch.ones(1)
    assert torch.equal(
        OPERATIONS["shift_x"](ramp, top, plus)[0, 0, 0, 32:], torch.arange(32, dtype=torch.uint8)
    )
    assert OPERATIONS["brightness"](ramp, top, plus)[0, 0, 0, 50] == round(1.99 * 50)
    assert OPERATIONS["posterize"](ramp, top, plus).unique().tolist() == [0]
    assert torch.equal(OPERATIONS["solarize"](ramp, top, plus), 255 - ramp)
    half = torch.full((1,), 15 / (LEVELS - 1))
    assert OPERATIONS["posterize"](ramp, half, plus).unique().tolist() == [
        0,
        8,
        16,
        24,
        32,
        40,
        48,
        56,
    ]  # 5 bits


def test_resized_crops_are_rectangles_of_the_definition() -> None:
    """On ramps the result is a ramp: its slope is the side's share, so area and ratio can be read back."""
    size = 64
    x = torch.arange(size, dtype=torch.float32).repeat(size, 1) * 4
    images = torch.stack([x, x.T, torch.zeros(size, size)]).to(torch.uint8).repeat(400, 1, 1, 1)
    out = augment(images, ("random_resized_crop=0.2",), generator()).float()
    inner = slice(8, -8)
    wide = (out[:, 0, 32, inner].diff(dim=1).mean(1)) / 4
    high = (out[:, 1, inner, 32].diff(dim=1).mean(1)) / 4
    area, ratio = wide * high, wide / high
    assert float(area.min()) > 0.18
    assert float(area.max()) < 1.02
    assert float(ratio.min()) > 0.73
    assert float(ratio.max()) < 1.37
    assert abs(float(area[area < 0.7].mean()) - 0.45) < 0.02  # even from 0.2 to 0.7, where every ratio fits


def test_erasing_leaves_the_rest_and_keeps_its_share() -> None:
    images = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    out = augment(images, ("random_erasing=0.25",), generator())
    erased = (out != 0).any(1)
    hit = erased.flatten(1).any(1)
    assert 70 < int(hit.sum()) < 130  # of 400 with p = 1/4: 100 with standard deviation 8.7
    area = erased[hit].float().mean((1, 2))
    assert float(area.min()) > 0.01
    assert float(area.max()) < 0.36
    filled = out[hit].permute(0, 2, 3, 1)[erased[hit]].float()
    assert abs(float(filled.mean()) - 127.5) < 3


@pytest.mark.parametrize("a", [0.2, 1.0, 3.0])
def test_shares_are_of_beta(a: float) -> None:
    shares = draws.beta(a, 3000, generator(), torch.device("cpu"))
    assert kstest(shares.numpy().astype(float), beta(a, a).cdf).pvalue > 0.01


def test_mixup_is_its_formula() -> None:
    """Images as bright as their label: the brightness is the expected label."""
    labels = torch.arange(50)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 4, 4)
    out, target = mix(images, labels, ("mixup=1",), generator(), 50)
    expected = target @ labels.float()
    torch.testing.assert_close(out, expected.view(-1, 1, 1, 1).expand_as(out), rtol=1e-5, atol=1e-4)
    assert out.dtype == torch.float32


@pytest.mark.parametrize("names", [("cutmix",), ("mixup", "cutmix"), ("cutmix", "mixup")])
def test_cutmix_pixels_and_labels_have_one_share(names: tuple[str, ...]) -> None:
    labels = torch.arange(60)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 16, 20)
    out, target = mix(images, labels, names, generator(), 60)
    torch.testing.assert_close(out.mean((1, 2, 3)), target @ labels.float(), rtol=1e-4, atol=1e-3)
    cut = 0
    for image, label in zip(out[:, 0], labels, strict=True):
        foreign = image != label
        rows, columns = foreign.any(1).sum(), foreign.any(0).sum()
        assert int(foreign.sum()) == int(rows * columns)  # one rectangle, or the whole image
        cut += 0 < int(foreign.sum()) < foreign.numel()
    assert cut > (50 if len(names) == 1 else 15)
    if len(names) == 2:
        assert cut < 45
        again, _ = mix(images, labels, tuple(reversed(names)), generator(), 60)
        torch.testing.assert_close(again, out, rtol=0, atol=0)


def test_losses_of_mixed_labels_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]])
    target = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    plain = -(0.7 * log_p[0, 0] + 0.3 * log_p[0, 1] + log_p[1, 2]) / 2
    torch.testing.assert_close(Loss(Recipe(), torch.arange(3), 3)(logits, target), plain)
    # Smoothing by 0.3 moves 0.1 to every class.
    smooth = 0.7 * target + 0.1
    found = Loss(Recipe(label_smoothing=0.3), torch.arange(3), 3)(logits, target)
    torch.testing.assert_close(found, -(smooth * log_p).sum() / 2)
    # 4 images of class 0, 2 and 2: weights 8 / (3 x 4) = 2/3, 4/3, 4/3.
    weighted = Loss(Recipe(class_weights="balanced"), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]), 3)
    total = -(0.7 * 2 / 3 * log_p[0, 0] + 0.3 * 4 / 3 * log_p[0, 1] + 4 / 3 * log_p[1, 2])
    torch.testing.assert_close(weighted(logits, target), total / (0.7 * 2 / 3 + 0.3 * 4 / 3 + 4 / 3))


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(class_weights="balanced"), Recipe(label_smoothing=0.1)])
def test_labels_as_whole_shares_have_the_loss_of_labels(recipe: Recipe) -> None:
    logits = torch.randn(8, 4, generator=generator())
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
    loss = Loss(recipe, labels, 4)
    torch.testing.assert_close(loss(logits, F.one_hot(labels, 4).float()), loss(logits, labels))
    assert loss.weight(F.one_hot(labels, 4).float()) == pytest.approx(loss.weight(labels))


def trained(recipe: Recipe, seed: int = 3) -> list[float]:
    """Losses of two epochs on 48 small images of three classes."""
    images, labels = photos(48, height=12, width=12), torch.arange(48) % 3
    data = DeviceData(images, labels, images[:12], labels[:12], (0.5,) * 3, (0.25,) * 3, recipe.augment or ())
    model = build(read_arch({"host": {"name": "resnet8", "width": 4}}), classes=3, seed=0)
    return [epoch.train_loss for epoch in fit(model, data, recipe, seed=seed)]


def test_a_training_with_all_of_them_follows_its_seed() -> None:
    recipe = Recipe(epochs=2, batch_size=16, augment=tuple(AUGMENTATIONS), precision="float32")
    first = trained(recipe)
    assert trained(recipe) == first
    assert trained(recipe, seed=4) != first
    assert all(math.isfinite(loss) for loss in first)
    assert trained(Recipe(epochs=2, batch_size=16, augment=(), precision="float32")) != first


MISTAKES = {
    "[flip, mixupp]": "Unknown augmentation 'mixupp'. Did you mean 'mixup'",
    "[resized_crop]": "Did you mean 'random_resized_crop'",
    "[colour_jitter]": "Did you mean 'color_jitter'",
    "[flip=0.5]": "flip takes no number, got 'flip=0.5'",
    "[random_erasing=2]": "random_erasing: probability must be from 0 to 1, got '2'",
    "[mixup=a]": "mixup: a must be from 0 to 100, got 'a'",
    "[flip, crop, flip]": "augmentation flip is named twice",
    "flip": "augment must be a list of flip, crop, random_resized_crop",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_in_a_recipe(line: str) -> None:
    text = f"host: resnet8\nstages: {{attention: [none, se]}}\nrecipe: {{augment: {line}}}\n"
    with pytest.raises(SpaceError) as caught:
        read_space(text, "x")
    assert MISTAKES[line] in str(caught.value)


def test_a_recipe_with_numbers_is_read() -> None:
    text = (
        "host: resnet8\nstages: {attention: [none, se]}\nrecipe: {augment: [flip, color_jitter=0.2, mixup]}\n"
    )
    assert read_space(text, "x").recipe.augment == ("flip", "color_jitter=0.2", "mixup")
    assert parse("color_jitter=0.2")[1] == 0.2
    assert parse("mixup")[1] == 0.2
    with pytest.raises(UsageError, match=r"must be from 0\.01 to 1"):
        parse("random_resized_crop=0")
