"""Networks by name: published sizes, what a name means, and how a wrong one is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnsearch import create_model
from attnsearch.blocks import registry
from attnsearch.build.host_weights import nearest_host
from attnsearch.core.errors import BlockError, UsageError
from attnsearch.cost.measure import measure
from attnsearch.space.arch import HOSTS, Arch, Block, Host
from attnsearch.space.presets import ALIASES, ARTICLES, names, preset, read_arch

# Published or derived sizes with 1,000 classes: parameters (exact, or in millions), GFLOPs of fvcore at 224 px or None.
PUBLISHED = {
    "epsanet50_small": (22.56e6, 3.62),
    "epsanet101_small": (38.90e6, 6.82),
    "epsanet50_large": (27.90e6, 4.72),
    "epsanet101_large": (49.59e6, 8.97),
    "cbam_resnet50": (28_089_624, None),
    "cbam_resnet101": (49_330_172, None),
    "bam_resnet50": (25_915_099, None),
    "bam_resnet101": (44_907_227, None),
    "se_resnet18": (11_778_592, None),
    "se_resnet101": (49_326_872, None),
    "eca_resnet18": (11_689_556, None),
    "eca_resnet34": (21_797_744, None),
    "eca_resnet50": (25_557_112, None),
    "eca_resnet101": (44_549_317, None),
    "resnet18_gam": (16.05e6, None),
    "gam_resnet50": (151_368_424, None),
    "coordatt_resnet50": (27_474_864, None),
    "sa_resnet101": (44_550_684, None),
    "gct_resnet18": (11_695_272, None),
    "gc_resnet101": (49_363_481, None),
    "article_004_resnet50": (30_588_488, None),
    "resnest50": (27_483_240, 5.40),
    "resnest101": (48_275_016, None),
    "resnest200": (70.20e6, None),
    "resnest269": (110.93e6, None),
    "resnest50_fast_2s1x64d": (27_483_240, 4.36),
    "resnest50_fast_1s2x40d": (25.9e6, None),
    "resnest50_fast_4s2x40d": (30.4e6, None),
    "resnet152": (60_192_808, None),  # torchvision's
}
# The same with 10 classes on CIFAR's images.
PUBLISHED_CIFAR = {
    "resnet18_cifar": 11_173_962,
    "resnet20": 272_474,
    "se_resnet20": 274_490,
    "cbam_resnet18_cifar": 11_263_842,
    "article_000_resnet18_cifar": 901_818,
    "epsanet50_small_cifar": 20_525_525,
}

# timm's networks as archs, with their parameters (results/results-imagenet.csv and model pages, in millions).
_SK = {"block": "sk", "ratio": 8, "min_hidden": 16}
TIMM: dict[str, tuple[dict[str, Any], float]] = {
    "skresnet18": ({"host": "resnet18", "stages": [{"conv": _SK, "convs": "first"}]}, 11.96),
    "skresnet34": ({"host": "resnet34", "stages": [{"conv": _SK, "convs": "first"}]}, 22.28),
    "skresnet50": ({"host": "resnet50", "stages": [{"conv": "sk"}]}, 25.80),
    "resnet50t": ({"host": {"name": "resnet50", "stem": "tiered", "shortcut": "pool"}}, 25.57),
    "resnet26t": (
        {"host": {"name": "resnet50", "units": [2, 2, 2, 2], "stem": "tiered", "shortcut": "pool"}},
        16.01,
    ),
}


def weightless(name: str | dict[str, Any], classes: int) -> torch.nn.Module:
    with torch.device("meta"):
        return create_model(name, num_classes=classes)


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_size(name: str) -> None:
    size, gflops = PUBLISHED[name]
    model = weightless(name, 1000)
    digits = 0.05e6 if size % 1e5 == 0 else 0.005e6  # as many as were printed
    assert parameters(model) == pytest.approx(size, abs=0 if isinstance(size, int) else digits)
    if gflops is not None:
        assert measure(model, (3, 224, 224)).fvcore / 1e9 == pytest.approx(gflops, abs=0.005)


@pytest.mark.parametrize("name", PUBLISHED_CIFAR)
def test_published_size_for_cifar(name: str) -> None:
    assert parameters(weightless(name, 10)) == PUBLISHED_CIFAR[name]


@pytest.mark.parametrize("block", [*registry.blocks(), *ALIASES, *ARTICLES])
def test_any_block_stands_in_any_host_and_its_macs_are_torchs(block: str) -> None:
    """`macs == FlopCounterMode / 2`, and the network runs, for every block in a narrow host."""
    host = "resnet18" if block == "ela" else "resnet8"  # ela takes whole groups of 32 channels
    model = weightless(f"{block}_{host}", 10)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model.eval()(torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 10)
    assert measure(model, (3, 32, 32)).macs * 2 == counter.get_total_flops()


@pytest.mark.parametrize("host", ["resnet20", "resnet18", "resnet50"])
def test_every_name_of_a_host_is_an_arch(host: str) -> None:
    for name in names():
        if name.endswith(host):
            assert read_arch(f"{name}_cifar").host.stem == "cifar"


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm_can_be_said(name: str) -> None:
    arch, millions = TIMM[name]
    model = weightless(arch, 1000)
    assert round(parameters(model) / 1e6, 2) == millions
    if "stages" not in arch:  # weights of the host alone say which host they are of
        assert read_arch({"host": nearest_host(model.state_dict())}) == read_arch(arch)


def test_a_bias_in_the_shortcuts() -> None:
    """One number a channel that a stage puts out: 256 + 512 + 1024 + 2048."""
    host = {"name": "resnet50", "shortcut_bias": True}
    model = weightless({"host": host}, 10)
    assert parameters(model) - parameters(weightless("resnet50", 10)) == 3840
    assert nearest_host(model.state_dict()) == host
    with pytest.raises(UsageError, match="shortcut_bias: expected true or false, got 'yes'"):
        read_arch({"host": {"name": "resnet50", "shortcut_bias": "yes"}})


def test_a_stem_too_narrow_for_its_layers() -> None:
    with pytest.raises(UsageError, match="a tiered stem puts out at least 8 channels, got 4"):
        read_arch({"host": {"name": "resnet50", "stem": "tiered", "width": 4}})


def test_either_order_and_a_blocks_preset() -> None:
    assert preset("cbam_resnet50") == preset("resnet50_cbam")
    assert preset("sa_resnet50") == preset("shuffle_resnet50")
    assert preset("cbam.article_resnet18").stages[0].attention == Block.of(
        "cbam", **registry.expand("cbam.article")[1]
    )


def test_blocks_stand_where_their_authors_put_them() -> None:
    bam = preset("bam_resnet50").stages
    assert [stage.attention.name for stage in bam] == ["bam", "bam", "bam", "none"]
    assert {stage.position for stage in bam[:3]} == {"after_stage"}
    assert [stage.conv.name for stage in preset("mhsa_resnet50").stages] == ["conv3x3"] * 3 + ["mhsa"]
    assert preset("simam_resnet18").stages[0].position == "after_conv"
    nonlocals = [
        len(s.indices(n)) for s, n in zip(preset("nonlocal_resnet50").stages, (3, 4, 6, 3), strict=True)
    ]
    assert [
        n * bool(s.attention) for n, s in zip(nonlocals, preset("nonlocal_resnet50").stages, strict=True)
    ] == [
        *(0, 2, 3, 0)  # five blocks, as the paper's 5-block ResNet-50
    ]
    assert preset("pmfs_resnet18").neck == Block("pmfs")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cbam_resnet51", "Did you mean 'cbam_resnet5"),
        ("resnets50", "Did you mean"),
        ("cbma_resnet50", "Did you mean 'cbam'"),
        ("cbam.offical_resnet50", "Did you mean 'official'"),
        ("se_resnet50_cbam", "Unknown network"),
        ("", "Unknown network ''"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_model(name)


def test_files(tmp_path: Path) -> None:
    arch = preset("cbam_resnet20")
    (tmp_path / "arch.json").write_text(json.dumps(arch.to_dict()))
    (tmp_path / "arch.yaml").write_text("host: resnet20\nstages:\n- attention: cbam\n")
    assert read_arch(tmp_path / "arch.json") == read_arch(str(tmp_path / "arch.yaml")) == arch
    assert read_arch(arch.to_dict()) == read_arch(arch) == arch
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "torn.json").write_text("{")
    for file, message in (("list", "expected a mapping"), ("torn", "not readable"), ("gone", "not found")):
        with pytest.raises(UsageError, match=message):
            read_arch(tmp_path / f"{file}.json")


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (
            {"host": "resnet20", "stages": [{"attention": "se", "position": "befor_add"}]},
            "Did you mean 'before_add'",
        ),
        ({"host": "resnet20", "stages": [{"attention": "se", "units": "lst"}]}, "Did you mean 'last'"),
        ({"host": "resnet20", "stages": [{"attention": "se", "units": []}]}, "list of indices"),
        ({"host": "resnet20", "stages": {"attention": "se"}}, "expected a list"),
        ({"host": "resnet20", "stages": [{"attention": 3}]}, "block's name"),
        ({"host": {"name": "resnet20", "stem": "cifra"}}, "Did you mean 'cifar'"),
        ({"host": {"name": "resnet20", "width": 0}}, "at least 1"),
        ({"host": {"name": "resnet20", "expansion": 2}}, "bottleneck"),
        ({"host": "resnet20", "neck": "cbam"}, "Unknown block 'cbam'"),
        ({"host": "resnet20", "stages": [{"attention": "psa"}]}, "stands in the conv slot"),
    ],
)
def test_wrong_archs(arch: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_model(arch)


def test_a_block_that_does_not_fit_says_so() -> None:
    with pytest.raises(BlockError, match="stage 1: psa"):
        create_model({"host": "resnet20", "stages": [{"conv": "psa"}]})
    with pytest.raises(UsageError, match="num_classes"):
        create_model("resnet20", num_classes=0)


def test_settings_without_effect_leave_no_trace() -> None:
    assert (
        Host("resnet18", stem_width=64, base_width=32, downsample="pool").filled()
        == Host("resnet18").filled()
    )
    for name in HOSTS:
        assert preset(name) == Arch.from_dict({"host": name})
