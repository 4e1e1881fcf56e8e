"""Numbers of the blocks' sources, met exactly: outputs for fixed weights, parameters, multiply-accumulates.

The fixtures were measured on the upstream implementations, float64 in eval mode for the outputs. Every entry
has a row that says how to build ours, or stands in AWAITED; a new entry without either fails.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from attnsearch import create_block, create_model, create_neck
from attnsearch.blocks.psa import SEWeight
from attnsearch.blocks.splat import RSoftmax
from attnsearch.build.resnet import StageBuilder
from attnsearch.build.segmentation import PMFSNet
from attnsearch.cost.measure import measure
from attnsearch.cost.meta import materialize
from attnsearch.space.arch import Block, Host, Stage

FIXTURES = Path(__file__).parent / "fixtures"
NUMERIC = {entry["name"]: entry for entry in json.loads((FIXTURES / "golden_numeric.json").read_text())}
COSTS = {entry["name"]: entry for entry in json.loads((FIXTURES / "golden_costs.json").read_text())}


@dataclass(frozen=True)
class Row:
    """How to build ours, and which method gives the source's output where it is not the whole block.

    `names` lists our tensors in the source's order, where ours register in another one.
    """

    build: Callable[[], nn.Module]
    method: str = "forward"
    names: tuple[str, ...] = ()


def block(
    name: str, channels: int, *, method: str = "forward", names: tuple[str, ...] = (), **options: Any
) -> Row:
    return Row(lambda: create_block(name, channels, **options), method, names)


def neck(in_channels: list[int], **options: Any) -> Row:
    return Row(lambda: create_neck("pmfs", in_channels, **options))


def unit(host: Host, stage: Stage, in_channels: int, *, strided: bool, names: tuple[str, ...] = ()) -> Row:
    """One residual unit, in a first stage or in a strided second one."""
    return Row(
        lambda: StageBuilder(host.filled(), stage, int(strided), None).stage(in_channels, 1), names=names
    )


def article_unit(width: int, in_channels: int, *, strided: bool) -> Row:
    host = Host("resnet18", width=width, unit="single")
    stage = Stage(conv=Block.of("dsconv.article"), attention=Block.of("gam_article"))
    return unit(host, stage, in_channels, strided=strided, names=ARTICLE_UNIT_NAMES if strided else ())


def resnest_unit(downsample: Literal["pool", "pool_first"]) -> Row:
    host = Host("resnet50", width=32, shortcut="pool", downsample=downsample)
    return unit(host, Stage(conv=Block.of("splat")), 64, strided=True)


EPSANET = Stage(conv=Block.of("psa.official"))
NORM = ("weight", "bias", "running_mean", "running_var")
ARTICLE_UNIT_NAMES = (  # the source's gate comes before its shortcut
    *(f"0.conv1.{part}.{kind}" for part in ("depthwise", "pointwise") for kind in ("weight", "bias")),
    *(f"0.bn1.{kind}" for kind in NORM),
    *(f"0.attention.se.{part}.{kind}" for part in ("fc1", "fc2") for kind in ("weight", "bias")),
    "0.downsample.0.weight",
    *(f"0.downsample.1.{kind}" for kind in NORM),
)

NUMERIC_ROWS = {
    "caa": block("caa", 64),
    "caa_plain_k13": block("caa.paper", 32, kernel_h=13, kernel_v=13),
    "cpca": block("cpca", 64),
    "cpca_c32_r8": block("cpca", 32, ratio=8),
    "danet_cam": block("danet_cam", 64),
    "danet_pam": block("danet_pam", 64),
    "ela_b": block("ela", 64, form="B"),
    "ela_s": block("ela", 64, form="S"),
    "mlca": block("mlca", 64),
    "mlca_c128_l3_w08": block("mlca", 128, local_size=3, local_weight=0.8),
    "msca": block("msca", 64),
    "msca_block": block("msca", 32, form="block"),
    "nam": block("nam", 64),
    "scsa": block("scsa", 64),
    "scsa_h4_global_bias": block("scsa", 32, heads=4, window=-1, qkv_bias=True),
    "article000_block": article_unit(12, 16, strided=True),
    "article000_dsconv": block("dsconv.article", 16, out_channels=24, stride=2),
    "article000_se8": block("se.article", 64),
    "article003_ca_indep": block("channel_gate.article", 64),
    "article003_parallel": block("cbam.article", 64),
    "article003_serial_k3": block("cbam_lite.article_003", 64),
    "article004_ca": block("channel_gate", 64, ratio=8, bias=False, method="weights"),
    "bam_official_mul": block("bam", 64),
    "cbam_official": block("cbam.official", 64),
    "coordatt_r32": block("coordatt", 64),
    "eca_k3": block("eca", 64),
    "ema_f8": block("ema", 64, groups=8),
    "epsablock": unit(Host("resnet50"), EPSANET, 256, strided=False),
    "gam_sigmoid_r4": block("gam.copy_sigmoid", 64),
    "gc_add_r16": block("gc", 64),
    "mhsa_bot": block("mhsa.absolute", 64),
    "pmfs2d": neck([16, 24, 32], width=8, kernels=(4, 2, 1)),
    "psa_official_order": block("psa.official", 64),
    "psa_paper_order": block("psa", 64),
    "resnest_bottleneck_s2_avd_after": resnest_unit("pool"),
    "rsoftmax_r2_k2": Row(lambda: RSoftmax(2, 2)),
    "shuffle_g8": block("shuffle", 64, groups=8),
    "simam": block("simam", 64),
    "sk_timm": block("sk", 64),
    "splat_r2_k1": block("splat", 64),
    "splat_r2_k2": block("splat", 64, cardinality=2),
    "triplet": block("triplet", 64),
}

COST_ROWS = {
    "article000_block_64_128_s2": article_unit(64, 64, strided=True),
    "article000_block_64_64": article_unit(64, 64, strided=False),
    "article000_dsconv_64_128_s2": block("dsconv.article", 64, out_channels=128, stride=2),
    "article000_dsconv_64_64_s1": block("dsconv.article", 64),
    "article000_gam_se8_C16": block("se.article", 16),
    "article000_gam_se8_C32": block("se.article", 32),
    "article000_gam_se8_C512": block("se.article", 512),
    "article000_gam_se8_C64": block("se.article", 64),
    "article003_ca_dyn_C128": block("channel_gate.article_shared", 128),
    "article003_ca_dyn_C512": block("channel_gate.article_shared", 512),
    "article003_ca_dyn_C64": block("channel_gate.article_shared", 64),
    "article003_ca_indep_C256": block("channel_gate.article", 256),
    "article003_ca_indep_C64": block("channel_gate.article", 64),
    "article003_cbam_parallel_C32": block("cbam.article", 32),
    "article003_cbam_parallel_C64": block("cbam.article", 64),
    "article003_cbam_serial_k3_C128": block("cbam_lite.article_003", 128),
    "article003_cbam_serial_k3_C256": block("cbam_lite.article_003", 256),
    "article003_cbam_serial_k3_C512": block("cbam_lite.article_003", 512),
    "article003_cbam_serial_k3_C64": block("cbam_lite.article_003", 64),
    "article003_sa_deep_res_k3": block("spatial_gate.article", 64, kernel=3),
    "article003_sa_deep_res_k7": block("spatial_gate.article", 64, kernel=7),
    "article004_ca_r8_C128": block("channel_gate", 128, ratio=8, bias=False, method="weights"),
    "article004_ca_r8_C512": block("channel_gate", 512, ratio=8, bias=False, method="weights"),
    "article004_ca_r8_C64": block("channel_gate", 64, ratio=8, bias=False, method="weights"),
    "article004_sa_k3": block("spatial_gate.paper", 64, kernel=3, method="weights"),
    "bam_C1024": block("bam", 1024),
    "bam_C128": block("bam", 128),
    "bam_C256": block("bam", 256),
    "cbam_luuuyi_C64": block("cbam_lite", 64),
    "cbam_official_C2048": block("cbam.official", 2048),
    "cbam_official_C64": block("cbam.official", 64),
    "coordatt_C256_r32": block("coordatt", 256),
    "coordatt_C512_r32": block("coordatt", 512),
    "eca_k3": block("eca", 64, kernel=3),
    "eca_k5": block("eca", 64, kernel=5),
    "eca_k7": block("eca", 64, kernel=7),
    "ema_C256_f32": block("ema", 256, groups=32),
    "epsablock_256_128_s2": unit(Host("resnet50"), EPSANET, 256, strided=True),
    "gam_dengbuqi_C256_r16": block("gam.copy", 256, ratio=16),
    "gam_paper_C256_r16_g4": block("gam.paper_grouped", 256),
    "gam_paper_C64_r16_g1": block("gam", 64),
    "gam_paper_C64_r4_g1": block("gam.copy_sigmoid", 64),
    "gcblock_add_C256_r16": block("gc", 256),
    "gcblock_add_C64_r16": block("gc", 64),
    "gct_C64": block("gct", 64),
    "nonlocal_timm_C64": block("nonlocal", 64),
    "pmfs2d_32_64_128_ch64": neck([32, 64, 128]),
    "pmfs2d_resnet18_l1234_ch48_br4": neck([64, 128, 256, 512], width=48),
    "pmfs2d_resnet18_l123_ch64": neck([64, 128, 256]),
    "pmfs3d_32_64_128_ch64": neck([32, 64, 128], dim="3d"),
    "pmfsnet2d_tiny": Row(PMFSNet),
    "psa_large3557_C128": block("psa.large", 128),
    "psa_large3579_C128": block("psa", 128, groups=(32, 32, 32, 32)),
    "psa_large3579_C256": block("psa", 256, groups=(32, 32, 32, 32)),
    "psa_small_C128": block("psa", 128),
    "se_moskomule_C64_r16": block("se.paper", 64),
    "seweight_C16": Row(lambda: SEWeight(16)),
    "seweight_C256": Row(lambda: SEWeight(256)),
    "seweight_C64": Row(lambda: SEWeight(64)),
    "shuffleatt_C128_g64": block("shuffle", 128),
    "sk_timm_C128": block("sk", 128),
    "splat_C128_r2_k1": block("splat", 128),
    "splat_C64_r2_k1": block("splat", 64),
    "splat_C64_r2_k2": block("splat", 64, cardinality=2),
}

# Whole networks that no preset builds yet; a row takes its name out of these.
# The source's network -> ours, by name or as an arch.
NETWORK_ROWS: dict[str, str | dict[str, Any]] = {
    "bam_resnet101_cifar10": "bam_resnet101_cifar",
    "bam_resnet18_cifar10": "bam_resnet18_cifar",
    "bam_resnet18_official": "bam_resnet18",
    "bam_resnet50_official": "bam_resnet50",
    "cbam_resnet18_luuuyi": "cbam_lite_resnet18",
    "cbam_resnet34_cifar10": "cbam_resnet34_cifar",
    "cbam_resnet50_luuuyi": "cbam_lite_resnet50",
    "cbam_resnet50_official": "cbam_resnet50",
    "coordatt_resnet101_r32": "coordatt_resnet101",
    "coordatt_resnet18_r32": "coordatt_resnet18",
    "ema_resnet101": "ema_resnet101",
    "ema_resnet18": "ema_resnet18",
    "ema_resnet50": "ema_resnet50",
    "epsanet101_large_3579": {
        "host": {"name": "resnet101", "width": 128, "expansion": 2, "stem_width": 64},
        "stages": [{"conv": {"block": "psa", "groups": [32, 32, 32, 32]}}],
    },
    "epsanet50_small": "epsanet50_small",
    "gam_resnet18_r16": "gam_resnet18",
    "gc_resnet18_r16_all": "gc_resnet18",
    "gc_resnet50_r16_all": "gc_resnet50",
    "gct_resnet50_afterbn": "gct_resnet50",
    "resnest101": "resnest101",
    "resnest50": "resnest50",
    "resnest50_cifar10": "resnest50",
    "resnest50_fast_1s1x64d": "resnest50_fast_1s1x64d",
    "resnest50_fast_1s4x24d": "resnest50_fast_1s4x24d",
    "resnest50_fast_2s2x40d": "resnest50_fast_2s2x40d",
    "resnest50_fast_4s1x64d": "resnest50_fast_4s1x64d",
    "resnet101": "resnet101",
    "resnet101_article000_se8": "se.article_resnet101",
    "resnet101_article003_serial_k3": "article_003_source_resnet101",
    "resnet101_article003_serial_k7": "cbam_lite_resnet101",
    "resnet101_cifar10": "resnet101_cifar",
    "resnet18": "resnet18",
    "resnet18_article000_se8_cifar10": "gam_article_resnet18_cifar",
    "resnet18_article003_serial_k3_cifar10": "article_003_source_resnet18_cifar",
    "resnet18_article003_serial_k3_cifar100": "article_003_source_resnet18_cifar",
    "resnet18_article003_serial_k7_cifar10": "cbam_lite_resnet18_cifar",
    "resnet18_cifar10": "resnet18_cifar",
    "resnet18_coordatt_r32_cifar10": "coordatt_resnet18_cifar",
    "resnet18_coordatt_r32_cifar100": "ca_resnet18_cifar",
    "resnet18_gam_r16_cifar10": "gam_resnet18_cifar",
    "resnet18_gam_r16_cifar100": "resnet18_gam_cifar",
    "resnet18_psa_conv2": "resnet18_psa",
    "resnet18_psa_conv2_cifar10": "resnet18_psa_cifar",
    "resnet18_se16_nobias_cifar10": "se.paper_resnet18_cifar",
    "resnet18_simam_cifar100": "simam_resnet18_cifar",
    "resnet20_cifar10": "resnet20",
    "resnet34": "resnet34",
    "resnet34_article003_impr12_serial": "article_003_serial_resnet34",
    "resnet34_article003_parallel": "article_003_parallel_resnet34",
    "resnet34_cifar10": "resnet34_cifar",
    "resnet50": "resnet50",
    "resnet50_article000_se8_cifar100": "se.article_resnet50_cifar",
    "resnet50_article003_impr12_serial": "article_003_serial_resnet50",
    "resnet50_article003_serial_k3_cifar100": "article_003_source_resnet50_cifar",
    "resnet50_article003_serial_k7": "cbam_lite_resnet50",
    "resnet50_cifar10": "resnet50_cifar",
    "resnet50_cifar100": "resnet50_cifar",
    "resnet50_gam_r16_cifar100": "gam_resnet50_cifar",
    "resnet50_gct_cifar100": "gct_resnet50_cifar",
    "resnet50_se16_bias_cifar100": "se_resnet50_cifar",
    "resnet50_se16_nobias_cifar100": "se.paper_resnet50_cifar",
    "resnet50_simam_cifar100": "simam_resnet50_cifar",
    "resnet50_splat_only": "resnet50_splat",
    "resnet50_splat_only_cifar10": "resnet50_splat_cifar",
    "resnet56_cifar10": "resnet56",
    "sa_resnet18": "sa_resnet18",
    "sa_resnet50": "sa_resnet50",
    "se_resnet32_cifar10_r16": "se_resnet32",
    "se_resnet34_bias": "se_resnet34",
    "se_resnet50_bias": "se_resnet50",
    "se_resnet50_nobias": "se.paper_resnet50",
    "se_resnet56_cifar10_r16": "se_resnet56",
    "timm_resnest50d": "resnest50",
    "timm_skresnet50": "sk_resnet50",
    "triplet_resnet18": "triplet_resnet18",
    "triplet_resnet34": "triplet_resnet34",
    "triplet_resnet50": "triplet_resnet50",
}

# The sources of these pool by another operation, which fvcore counts otherwise or not at all.
POOLED_OTHERWISE = {
    *("bam_resnet18_official", "bam_resnet50_official", "bam_resnet18_cifar10", "bam_resnet101_cifar10"),
    *("cbam_resnet50_official", "cbam_resnet34_cifar10"),
    *(f"resnet{depth}_cifar10" for depth in (18, 34, 50, 101)),
    *("resnet50_cifar100", "resnet50_se16_bias_cifar100", "se_resnet34_bias", "se_resnet50_bias"),
    "timm_resnest50d",
}


def numbers(n: int, stream: int) -> np.ndarray:
    """n numbers in [-0.5, 0.5), by integer hashing: the same wherever they are made."""
    mask = np.uint64(0xFFFFFFFF)
    h = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(1_000_003 * stream)) * np.uint64(
        2_654_435_761
    ) & mask
    h ^= h >> np.uint64(15)
    h = h * np.uint64(2_246_822_519) & mask
    h ^= h >> np.uint64(13)
    return h / 2.0**32 - 0.5


SCALES: dict[str, Callable[[np.ndarray, list[int]], np.ndarray]] = {
    "weight": lambda u, shape: u * math.sqrt(12 / (math.prod(shape) / shape[0])),
    "bias": lambda u, shape: 0.1 * u,
    "norm_weight": lambda u, shape: 1 + 0.2 * u,
    "norm_bias": lambda u, shape: 0.1 * u,
    "running_mean": lambda u, shape: 0.1 * u,
    "running_var": lambda u, shape: 1 + 0.4 * u,
    "other": lambda u, shape: u,
}


def fill(model: nn.Module, tensors: list[Any], names: tuple[str, ...]) -> None:
    """Give the k-th tensor of the source's list its numbers; ours by `names`, else in registration order."""
    state = model.state_dict()
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    ours = names or tuple(state)
    assert len(ours) == len(tensors) == len(state), f"{len(tensors)} tensors upstream, ours: {list(state)}"
    for k, (name, (upstream, shape, role)) in enumerate(zip(ours, tensors, strict=True)):
        values = SCALES[role](numbers(math.prod(shape), k), shape)
        assert state[name].numel() == values.size, (
            f"{upstream} {shape} is not our {name} {tuple(state[name].shape)}"
        )
        state[name].copy_(torch.from_numpy(values).reshape(state[name].shape))


