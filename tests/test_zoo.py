"""The zoo against the definitions: parameters at two widths, published costs, outputs for fixed weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch.utils.flop_counter import FlopCounterMode

from attnsearch import registry
from attnsearch.errors import BlockError

# Parameters at 64 and at 512 channels, default options, from the formula in the block's docstring.
EXPECTED_PARAMS = {
    "bam": (1_173, 68_513),  # 3 C h + 18 h^2 + 13 h + C + 1
    "coordatt": (1_688, 25_648),  # 3 C m + 3 m + 2 C, m = 8 and 16
    "eca": (3, 5),  # the kernel
    "ema": (672, 41_216),  # 10 c^2 + 4 c, c = 8 and 64
    "gc": (653, 33_889),  # 2 C h + 3 h + 2 C + 1
    "gct": (192, 1_536),  # 3 C
    "lska": (5_440, 272_896),  # C (6 + 10 + 4) + C^2 + C
    "mhsa": (12_704, 789_760),  # 3 C^2 + 2 * 13 * C / 4
    "nonlocal": (2_264, 132_800),  # 4 C h + 3 h + 3 C
    "sge": (128, 128),  # 2 * 64
    "shuffle": (6, 24),  # 3 C / G, G = 32 and 64
    "simam": (0, 0),
    "sk": (38_672, 2_410_560),  # 9 C^2 + 4 C + 3 C h + 2 h, h = C / 16 to a multiple of 8
    "triplet": (300, 300),  # 6 * 49 + 6
}

# Fixture entry -> block, channels, options.
NUMERIC = {
    "bam_official_mul": ("bam", 64, {}),
    "eca_k3": ("eca", 64, {}),
    "coordatt_r32": ("coordatt", 64, {}),
    "simam": ("simam", 64, {}),
    "triplet": ("triplet", 64, {}),
    "shuffle_g8": ("shuffle", 64, {"groups": 8}),
    "ema_f8": ("ema", 64, {"groups": 8}),
    "gc_add_r16": ("gc", 64, {}),
    "sk_timm": ("sk", 64, {}),
    "mhsa_bot": ("mhsa", 64, {"position": "absolute"}),
}
ORDER = {"mhsa_bot": ["columns", "rows"]}  # there the table of the last axis comes first
COSTS = {
    "bam_C128": ("bam", {}),
    "bam_C256": ("bam", {}),
    "bam_C1024": ("bam", {}),
    "eca_k3": ("eca", {"kernel": 3}),
    "eca_k5": ("eca", {"kernel": 5}),
    "eca_k7": ("eca", {"kernel": 7}),
    "coordatt_C256_r32": ("coordatt", {}),
    "coordatt_C512_r32": ("coordatt", {}),
    "shuffleatt_C128_g64": ("shuffle", {}),
    "gct_C64": ("gct", {}),
    "ema_C256_f32": ("ema", {"groups": 32}),
    "gcblock_add_C64_r16": ("gc", {}),
    "gcblock_add_C256_r16": ("gc", {}),
    "nonlocal_timm_C64": ("nonlocal", {}),
    "sk_timm_C128": ("sk", {}),
}

GOLDEN = json.loads((Path(__file__).parent / "fixtures" / "zoo.json").read_text())


@pytest.mark.parametrize("name", EXPECTED_PARAMS)
def test_parameter_count_follows_the_formula(name: str) -> None:
    cls = registry.load(name)
    counted = tuple(sum(p.numel() for p in cls(c).parameters()) for c in (64, 512))
    assert counted == EXPECTED_PARAMS[name]


def uniform(n: int, key: int) -> np.ndarray:
    """n numbers in [-0.5, 0.5): an integer hash of position and key, as the fixture's authors drew them."""
    mask = np.uint64(0xFFFFFFFF)
    h = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(1_000_003 * key)) * np.uint64(2_654_435_761) & mask
    h ^= h >> np.uint64(15)
    h = h * np.uint64(2_246_822_519) & mask
    h ^= h >> np.uint64(13)
    return h / 2.0**32 - 0.5


