"""The spaces that come with attnsearch: counted by pencil, and their archs train."""

from __future__ import annotations

import pytest
import torch

from attnsearch.build.resnet import build
from attnsearch.core.trial import Recipe
from attnsearch.space.canonical import canonical
from attnsearch.space.space import load_space, shipped_spaces
from attnsearch.train.fit import fit
from attnsearch.train.images import DeviceData

# Distinct archs on the space's own host and on the one for cued digits, options that build the same counted once.
CBAM_STAGE = 1 + 3 * 2 * 2 * 2 * 2  # none, or ratios x kernels x fusions x MLPs x spatial gates
SIZES = {
    # 15 gates and none; GCT and GC are the identity at first, so starting as such makes no second form of them.
    "attention_zoo": (1 + 14 * 2 - 2,) * 2,
    # In every unit or in the last: the same where there is one. At 16 channels ratio 16 would be a fourth hidden width;
    # 16 / 4, 16 / 8 and 16 / 16 are 4, 2 and 1, all different.
    "cbam_variants": ((1 + (CBAM_STAGE - 1) * 2) ** 3, CBAM_STAGE**3),
    "channel_or_spatial": (4**3, 4**3),
    # Gate or none, times 3x3, small and large.
    "epsanet": ((2 * 3) ** 3,) * 2,
    "fusion": ((1 + 5) ** 3,) * 2,
    # Three gates; a plain 3x3, or two forms of dsconv, each in one or both convolutions.
    # A single unit has one convolution.
    "gam_dsconv": (3 * (1 + 2 * 2), 3 * (1 + 2)),
    # Three units: {all, 0, 2, 02} before the addition and after the convolution, {all, 0, 02} after the addition, whose
    # last unit is the end of the stage. Two units: {all, 0, 1}, the same, and {all, 0}.
    "placement": ((1 + 4 + 4 + 3 + 1) ** 3, (1 + 3 + 3 + 2 + 1) ** 3),
    "pmfs_neck": (3 * 5,) * 2,
    "psa_kernels": ((1 + 4 * 2) ** 3,) * 2,
    # Radix 1, 2, 4 at 16 channels: C R / 4 = 4, 8, 16, below both floors or between them: 6 widths, times 2 groups.
    # At 32: 8, 16, 32, the last above both: 5. At 64: 16, 32, 64: 4.
    "split_attention": ((1 + 2 * 6) * (1 + 2 * 5) * (1 + 2 * 4),) * 2,
}


def test_every_space_is_counted() -> None:
    assert set(shipped_spaces()) == set(SIZES), "give the new space a row in SIZES"


@pytest.mark.parametrize("name", SIZES)
def test_size(name: str) -> None:
    own, digits = SIZES[name]
    space = load_space(name)
    assert space.size() == own
    assert space.on("cued-digits").size() == digits


@pytest.mark.parametrize("name", SIZES)
def test_a_question_in_one_sentence(name: str) -> None:
    question = load_space(name).question
    assert question.endswith("?")
    assert question.count("?") == 1


@pytest.mark.parametrize("name", [name for name, sizes in SIZES.items() if sizes[1] <= 1300])
def test_enumeration_meets_every_arch_once(name: str) -> None:
    space = load_space(name).on("cued-digits")
    archs = list(space.enumerate())
    assert len({arch.key for arch in archs}) == len(archs) == space.size()
    assert all(canonical(arch) == arch for arch in archs[:50])


@pytest.mark.parametrize("name", SIZES)
def test_its_archs_train(name: str) -> None:
    """Two sampled archs and the baseline, two steps each, on noise: finite losses, and the weights move."""
    space = load_space(name).on("cued-digits")
    recipe = Recipe(epochs=1, batch_size=8, lr=0.01, precision="float32")
    for arch in (space.sample(0), space.sample(1), space.baseline()):
        model = build(arch, classes=10, seed=0)
        before = model.fc.weight.detach().clone()
        (epoch,) = fit(model, noise(), recipe, seed=0)
        assert epoch.train_loss > 0
        assert not torch.equal(model.fc.weight, before)


def noise() -> DeviceData:
    chooser = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=chooser)
    labels = torch.arange(16) % 10
    return DeviceData(images, labels, images[:4], labels[:4], mean=(0.5,) * 3, std=(0.25,) * 3, augment=())