def inputs(shapes: list[Any]) -> list[Tensor]:
    many = shapes if isinstance(shapes[0], list) else [shapes]
    arrays = [2 * math.sqrt(3) * numbers(math.prod(shape), 500 + j) for j, shape in enumerate(many)]
    return [torch.from_numpy(array).reshape(shape) for array, shape in zip(arrays, many, strict=True)]


def run(model: nn.Module, method: str, shapes: list[Any]) -> Tensor:
    maps = inputs(shapes)
    return getattr(model, method)(maps if isinstance(shapes[0], list) else maps[0])


@pytest.mark.parametrize(
    ("fixture", "rows"),
    [(NUMERIC, NUMERIC_ROWS), (COSTS, COST_ROWS | NETWORK_ROWS)],
)
def test_every_entry_has_a_row(fixture: dict, rows: dict) -> None:
    assert set(fixture) == set(rows), "give the new entry a row that builds it"


@pytest.mark.parametrize("name", NUMERIC_ROWS)
@torch.no_grad()
def test_output_for_fixed_weights(name: str) -> None:
    entry, row = NUMERIC[name], NUMERIC_ROWS[name]
    model = row.build().double().eval()
    fill(model, entry["tensors"], row.names)
    out = run(model, row.method, entry["input_shape"])
    assert list(out.shape) == entry["output_shape"]
    flat = out.flatten()
    got = [
        flat.sum().item(),
        flat.abs().sum().item(),
        flat.std().item(),
        *flat[entry["probe_index"]].tolist(),
    ]
    assert got == pytest.approx(
        [entry["sum"], entry["abs_sum"], entry["std"], *entry["probe"]], abs=1e-9, rel=1e-9
    )


