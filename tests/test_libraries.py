"""Networks of torchvision and timm: their costs as the libraries state them, and gates in every unit.

Both are for tests alone and skipped where they are not installed: `pip install --no-deps torchvision timm`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from attnsearch import create_block, create_model, insert, measure
from attnsearch.blocks import registry
from attnsearch.build import module_host
from attnsearch.build.layers import find_layers
from attnsearch.core.errors import BlockError
from attnsearch.core.study_attrs import DataInfo
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.trial import TrialResult
from attnsearch.export import pack
from attnsearch.space import module_file
from attnsearch.space.arch import INITS, POSITIONS
from attnsearch.space.presets import read_arch
from tests.test_presets import TIMM


@pytest.fixture(scope="module")
def torchvision() -> Iterator[ModuleType]:
    """torchvision without its compiled half, which must be of torch's own build; two operators are declared for it."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield pytest.importorskip("torchvision", exc_type=ImportError)
    library._destroy()


@pytest.fixture(scope="module")
def timm(torchvision: ModuleType) -> ModuleType:
    return pytest.importorskip("timm", exc_type=ImportError)


# Multiply-adds at 224 x 224 in billions, as torchvision's pages of the weights round them.
@pytest.mark.parametrize(
    ("name", "billions"), [("swin_t", 4.4906), ("vit_b_16", 17.564), ("resnet50", 4.0892)]
)
def test_macs_as_published(torchvision: ModuleType, name: str, billions: float) -> None:
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    cost = measure(model)
    assert round(cost.macs / 1e9, 4 if billions < 10 else 3) == billions
    assert cost.unknown == {}


@pytest.mark.slow
def test_every_classification_network_of_torchvision_is_counted(torchvision: ModuleType) -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        if name == "regnet_y_128gf":  # 2.6 GB, and RegNets work out their widths with tensors, so not on meta
            continue
        with torch.device("cpu" if name.startswith("regnet") else "meta"):
            model = torchvision.models.get_model(name)
        assert measure(model, (3, 299, 299) if name == "inception_v3" else (3, 224, 224)).unknown == {}, name


@pytest.mark.parametrize("channels", [64, 40, 24])  # 40 / 16 = 2.5 is 3, 24 / 16 = 1.5 is 2
def test_cbam_timm_is_timms(timm: ModuleType, channels: int) -> None:
    theirs = timm.layers.create_attn("cbam", channels)
    ours: Any = create_block("cbam.timm", channels)
    values = list(theirs.state_dict().values())
    state = {
        key: value.reshape(old.shape)
        for (key, old), value in zip(ours.state_dict().items(), values, strict=True)
    }
    assert ours.spatial.body[1].weight == theirs.spatial.conv.bn.weight
    assert ours.spatial.body[1].momentum == theirs.spatial.conv.bn.momentum
    ours.load_state_dict(state)
    x = torch.randn(3, channels, 8, 7)
    for _ in range(2):  # in train mode, then in eval mode with what that left
        torch.testing.assert_close(ours(x), theirs(x))
        ours.eval(), theirs.eval()


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm_compute_the_same(timm: ModuleType, name: str) -> None:
    """With its tensors, which stand in the same order."""
    theirs, ours = timm.create_model(name).eval(), create_model(TIMM[name][0], num_classes=1000).eval()
    values = list(theirs.state_dict().values())
    state = ours.state_dict()
    ours.load_state_dict(
        {key: value.reshape(old.shape) for (key, old), value in zip(state.items(), values, strict=True)}
    )
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_features_of_the_stages_are_extracted(torchvision: ModuleType) -> None:
    """torchvision's create_feature_extractor traces a model by torch.fx: the gates are in what it makes."""
    features = pytest.importorskip("torchvision.models.feature_extraction")
    create_feature_extractor = features.create_feature_extractor

    torch.manual_seed(0)
    model = torchvision.models.resnet18().eval()
    x = torch.randn(1, 3, 64, 64)
    before = create_feature_extractor(model, {"layer2": "map"})(x)["map"]
    insert(model, "cbam")
    extractor = create_feature_extractor(model, {"layer2": "map"})
    wanted = model.layer2(model.layer1(model.maxpool(model.relu(model.bn1(model.conv1(x))))))
    torch.testing.assert_close(extractor(x)["map"], wanted)
    assert not torch.allclose(before, wanted)


GATES = [name for name, info in registry.blocks().items() if info.slot == "attention"]
NARROW = {"ela"}  # asks for 16 or 32 channels; every stage of these networks has them


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_gates_stand_in_networks_of_torchvision(torchvision: ModuleType, name: str) -> None:
    check_all(lambda: torchvision.models.get_model(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "seresnet18", "resnet26t", "ecaresnet26t"])
def test_gates_stand_in_networks_of_timm(timm: ModuleType, name: str) -> None:
    check_all(lambda: timm.create_model(name))


def check_all(make: object) -> None:
    """Every gate at every position with every start: as many gates as units or stages, each run once a pass."""
    for gate, position, init in itertools.product(GATES, POSITIONS, INITS):
        with torch.device("meta"):
            model: nn.Module = make().eval()  # type: ignore[operator]
        found = find_layers(model)
        units = sum(len(layer.units) for layer in found.layers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the units' own gates
            try:
                insert(model, gate, position=position, init=init)
            except BlockError:
                assert gate in NARROW
                continue
        calls: list[int] = []
        for path, module in model.named_modules():
            if path.endswith(".attention"):
                module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        with torch.no_grad():
            model(torch.zeros(1, 3, 64, 64, device="meta"))
        assert len(calls) == (len(found.layers) if position == "after_stage" else units), (
            gate,
            position,
            init,
        )


OWN = """
import {library}


def build():
    return {call}
"""


# Units and channels of each stage as the papers have them; ResNet-26 is timm's, two bottlenecks a stage.
@pytest.mark.parametrize(
    ("library", "call", "widths"),
    [
        ("torchvision", "torchvision.models.resnet18()", (64, 128, 256, 512)),
        ("timm", "timm.create_model('resnet26')", (256, 512, 1024, 2048)),
    ],
)
def test_a_network_of_a_library_is_a_host_and_is_exported(
    timm: ModuleType,
    library: str,
    call: str,
    widths: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every form of an export of it, gates and convolutions in, computes what the network does to 1e-5."""
    pytest.importorskip("onnxscript")
    file = tmp_path / "my_model.py"
    file.write_text(OWN.format(library=library, call=call))
    monkeypatch.setattr(module_file, "_ALLOWED", {})
    module_host.allow(file)
    stages: list[dict[str, object]] = [
        {"attention": "se", "init": "identity"},
        {"attention": {"block": "cbam", "ratio": 8}, "position": "after_conv", "units": "last"},
        {"conv": "splat", "attention": "eca", "position": "after_add"},
        {"attention": "bam", "position": "after_stage"},
    ]
    arch = read_arch({"host": {"module": str(file), "make": "build"}, "stages": stages})
    assert (arch.host.units, arch.host.widths) == ((2, 2, 2, 2), widths)
    row = TrialResult(arch.key, str(arch), 3, 1, "complete", number=0, spec=arch.to_dict())
    info = StudyInfo(data=DataInfo("photos", classes=("ant", "bee"), image=(3, 64, 64)))
    package = pack(row, info, tmp_path / "export", formats=("py", "safetensors", "onnx"))
    assert max(package.differences.values()) <= 1e-5