def drawn(shape: list[int], role: str, key: int) -> torch.Tensor:
    u = torch.from_numpy(uniform(int(np.prod(shape)), key))
    fan_in = max(u.numel() // shape[0], 1)
    scaled = {
        "weight": u * (12 / fan_in) ** 0.5,
        "bias": 0.1 * u,
        "norm_weight": 1 + 0.2 * u,
        "norm_bias": 0.1 * u,
        "running_mean": 0.1 * u,
        "running_var": 1 + 0.4 * u,
        "other": u,
    }
    return scaled[role]


@pytest.mark.parametrize("entry", NUMERIC)
def test_output_for_fixed_weights(entry: str) -> None:
    name, channels, options = NUMERIC[entry]
    golden = GOLDEN["numeric"][entry]
    model = registry.load(name)(channels, **options).double().eval()
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    first = ORDER.get(entry, [])
    order = first + [key for key in state if key not in first]
    assert len(order) == len(golden["tensors"])
    for k, (key, (_, shape, role)) in enumerate(zip(order, golden["tensors"], strict=True)):
        state[key].copy_(drawn(shape, role, k).reshape(state[key].shape))
    shape = golden["input_shape"]
    x = torch.from_numpy(2 * 3**0.5 * uniform(int(np.prod(shape)), 500)).reshape(shape)
    with torch.no_grad():
        out = model(x).flatten()
    torch.testing.assert_close(
        out[golden["probe_index"]], torch.tensor(golden["probe"], dtype=torch.float64), rtol=1e-9, atol=1e-9
    )
    measured = (out.sum().item(), out.abs().sum().item(), out.std().item())
    assert measured == pytest.approx((golden["sum"], golden["abs_sum"], golden["std"]), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("entry", COSTS)
def test_published_costs(entry: str) -> None:
    name, options = COSTS[entry]
    golden = GOLDEN["costs"][entry]
    model = registry.load(name)(golden["input_shape"][1], **options).eval()
    x = torch.zeros(golden["input_shape"])
    assert sum(p.numel() for p in model.parameters()) == golden["params"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    assert counter.get_total_flops() == 2 * golden["macs_core"]
    pooled = golden["fvcore_by_operator"].get("adaptive_avg_pool2d", 0)  # ours are means, which fvcore skips
    counted = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert counted.total() + pooled == pytest.approx(golden["flops_fvcore"], rel=0.01)


@pytest.mark.parametrize(
    ("name", "channels", "options", "sentence"),
    [
        ("shuffle", 64, {"groups": 64}, r"groups=64 does not divide 32 .*half of 64.*1, 2, 4, 8, 16, 32$"),
        ("shuffle", 15, {}, "even number of channels"),
        ("sge", 24, {"groups": 64}, "it may be 1, 2, 3, 4, 6, 8, 12, 24"),
        ("ema", 20, {}, "groups=8 does not divide 20"),
        ("mhsa", 66, {"heads": 4}, "heads=4 does not divide 66"),
        ("mhsa", 64, {"size": 0}, "size must be at least 1"),
        ("sk", 65, {}, "the number of kernels=2 does not divide 65"),
        ("sk", 64, {"kernels": (3, 4)}, "odd"),
        ("sk", 64, {"kernels": (3,)}, "two or more"),
        ("sk", 64, {"groups": 3}, "groups=3 does not divide 32 input channels of a path"),
        ("triplet", 64, {"kernel": 4}, "odd"),
        ("eca", 64, {"kernel": 2}, "odd"),
        ("lska", 64, {"kernel": 9}, "7, 11, 23"),
        ("bam", 64, {"ratio": 0}, "ratio must be at least 1"),
        ("nonlocal", 64, {"ratio": 0}, "ratio must be at least 1"),
        ("simam", 64, {"regularizer": 0.0}, "above 0"),
    ],
)
def test_refusals(name: str, channels: int, options: dict, sentence: str) -> None:
    with pytest.raises(BlockError, match=sentence):
        registry.load(name)(channels, **options)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("eca", {"gamma": 4.0, "kernel": 3}, {}),
        ("shuffle", {"groups": 32}, {}),
        ("sge", {"groups": 64}, {}),
        ("coordatt", {"ratio": 8}, {"ratio": 16}),
        ("bam", {"ratio": 16, "min_hidden": 4}, {}),
        ("nonlocal", {"ratio": 9}, {}),
    ],
)
def test_options_that_build_one_block_have_one_spelling(name: str, one: dict, other: dict) -> None:
    resolved = registry.complete(name, 64, one)
    assert resolved == registry.complete(name, 64, other)
    assert registry.complete(name, 64, resolved) == resolved
    first, second = (registry.load(name)(64, **options) for options in (one, resolved))
    assert [p.shape for p in first.parameters()] == [p.shape for p in second.parameters()]


def test_sa_shuffle_is_a_two_group_channel_shuffle() -> None:
    """With gates of one, channel i of the first half lands at 2 i, of the second at 2 i + 1."""
    model = registry.load("shuffle")(8, groups=2)
    for p in (model.channel_bias, model.spatial_bias):
        torch.nn.init.constant_(p, 40.0)
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    torch.testing.assert_close(model(x).flatten(), torch.tensor([0.0, 4, 1, 5, 2, 6, 3, 7]))


def test_relative_positions_against_a_loop() -> None:
    model = registry.load("mhsa")(6, heads=2, size=3).double()
    q = torch.randn(1, 2, 3, 2, 3, dtype=torch.float64)
    scores = model.relative_scores(q)
    from attnsearch.blocks.mhsa import resized

    rows, columns = resized(model.rows, 3), model.columns  # offsets -1..1 and -2..2
    for i in range(6):
        for j in range(6):
            r = rows[:, j // 3 - i // 3 + 1] + columns[:, j % 3 - i % 3 + 2]
            torch.testing.assert_close(scores[0, :, i, j], q[0, :, :, i // 3, i % 3] @ r)


def test_resized_keeps_ends_and_midpoints() -> None:
    from attnsearch.blocks.mhsa import resized

    table = torch.tensor([0.0, 2.0, 6.0])
    torch.testing.assert_close(resized(table, 5), torch.tensor([0.0, 1.0, 2.0, 4.0, 6.0]))
    torch.testing.assert_close(resized(table, 1), torch.tensor([2.0]))
