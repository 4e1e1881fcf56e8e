"""What people do to a model before and after a block is inserted: the gates stay, run once and are trained.

Every case compares outputs with the model as it was inserted into, and asks that a gradient reach each gate tensor.
"""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from attnsearch import create_model, insert
from attnsearch.core.errors import UsageError
from attnsearch.space.arch import POSITIONS
from tests.foreign_resnets import StraightResNet, StraightUnit

positions = pytest.mark.parametrize("position", POSITIONS)


def model(position: str = "before_add") -> StraightResNet:
    torch.manual_seed(0)
    return insert(StraightResNet(), "se", position=position, ratio=2).eval()


def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def gates(network: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in network.named_parameters() if ".attention." in name]


def check(network: Callable[[Tensor], Tensor], parameters: list[nn.Parameter], wanted: Tensor) -> None:
    """The output, and a gradient at each of the 16 gate tensors (8 where a stage has one gate)."""
    out = network(images())
    torch.testing.assert_close(out, wanted, atol=1e-5, rtol=1e-5)
    assert len(parameters) in (8, 16)
    gradients = torch.autograd.grad(out.square().sum(), parameters, allow_unused=True)
    assert all(gradient is not None and gradient.any() for gradient in gradients)


class FrozenNorm(nn.Module):
    """A batch norm whose statistics and weights are buffers, as detection networks take it."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.register_buffer("scale", (norm.weight * (norm.running_var + norm.eps).rsqrt()).detach())
        self.register_buffer("shift", (norm.bias - norm.running_mean * self.scale).detach())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None] + self.shift[:, None, None]


def replaced(network: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> nn.Module:
    for name, child in network.named_children():
        if isinstance(child, kind):
            setattr(network, name, make(child))
        else:
            replaced(child, kind, make)
    return network


def other_conv(conv: nn.Conv2d) -> nn.Conv2d:
    bias = conv.bias is not None
    sizes: Any = conv.kernel_size
    made = nn.Conv2d(
        conv.in_channels, conv.out_channels, sizes, cast(Any, conv.stride), cast(Any, conv.padding), bias=bias
    )
    made.load_state_dict(conv.state_dict())
    return made


def fused(network: nn.Module) -> nn.Module:
    """Each unit's conv2 and bn2 folded into one convolution, by name as deployment scripts do it."""
    for unit in network.modules():
        if isinstance(unit, StraightUnit):
            unit.conv2 = fuse_conv_bn_eval(unit.conv2, unit.bn2)
            setattr(unit, "bn2", nn.Identity())  # noqa: B010
    return network


@pytest.mark.parametrize(
    ("operate", "where"),
    [
        (nn.SyncBatchNorm.convert_sync_batchnorm, POSITIONS),
        (lambda network: replaced(network, nn.BatchNorm2d, FrozenNorm), POSITIONS),
        (lambda network: replaced(network, nn.Conv2d, other_conv), POSITIONS),
        (fused, ("before_add", "after_add", "after_stage")),  # after_conv stands between the two
        (copy.deepcopy, POSITIONS),
        (lambda network: torch.optim.swa_utils.AveragedModel(network), POSITIONS),
        (lambda network: nn.Sequential(network), POSITIONS),
    ],
    ids=[
        "syncbn",
        "frozen norms",
        "another convolution",
        "conv-bn fusion",
        "deepcopy",
        "moving average",
        "wrapped",
    ],
)
def test_what_is_replaced_or_copied_keeps_its_gates(
    operate: Callable[[nn.Module], nn.Module], where: tuple[str, ...]
) -> None:
    for position in where:
        network = model(position)
        wanted = network(images())
        after = operate(network).eval()
        check(after, gates(after), wanted)


@positions
def test_norms_may_be_of_another_kind(position: str) -> None:
    """GroupNorm for small batches: another output, and the gates are still a part of it."""
    network = replaced(model(position), nn.BatchNorm2d, lambda norm: nn.GroupNorm(4, norm.num_features))
    out = network(images())
    gradients = torch.autograd.grad(out.square().sum(), gates(network), allow_unused=True)
    assert all(gradient is not None and gradient.any() for gradient in gradients)


@positions
def test_a_replica_of_data_parallel_runs_its_own_gates(position: str) -> None:
    """Copied as torch.nn.parallel.replicate copies: shallow, with tensors of their own; no GPU is needed to see it."""
    network = model(position)
    copies = {module: module._replicate_for_data_parallel() for module in network.modules()}
    for module, twin in copies.items():
        for name, child in module._modules.items():
            if child is not None:
                setattr(twin, name, copies[child])
        for name, tensor in module._parameters.items():
            if tensor is None:
                twin._parameters[name] = None
            else:
                setattr(twin, name, tensor.detach().clone().requires_grad_())
        for name, buffer in module._buffers.items():
            twin._buffers[name] = None if buffer is None else buffer.clone()
    owners = [module for name, module in network.named_modules() if ".attention" in name]
    own = [value for owner in owners for value in vars(copies[owner]).values() if isinstance(value, Tensor)]
    copies[network](images()).sum().backward()
    assert own
    assert all(tensor.grad is not None for tensor in own)
    assert all(parameter.grad is None for parameter in gates(network))