@pytest.mark.parametrize("name", COST_ROWS)
def test_cost(name: str) -> None:
    """Parameters and multiply-accumulates are exact; fvcore's total too where it saw the same operators."""
    entry, row = COSTS[name], COST_ROWS[name]
    model = row.build().eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == entry["params"]
    by_operator, shape = counted(model, row.method, entry["input_shape"])
    assert shape == entry["output_shape"]
    assert measure(Through(model, row.method), image(entry["input_shape"])).macs == entry["macs_core"]
    assert sum(by_operator.get(operator, 0) for operator in MAC_OPERATORS) == entry["macs_core"]
    total = sum(by_operator.values())
    if set(by_operator) - set(MAC_OPERATORS) == set(entry["fvcore_by_operator"]) - set(MAC_OPERATORS):
        assert total == entry["flops_fvcore"]
    else:
        assert total == pytest.approx(entry["flops_fvcore"], rel=0.01)


@pytest.mark.parametrize("name", NETWORK_ROWS)
@torch.no_grad()
def test_network_cost(name: str) -> None:
    """As `test_cost`; of fvcore's operators only the pools may differ, and only where that is said."""
    entry = COSTS[name]
    with torch.device("meta"):
        model = create_model(NETWORK_ROWS[name], num_classes=entry["output_shape"][1]).eval()
    cost = measure(model, entry["input_shape"][1:])
    assert (cost.params, cost.macs) == (entry["params"], entry["macs_core"])
    materialize(model)
    by_operator, shape = counted(model, "forward", entry["input_shape"])
    assert shape == entry["output_shape"]
    ours, theirs = folded(by_operator), folded(entry["fvcore_by_operator"])
    if name in POOLED_OTHERWISE:
        assert sum(ours.values()) == pytest.approx(entry["flops_fvcore"], rel=0.01)
        ours, theirs = ({**one, "adaptive_avg_pool2d": 0} for one in (ours, theirs))
    assert ours == theirs


