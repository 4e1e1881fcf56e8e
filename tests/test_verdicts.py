"""Verdicts on real trainings, packed: nothing against nothing, and an effect that was put there.

The runs are those of `python -m benchmarks.statistics.verdicts runs aa` and `runs planted`; their files say where and
when.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from attnsearch.build.resnet import build
from attnsearch.space.space import load_space
from attnsearch.statistics import compare
from attnsearch.statistics.noise import seed_correlation
from benchmarks.statistics import verdicts


def test_the_plain_host_under_ten_names_is_never_told_from_itself():
    aa = verdicts.read("aa")
    assert aa.errors.shape == (10, 6)
    assert np.isfinite(aa.errors).all()
    assert verdicts.decided(aa, "plain 0") == []


def test_names_dealt_anew_are_told_apart_as_rarely_as_stated():
    rate = verdicts.false_verdicts(verdicts.read("aa"), 400)
    assert rate.share <= rate.expected + 2 * np.sqrt(0.05 * 0.95 / 400)  # two standard errors of 400 draws


def test_false_gains_and_false_harms_are_half_of_them_each() -> None:
    aa = verdicts.read("aa")
    gains, harms = (verdicts.false_verdicts(aa, 400, outcomes=(word,)) for word in ("gain", "harm"))
    either = verdicts.false_verdicts(aa, 400)
    assert (gains.expected, harms.expected, either.expected) == (0.025, 0.025, 0.05)
    assert max(gains.found, harms.found) <= either.found <= gains.found + harms.found
    for rate in (gains, harms):
        assert rate.interval[0] <= rate.expected <= rate.interval[1]


def test_a_real_difference_among_the_ten_would_have_been_found():
    aa = verdicts.read("aa")
    aa.errors[3] -= 10  # points: over the smallest visible effect of that table
    assert verdicts.decided(aa, "plain 0") == ["plain 3: gain"]


def test_the_planted_effect_is_found_with_the_power_that_was_planned():
    planted = verdicts.read("planted")
    found = {v.variant: v for v in compare(planted, "plain").verdicts}
    assert found["exposure_norm"].outcome == "gain"
    assert found["eca"].outcome == "no evidence"
    for blocks in (3, 4):  # of 20: larger samples are too much alike to tell a rate
        kept = verdicts.power_kept(planted, "exposure_norm", blocks, 400)
        assert abs(kept.share - kept.expected) <= 0.10
    assert verdicts.power_kept(planted, "exposure_norm", 6, 400).share >= 0.5


def test_blocks_of_the_program_pair_their_runs():
    rho, (low, _) = seed_correlation(verdicts.read("planted").whole)
    assert low > 0
    assert 0 < rho < 1


@pytest.mark.parametrize("seed", [0, 7])
def test_layers_that_variants_share_begin_bit_identical(seed):
    space = load_space("channel_or_spatial").on("cluttered-digits")
    plain = build(space.baseline(), classes=10, in_channels=3, seed=seed).state_dict()
    for label in ("channel_gate", "spatial_gate", "cbam"):
        arch = next(arch for arch in space.homogeneous() if f"all stages {label}" in str(arch))
        variant = build(arch, classes=10, in_channels=3, seed=seed).state_dict()
        assert set(plain) < set(variant)
        assert all(torch.equal(plain[name], variant[name]) for name in plain)


def test_a_seed_block_may_have_its_own_split():
    from attnsearch.core.trial import Recipe
    from attnsearch.data import open_data
    from attnsearch.train.images import device_data, resplit

    data = device_data(open_data("digits"), Recipe(resplit=True), "cpu")
    block, again, other = (resplit(data, seed) for seed in (3, 3, 4))
    assert torch.equal(block.val_images[:], again.val_images[:])  # one split for all variants of a block
    assert torch.equal(block.train_labels, again.train_labels)
    assert not torch.equal(block.val_images[:], other.val_images[:])

    def rows(*parts):
        return sorted(bytes(image.flatten().tolist()) for images in parts for image in images)

    assert rows(block.train_images, block.val_images) == rows(data.train_images, data.val_images)
    assert not set(rows(block.val_images)) & set(rows(block.train_images))
    assert torch.equal(block.val_labels.bincount(), data.val_labels.bincount())


def test_a_training_by_its_own_split_differs_from_one_by_the_first():
    from attnsearch.core.trial import Recipe
    from attnsearch.data import open_data
    from attnsearch.train.fit import fit
    from attnsearch.train.images import device_data, resplit

    recipe = Recipe(epochs=1, batch_size=64, train_images=128, resplit=True, precision="float32")
    data = device_data(open_data("digits"), recipe, "cpu")
    arch = load_space("channel_or_spatial").on("digits").baseline()

    def error(recipe, data):
        return fit(build(arch, classes=10, in_channels=1, seed=5), data, recipe, seed=5)[-1].val_error

    assert error(recipe, data) == error(replace(recipe, resplit=False), resplit(data, 5))


def test_images_that_share_a_digit_stay_on_one_side_of_a_new_split():
    from attnsearch.core.trial import Recipe
    from attnsearch.data import open_data
    from attnsearch.train.images import device_data, resplit

    opened = open_data("cluttered-digits", limit=600)
    data = device_data(opened, Recipe(), "cpu")
    assert opened.groups is not None
    of = {
        bytes(image.flatten().tolist()): int(group)
        for split in ("train", "val")
        for image, group in zip(getattr(opened, split).images, opened.groups[split], strict=True)
    }
    new = resplit(data, 3)
    train, val = (
        {of[bytes(image.flatten().tolist())] for image in images}
        for images in (new.train_images, new.val_images)
    )
    assert not train & val
    assert torch.equal(new.val_labels.bincount(), data.val_labels.bincount())
    lost = len(data.train_labels) + len(data.val_labels) - len(new.train_labels) - len(new.val_labels)
    assert 0 <= lost < 0.05 * len(data.train_labels)  # of each class's last group, what was too many


def test_the_halves_of_the_validation_images_are_all_of_them_once():
    from attnsearch.core.trial import Recipe
    from attnsearch.data import open_data
    from attnsearch.train.images import device_data, with_half_of_val

    data = device_data(open_data("digits"), Recipe(), "cpu")
    halves = [with_half_of_val(data, which) for which in ("first", "second")]
    rows = [bytes(image.flatten().tolist()) for half in halves for image in half.val_images]
    assert sorted(rows) == sorted(bytes(image.flatten().tolist()) for image in data.val_images)
    counts = [half.val_labels.bincount() for half in halves]
    assert (counts[0] - counts[1]).abs().max() <= 1 + len(data.val_labels) % 2
    assert all(torch.equal(half.train_images, data.train_images) for half in halves)


def test_order_and_augmentation_follow_the_seed_and_not_the_arch():
    from attnsearch.core.trial import Recipe
    from attnsearch.train.fit import _Batches
    from attnsearch.train.images import DeviceData

    images = (
        torch.arange(64 * 3 * 8 * 8, dtype=torch.int64).remainder(256).to(torch.uint8).reshape(64, 3, 8, 8)
    )
    data = DeviceData(
        images, torch.arange(64), images, torch.arange(64), (0.5,) * 3, (0.2,) * 3, ("crop", "flip")
    )
    recipe = Recipe(batch_size=16)

    def stream(seed, network):
        torch.manual_seed(network)  # what a network draws for itself must not reach the data
        batches = _Batches(data, recipe, seed, torch.float32)
        return [(x.clone(), y) for _ in range(2) for x, y in batches]

    one, same, other = stream(3, 0), stream(3, 1), stream(4, 0)
    assert all(torch.equal(a, b) and torch.equal(y, z) for (a, y), (b, z) in zip(one, same, strict=True))
    assert not all(torch.equal(y, z) for (_, y), (_, z) in zip(one, other, strict=True))
