"""What a training does to its device, tested without a GPU.

Tensors on torch's `meta` device have shapes and no values: what is made of them can be made without asking a device for
a value, and whoever asks gets an error.
"""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from attnsearch.blocks import registry
from attnsearch.build.create import create_model
from attnsearch.core.augmentations import AUGMENTATIONS
from attnsearch.core.errors import EnvironmentFault
from attnsearch.core.machine import pick_devices
from attnsearch.core.trial import Recipe
from attnsearch.tools.operations import SYNCING, Operations
from attnsearch.train import fit
from attnsearch.train.fit import Training, _Batches
from attnsearch.train.images import DeviceData
from attnsearch.train.precision import calibrate

GATES = sorted(name for name, info in registry.blocks().items() if info.slot == "attention")


def data(device: str = "cpu", augment: tuple[str, ...] = ("flip", "crop")) -> DeviceData:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (48, 3, 16, 16), dtype=torch.uint8, generator=random)
    labels = torch.arange(48) % 4
    return DeviceData(images.to(device), labels.to(device), images, labels, (0.5,) * 3, (0.25,) * 3, augment)


class OnMeta(DeviceData):
    classes = 4  # told: there are no values to count


def test_every_device_sees_the_same_images():
    """A generator of the device's own drew other numbers on a GPU than on a CPU from one seed."""
    recipe = Recipe(batch_size=16, precision="float32")
    made = _Batches(OnMeta(**vars(data("meta"))), recipe, 3, torch.float32)
    here = _Batches(data(), recipe, 3, torch.float32)
    for there, expected in zip(made, here, strict=True):
        assert there[0].shape == expected[0].shape
        assert there[0].device.type == there[1].device.type == "meta"
    for name, generator in made.generators().items():
        assert torch.equal(generator.get_state(), here.generators()[name].get_state()), name


@pytest.mark.parametrize(
    "augment", [name for name in AUGMENTATIONS if name not in ("trivial_augment", "color_jitter")]
)
def test_a_batch_is_made_without_asking_the_device(augment):
    recipe = Recipe(batch_size=16, precision="float32")
    made = _Batches(OnMeta(**vars(data("meta", (augment,)))), recipe, 3, torch.float32)
    assert [len(x) for x, _ in made] == [16, 16, 16]


@pytest.mark.parametrize("gate", ["none", *GATES])
def test_no_step_waits_for_the_device(gate, monkeypatch):
    """Forward, backward, optimizer and average: else no step could be queued before the last has ended."""
    monkeypatch.setattr(fit, "_fused", lambda device: nullcontext())  # a CPU's kernels, which no GPU runs
    arch = {"host": {"name": "resnet8", "width": 32}, "stages": [{"attention": gate}] * 3}
    recipe = Recipe(batch_size=16, precision="float32", ema=0.9)
    training = Training(create_model(arch, num_classes=4), data(), recipe, seed=1)
    (x, y), *_ = training.batches
    with Operations() as seen:
        training.step(x, y)
    assert "convolution_backward" in seen.names
    assert not seen.names & SYNCING


def test_apples_gpu_is_taken_by_its_name_where_there_is_one(monkeypatch):
    """Accepted in float32; nothing was ever run on one here."""
    with pytest.raises(EnvironmentFault, match=r"MPS not available .*use --device cpu"):
        pick_devices("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_devices("mps") == ["mps"]
    assert calibrate("mps").dtype == "float32"