def folded(by_operator: dict[str, int]) -> dict[str, int]:
    """Multiply-adds summed: a linear layer may be spelled as a 1x1 convolution."""
    rest = {key: value for key, value in by_operator.items() if key not in MAC_OPERATORS}
    return {**rest, "macs": sum(by_operator.get(key, 0) for key in MAC_OPERATORS)}


MAC_OPERATORS = ("conv", "linear", "addmm", "mm", "matmul", "bmm", "einsum")


class Through(nn.Module):
    """A method of a module as the forward pass of another; remembers the shape of what came out."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method, self.seen = model, method, [0]

    def forward(self, maps: Any) -> Tensor:
        out: Tensor = getattr(self.model, self.method)(maps)
        self.seen[:] = out.shape
        return out


def image(shapes: list[Any]) -> list[Any]:
    """The shape, or the list of shapes, without the batch."""
    return [shape[1:] for shape in shapes] if isinstance(shapes[0], list) else shapes[1:]


def counted(model: nn.Module, method: str, shapes: list[Any]) -> tuple[dict[str, int], list[int]]:
    """fvcore's count by operator, and the shape of the output."""
    maps = [one.float() for one in inputs(shapes)]
    through = Through(model, method)
    given = maps if isinstance(shapes[0], list) else maps[0]
    analysis = (
        FlopCountAnalysis(through, (given,)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    )
    return {key: int(value) for key, value in analysis.by_operator().items()}, through.seen