@positions
def test_distributed_training_reaches_every_gate(position: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    store: Any = torch.distributed.HashStore()  # type: ignore[attr-defined]
    torch.distributed.init_process_group(
        "gloo", store=store, rank=0, world_size=1, timeout=timedelta(seconds=30)
    )
    try:
        network = model(position)
        wanted = network(images())
        parallel = nn.parallel.DistributedDataParallel(network)
        out = parallel(images())
        torch.testing.assert_close(out, wanted)
        out.square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in gates(network))
    finally:
        torch.distributed.destroy_process_group()


@positions
def test_traced_by_fx(position: str) -> None:
    network = model(position)
    traced = torch.fx.symbolic_trace(network)
    assert [p.shape for p in gates(traced)] == [p.shape for p in gates(network)]
    check(traced, gates(traced), network(images()))
    traced.double()(images().double())
    traced.float()
    torch.testing.assert_close(fuse(network)(images()), network(images()), atol=1e-5, rtol=1e-5)


@positions
def test_scripted(position: str) -> None:
    network = model(position)
    scripted = torch.jit.script(network)
    check(scripted, gates(scripted), network(images()))
    torch.testing.assert_close(torch.jit.freeze(scripted)(images()), network(images()), atol=1e-5, rtol=1e-5)


@positions
def test_exported(position: str) -> None:
    network = model(position)
    program = torch.export.export(network, (images(),)).module()
    check(program, [p for name, p in program.named_parameters() if "attention" in name], network(images()))


@positions
def test_compiled_before_and_after(position: str) -> None:
    network = model(position)
    wanted = network(images())
    check(torch.compile(network, backend="aot_eager", fullgraph=True), gates(network), wanted)
    torch.manual_seed(0)
    plain = StraightResNet().eval()
    compiled: Any = torch.compile(plain, backend="aot_eager")
    assert not torch.allclose(compiled(images()), wanted)  # the first compiled pass knows of no gate
    insert(compiled, "se", position=position, ratio=2)
    plain.load_state_dict(network.state_dict())
    check(compiled.eval(), gates(plain), wanted)


@positions
def test_checkpointed(position: str) -> None:
    network = model(position)
    wanted = network(images())

    def by_stages(x: Tensor) -> Tensor:
        for layer in (network.layer1, network.layer2):
            x = checkpoint(layer, network.conv1(x) if layer is network.layer1 else x, use_reentrant=False)
        return network.fc(x.mean((2, 3)))

    check(by_stages, gates(network), wanted)


@positions
def test_pickled(position: str) -> None:
    """A whole model in a torch file, and its state dict into a model that is made anew."""
    network = model(position)
    wanted = network(images())
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    check(again, gates(again), wanted)
    fresh = model(position)
    fresh.load_state_dict(network.state_dict())
    check(fresh, gates(fresh), wanted)


def test_the_class_stays_a_subclass_and_its_methods_can_be_read() -> None:
    unit = model().layer1[0]
    assert isinstance(unit, StraightUnit)
    assert type(unit).__qualname__ == "StraightUnit"
    assert "out = self.attention(out); out += identity" in inspect.getsource(type(unit).forward)


@contextmanager
def refused(words: str) -> Iterator[None]:
    with pytest.raises(UsageError, match=words):
        yield


def test_models_whose_forward_is_fixed_already_are_refused() -> None:
    plain = StraightResNet().eval()
    with refused("insert first, then trace"):
        insert(torch.fx.symbolic_trace(plain), "se")
    with refused("insert first, then script"):
        insert(torch.jit.script(plain), "se")
    plain.layer1[0].forward = plain.layer1[1].forward
    with refused(r"layer1\.0 \(StraightUnit\): its forward was replaced on the instance"):
        insert(plain, "se")


def test_a_network_of_ours_is_scripted() -> None:
    """In either mode, whatever it was in when it was scripted; a neck that cannot be is refused."""
    arch = {"host": "resnet8", "stages": [{"attention": "cbam", "init": "identity"}, {"conv": "sk"}, {}]}
    network = create_model(arch)
    scripted = torch.jit.script(network)
    assert set(scripted.state_dict()) == set(network.state_dict())
    for training in (True, False):
        network.train(training), scripted.train(training)
        torch.testing.assert_close(scripted(images()), network(images()), atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match=r"the neck pmfs.* cannot be scripted; torch\.export"):
        torch.jit.script(create_model({"host": {"name": "resnet8", "width": 64}, "neck": "pmfs"}))


@pytest.mark.slow  # 20 s of compiling
def test_compiled_by_inductor() -> None:
    network = model()
    check(torch.compile(network), gates(network), network(images()))
