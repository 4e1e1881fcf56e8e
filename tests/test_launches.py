"""How many kernels a training step starts, and that each step starts the same ones: counted without a GPU.

A GPU that is given small kernels waits for the next one, so a step's time on it goes with their number. Counted are the
operations that reach a device's kernels, forward, backward and optimizer: all but views and bare allocations. A CPU's
fused kernels are off. What one gate adds is in `GATES`, for three places; the sum for a plain host is derived below.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attnsearch.blocks import registry
from attnsearch.build.create import create_model
from attnsearch.core.trial import Recipe
from attnsearch.train import fit
from attnsearch.train.fit import Training
from tests.test_device import data

# As "eca", 14 a place: forward mean, convolution, sigmoid, product (4). Backward: two products and the sum over the
# map that the gate was spread over (3), of sigmoid, convolution and a selected axis (3), of the mean (zeros, copy,
# division: 3), and the sum of the two gradients that meet in the map (1).
GATES = {
    "adapter": 24,
    "bam": 141,
    "caa": 78,
    "cbam": 153,
    "cbam_lite": 144,
    "channel_gate": 90,
    "coordatt": 117,
    "cpca": 216,
    "danet_cam": 81,
    "danet_pam": 72,
    "eca": 42,
    "ela": 117,
    "ema": 193,
    "gam": 90,
    "gam_article": 63,
    "gc": 75,
    "gct": 129,
    "lska": 42,
    "mlca": 509,
    "msca": 78,
    "nam": 45,
    "nonlocal": 81,
    "scsa": 279,
    "se": 63,
    "sge": 168,
    "shuffle": 112,
    "simam": 93,
    "spatial_gate": 63,
    "triplet": 207,
}
NO_KERNEL = {
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "as_strided_",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
}


class Launches(TorchDispatchMode):
    """What is started, in order: the operation with the shapes and strides of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Any] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not view and name not in NO_KERNEL and not name.startswith("_record_function"):
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.started.append((name, [(tuple(t.shape), t.stride(), t.dtype) for t in tensors]))
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def kernels_of_torch(monkeypatch):
    monkeypatch.setattr(fit, "_fused", lambda device: nullcontext())


def training(gate: str = "none", host: str = "resnet8", **recipe: Any) -> Training:
    arch = {"host": {"name": host, "width": 32}, "stages": [{"attention": gate}] * 3}
    wanted = Recipe(batch_size=16, **{"precision": "float32", **recipe})
    return Training(create_model(arch, num_classes=4), data(), wanted, seed=1)


def started(made: Training) -> list[Any]:
    """By a step, later than the first, which makes the optimizer's moments."""
    (x, y), *_ = made.batches
    with Launches() as seen:
        made.step(x, y)
    return seen.started


def later(made: Training) -> Training:
    (x, y), *_ = made.batches
    made.step(x, y)
    return made


@pytest.mark.parametrize("host", ["resnet8", "resnet14", "resnet20"])
def test_a_plain_step_starts_what_its_layers_need(host):
    made = later(training(host=host))
    layers = list(made.model.modules())
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    units = (int(host.removeprefix("resnet")) - 2) // 2  # of two convolutions each
    activations = 1 + 2 * units  # after the stem; within a unit, and at its end
    forward = (
        convolutions + 2 * norms + activations + units + 2
    )  # a norm counts batches; a sum a unit; mean, linear
    loss = 4  # log softmax, likelihood, a zero to sum up from, the sum
    backward = convolutions + norms + activations + units  # two gradients meet at the entry of each unit
    # A one, of likelihood and softmax; linear: two products, its bias; of the mean: zeros, copy, division.
    head = 3 + 3 + 3
    optimizer = 9 * 1  # weight decay, momentum, step: over lists of all parameters, in two groups
    assert len(started(made)) == forward + loss + backward + head + optimizer


@pytest.mark.parametrize("gate", sorted(GATES))
def test_what_three_gates_add(gate):
    assert len(started(later(training(gate)))) - len(started(later(training()))) == GATES[gate]


def test_every_gate_is_in_the_table():
    assert set(GATES) == {name for name, info in registry.blocks().items() if info.slot == "attention"}


@pytest.mark.parametrize("gate", ["none", *sorted(GATES)])
def test_each_step_is_the_same(gate):
    """Operations, shapes, strides and types: what a captured step must be able to repeat."""
    made = later(training(gate, ema=0.9))
    assert started(made) == started(made)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_nothing_moves_in_memory(optimizer):
    """Parameters, buffers, moments and averages, over steps and validations by averaged weights."""
    made = later(training("se", ema=0.9, optimizer=optimizer))

    def addresses() -> list[int]:
        moments = [value for state in made.optimizer.state.values() for value in state.values()]
        averages = made.averaged.mean if made.averaged else ()
        tensors = [*made.model.parameters(), *made.model.buffers(), *moments, *averages]
        return [tensor.data_ptr() for tensor in tensors if isinstance(tensor, Tensor)]

    before = addresses()
    weights = [parameter.detach().clone() for parameter in made.model.parameters()]
    assert made.averaged
    with made.averaged.applied():
        assert addresses() == before
    made.validate()
    assert addresses() == before
    for parameter, weight in zip(made.model.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight)
    made.run_epoch()
    assert addresses() == before
