"""Blocks inserted into foreign ResNets, and the start as the identity."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from attnsearch import create_model, insert, load_weights
from attnsearch.blocks import registry
from attnsearch.core.errors import BlockError, UsageError
from attnsearch.space.arch import POSITIONS
from tests.foreign_resnets import ForeignResNet, TimmUnit, TorchvisionUnit

LAYOUTS = {"torchvision": TorchvisionUnit, "timm": TimmUnit}
GATES = [name for name, facts in registry.blocks().items() if facts.slot == "attention"]
CONVS = [name for name, facts in registry.blocks().items() if facts.slot == "conv"]
FITTING: dict[str, dict[str, Any]] = {"psa": {"fit_groups": True}}


def network(layout: str = "torchvision", *, expansion: int = 1, width: int = 8) -> ForeignResNet:
    torch.manual_seed(0)
    return ForeignResNet(LAYOUTS[layout], expansion=expansion, width=width).eval()


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("gate", GATES)
def test_every_gate_can_start_as_the_identity(gate: str) -> None:
    """The output at step 0 stays, no parameter is renamed, and a gradient reaches what was inserted."""
    model = network(expansion=2, width=32 if gate == "ela" else 8)  # ela takes whole groups of 32 channels
    before = {key: value.clone() for key, value in model.state_dict().items()}
    wanted = model(images())
    assert insert(model, gate, init="identity") is model
    torch.testing.assert_close(model(images()), wanted, atol=1e-6, rtol=0)
    after = model.state_dict()
    torch.testing.assert_close({key: after[key] for key in before}, before)
    model.train()(images()).square().sum().backward()
    inserted = [p for name, p in model.named_parameters() if ".attention." in name]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in inserted)


@pytest.mark.parametrize("gate", GATES)
def test_in_our_own_host_too(gate: str) -> None:
    host = {"name": "resnet8", "width": 32 if gate == "ela" else 16}
    plain = create_model({"host": host}).eval()
    ours = create_model({"host": host, "stages": [{"attention": gate, "init": "identity"}]}).eval()
    report = load_weights(ours, plain.state_dict())
    assert not report.unexpected
    assert all(".attention." in key for key in report.missing)
    x = images()
    torch.testing.assert_close(ours(x), plain(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize("host", ["resnet20", "resnet50"])
@pytest.mark.parametrize("position", POSITIONS)
def test_a_network_of_create_model_takes_a_gate(host: str, position: str) -> None:
    """It is then the network that has the gate from the start."""
    small = {"name": host, "width": 16}
    ours = create_model({"host": small, "stages": [{"attention": "cbam", "position": position}]}).eval()
    model = insert(create_model({"host": small}).eval(), "cbam", position=position)
    model.load_state_dict(ours.state_dict())
    torch.testing.assert_close(model(images()), ours(images()))
    with pytest.raises(UsageError, match="There is an attention block in this place already"):
        insert(model, "se", position=position)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("expansion", [1, 4])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("units", ["all", "last"])
def test_gates_stand_where_our_host_puts_them(layout: str, expansion: int, position: str, units: str) -> None:
    """The same weights in our network of that arch, whose names are the same, give the same output."""
    model = insert(
        network(layout, expansion=expansion), "cbam", units=units, position=position, stages=(2, 4)
    ).eval()
    seen, empty = {"attention": "cbam", "position": position, "units": units}, dict[str, object]()
    host = {"name": "resnet18", "width": 8, "unit": "bottleneck" if expansion == 4 else "basic"}
    ours = create_model({"host": host, "stages": [empty, seen, empty, seen]}, num_classes=5).eval()
    with torch.no_grad():  # away from the start, where half of CBAM is a constant
        for name, parameter in model.named_parameters():
            if ".attention." in name:
                parameter.normal_(std=0.5)
    assert load_weights(ours, model.state_dict()).complete
    torch.testing.assert_close(ours(images()), model(images()))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("expansion", [1, 4])
@pytest.mark.parametrize("block", CONVS)
def test_conv_blocks_stand_for_conv2_as_in_our_host(layout: str, expansion: int, block: str) -> None:
    options = FITTING.get(block, {})
    model = insert(network(layout, expansion=expansion, width=16), block, stages=4, **options).eval()
    host = {"name": "resnet18", "width": 16, "unit": "bottleneck" if expansion == 4 else "basic"}
    arch = {"host": host, "stages": [{}, {}, {}, {"conv": {"block": block, **options}}]}
    ours = create_model(arch, num_classes=5).eval()
    assert load_weights(ours, model.state_dict()).complete
    torch.testing.assert_close(ours(images()), model(images()))


@pytest.mark.parametrize("position", POSITIONS)
def test_a_deep_copy_has_gates_of_its_own(position: str) -> None:
    model = insert(network(), "se", position=position)
    twin = copy.deepcopy(model)
    wanted = model(images())
    torch.testing.assert_close(twin(images()), wanted)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if ".attention." in name:
                parameter.add_(1.0)
    assert not torch.allclose(twin(images()), wanted)
    torch.testing.assert_close(model(images()), wanted)


@pytest.mark.parametrize("position", ["before_add", "after_stage"])
def test_export(position: str) -> None:
    model = insert(network("timm"), "cbam", position=position, init="identity").eval()
    program = torch.export.export(model, (images(),))
    torch.testing.assert_close(program.module()(images()), model(images()))


def test_what_is_inserted_is_like_the_model() -> None:
    model: Any = insert(network().to(torch.float64).train(), "se", stages=1)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model.layer1[0].attention.training
    assert not any("attention" in name for name, _ in model.layer2.named_modules())


def test_weights_and_what_became_of_them(tmp_path: Path) -> None:
    plain = network()
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in plain.state_dict().items()}}, tmp_path / "plain.pth"
    )
    safetensors.torch.save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    for file in ("plain.pth", "plain.safetensors"):
        model = insert(ForeignResNet(TorchvisionUnit), "se", stages=4, init="identity").eval()
        report = load_weights(model, tmp_path / file)
        assert len(report.loaded) == len(plain.state_dict())
        assert report.missing == tuple(k for k in model.state_dict() if ".attention." in k)
        assert (report.unexpected, report.mismatched, report.complete) == ((), (), False)
        torch.testing.assert_close(model(images()), plain(images()), atol=1e-6, rtol=0)
    other = insert(ForeignResNet(TorchvisionUnit, classes=7), "dsconv", stages=1)
    report = load_weights(other, plain.state_dict())
    assert report.mismatched == ("fc.weight", "fc.bias")
    assert report.unexpected == ("layer1.0.conv2.weight", "layer1.1.conv2.weight")
    assert "2 unexpected: layer1.0.conv2.weight, layer1.1.conv2.weight" in str(report)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "torn.pth").write_bytes(b"not a file of torch")
    (tmp_path / "torn.safetensors").write_bytes(b"\xff" * 20)
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save(network(), tmp_path / "whole.pth")  # a pickled module, which weights_only refuses
    for file in ("torn.pth", "torn.safetensors", "list.pth", "whole.pth", "gone.pth"):
        with pytest.raises(UsageError, match=file):
            load_weights(network(), tmp_path / file)
    with pytest.raises(UsageError, match="No tensor of the checkpoint fits"):
        load_weights(network(), {"encoder.weight": torch.zeros(3)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": "cbma"}, "Did you mean 'cbam'"),
        ({"block": "cbam", "position": "before_ad"}, "Did you mean 'before_add'"),
        ({"block": "cbam", "init": "identiti"}, "Did you mean 'identity'"),
        ({"block": "cbam", "units": "frist"}, "Did you mean 'first'"),
        ({"block": "cbam", "units": [-1]}, "indices from 0"),
        ({"block": "cbam", "units": [7]}, "layer1 has 2 units, 0 to 1; there is no unit 7"),
        ({"block": "cbam", "units": []}, "units is empty"),
        ({"block": "cbam", "units": 3}, "indices from 0 or one of all, first, last, alternate, got 3"),
        (
            {"block": "cbam", "units": "first", "position": "after_stage"},
            "once, behind the stage's last unit",
        ),
        ({"block": "cbam", "stages": []}, "stages is empty"),
        ({"block": "cbam", "stages": 1.0}, "from 1 to 4 .*got 1.0"),
        ({"block": "cbam", "stages": "1"}, "from 1 to 4 .*got '1'"),
        ({"block": "cbam", "stages": None, "position": 3}, "unknown position '3'"),
        ({"block": "cbam", "stages": (0,)}, "from 1 to 4"),
        ({"block": "cbam", "stages": 5}, "from 1 to 4"),
        ({"block": "pmfs"}, "neck"),
        ({"block": "dsconv", "init": "identity"}, "conv block"),
        ({"block": "dsconv", "position": "after_stage"}, "conv block"),
    ],
)
def test_wrong_words(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        insert(network(), **arguments)


def test_a_block_that_fits_nowhere_changes_nothing() -> None:
    model = network()
    before = list(model.state_dict())
    with pytest.raises(BlockError, match="layer1"):
        insert(model, "psa")
    with pytest.raises(BlockError, match="no option 'rato'"):
        insert(model, "cbam", rato=4)
    assert list(model.state_dict()) == before


@pytest.mark.parametrize("position", POSITIONS)
def test_a_conv_block_may_come_after_a_gate(position: str) -> None:
    both = []
    for first in ("se", "dsconv"):
        model = network()
        for block in (first, "dsconv" if first == "se" else "se"):
            options: dict[str, Any] = {"position": position} if block == "se" else {}
            insert(model, block, **options)
        both.append(model.eval())
    both[1].load_state_dict(both[0].state_dict())
    torch.testing.assert_close(both[0](images()), both[1](images()))


def test_all_means_all() -> None:
    """A gate in every residual unit of the model, wherever it stands, once."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.colour, self.depth = network(), network()

    def changed(**parts: nn.Module) -> nn.Module:
        model = network()
        for name, part in parts.items():
            setattr(model, name, part)
        return model

    parts: Any = [network() for _ in range(3)]
    one, two, three = parts
    shared: Any = TorchvisionUnit(8, 8, 1, expansion=1)
    model: Any
    for model, units in (
        (Two(), 16),
        (changed(layer2=nn.Sequential(one.layer2, nn.Dropout2d(0.1))), 8),
        (changed(layer1=nn.Sequential(nn.Sequential(two.layer1[0], nn.Dropout2d(0.1)), two.layer1[1])), 8),
        (changed(layer2=nn.Identity()), 6),
        (changed(layer1=nn.ModuleList(three.layer1)), 8),
        (changed(layer1=nn.Sequential(shared, shared)), 7),
    ):
        insert(model, "se")
        assert sum(name.endswith(".attention") for name, _ in model.named_modules()) == units
    calls = []
    shared.attention.register_forward_hook(lambda *_: calls.append(1))
    model.layer1(torch.randn(1, 8, 8, 8))
    assert calls == [1, 1]  # one unit used twice, once a pass


def test_a_module_list_has_its_gate_behind_its_last_unit() -> None:
    class Listed(ForeignResNet):
        layer1: Any
        layer2: Any
        layer3: Any
        layer4: Any

        def __init__(self) -> None:
            super().__init__(TorchvisionUnit)
            self.layer2 = nn.ModuleList(self.layer2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
            for i in range(2):
                x = self.layer2[i](x)
            return self.layer4(self.layer3(x)).mean((2, 3))

    plain = Listed().eval()
    wanted = plain(images())
    assert not torch.allclose(
        insert(copy.deepcopy(plain), "se", stages=2, position="after_stage")(images()), wanted
    )
    started = insert(plain, "se", stages=2, position="after_stage", init="identity")
    torch.testing.assert_close(started(images()), wanted)
    assert started.layer2[1].attention is not None


def test_what_would_be_left_out_is_named() -> None:
    model = network()
    model.neck = TorchvisionUnit(8, 8, 1, expansion=1)
    with pytest.raises(UsageError, match=r"left out: neck \(TorchvisionUnit\)"):
        insert(model, "se")
    insert(model, "se", stages=1)  # named, so the rest is left as asked
    model = network()
    stage: Any = model.layer3
    stage[1] = nn.Sequential(nn.Conv2d(32, 32, 3), nn.Conv2d(32, 32, 3))
    with pytest.raises(UsageError, match=r"left out: layer3\.1 \(Sequential\), which lacks conv1, bn1"):
        insert(model, "se")
    shared = TorchvisionUnit(8, 8, 1, expansion=1)
    model = network()
    model.layer1 = nn.Sequential(shared, shared)
    with pytest.raises(UsageError, match=r"layer1\.0 and layer1\.1 are one module"):
        insert(model, "se", units=[0])
    model.layer2 = nn.Identity()
    with pytest.raises(UsageError, match="layer2 has no residual unit: it is a Identity"):
        insert(model, "se", stages=2)
    odd = nn.Sequential()
    odd.layer1 = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)))
    with pytest.raises(
        UsageError, match=r"layer1 is a Sequential of 1: its Sequential lacks conv1, bn1, conv2, bn2"
    ):
        insert(odd, "se")


def test_a_place_taken_and_a_model_of_another_make() -> None:
    model = insert(network(), "se", position="after_conv")
    with pytest.raises(UsageError, match="already"):
        insert(model, "eca")
    with pytest.raises(
        UsageError, match=r"No ResNet found in Sequential: looked for children layer1, layer2"
    ):
        insert(nn.Sequential(nn.Conv2d(3, 8, 3)), "se")
    assert insert(nn.Sequential(network()), "se") is not None  # a ResNet inside another module is found
