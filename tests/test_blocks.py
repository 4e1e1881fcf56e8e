"""Facts of every block, from outside the code, and what every block must do whatever it computes."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import partial
from itertools import product
from typing import Any, TypeVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attnsearch
from attnsearch.blocks import registry
from attnsearch.blocks._parts import BatchNorm, canonical_hidden, hidden_width
from attnsearch.blocks.mhsa import resized
from attnsearch.blocks.splat import r_softmax
from attnsearch.core.errors import BlockError, UsageError

# Parameters at 64 and at 512 channels, default options, worked out from the formula of each block's source.
# One line a block, in the order of the alphabet.
EXPECTED_PARAMS = {
    "adapter": (580, 4_612),  # 2 C h + h + C, h = 4
    "bam": (1_173, 68_513),  # 3 C h + 18 h^2 + 13 h + C + 1
    "caa": (9_984, 538_624),  # 2 C^2 + C (11 + 11 + 6)
    "cbam": (680, 33_412),  # 2Ch + h + C + 100, h = C/16
    "cbam_lite": (610, 32_866),  # 2Ch + 2*49
    "channel_gate": (580, 33_312),  # 2Ch + h + C
    "coordatt": (1_688, 25_648),  # 3 C m + 3 m + 2 C, m = 8 and 16
    "cpca": (13_328, 450_688),  # C^2 + 112 C + 2 C h + h, h = C/4
    "danet_cam": (1, 1),
    "danet_pam": (5_201, 328_321),  # C^2 + C + 2 (C + 1) d + 1, d = C/8
    "dsconv": (4_800, 267_776),  # 9C + 2C + C^2
    "eca": (3, 5),  # the kernel
    "ela": (448, 3_584),  # 5 C + 2 C
    "ema": (672, 41_216),  # 10 c^2 + 4 c, c = 8 and 64
    "gam": (25_872, 1_640_576),  # 2Ch(1 + 49) + 4h + 4C, h = C/16
    "gam_article": (1_096, 66_112),  # 2Ch + h + C, h = C/8
    "gc": (653, 33_889),  # 2 C h + 3 h + 2 C + 1
    "gct": (192, 1_536),  # 3 C
    "lska": (5_440, 272_896),  # C (6 + 10 + 4) + C^2 + C
    "mhsa": (12_704, 789_760),  # 3 C^2 + 2 * 13 * C / 4
    "mlca": (6, 10),  # 2 k
    "msca": (11_200, 318_976),  # C^2 + 111 C
    "nam": (128, 1_024),  # 2 C
    "nonlocal": (2_264, 132_800),  # 4 C h + 3 h + 3 C
    "pmfs": (287_057, 432_321),  # sum of the separable convolutions, on C/4, C/2 and C channels
    "psa": (27_121, 1_734_792),  # 6.609375 C^2 + 2wh + h + w, w = C/4, h = w/16
    "scsa": (1_024, 8_192),  # 16 C
    "se": (580, 33_312),  # 2Ch + h + C
    "sge": (128, 128),  # 2 * 64
    "shuffle": (6, 24),  # 3 C / G, G = 32 and 64
    "simam": (0, 0),
    "sk": (38_672, 2_410_560),  # 9 C^2 + 4 C + 3 C h + 2 h, h = C / 16 to a multiple of 8
    "spatial_gate": (100, 100),  # 2*49 + 2
    "splat": (43_488, 2_756_352),  # 9C^2 + 4C + Ch + 3h + 2Ch + 2C, h = max(C/2, 32)
    "triplet": (300, 300),  # 6 * 49 + 6
}

# Parameters at 64 channels of forms that options reach; the formula stands behind.
VARIANTS = [
    ("bam.paper", {}, 1_173),  # 3 C h + 18 h^2 + 13 h + C + 1
    ("caa.paper", {"kernel_h": 13, "kernel_v": 9}, 9_856),  # 2 C^2 + C (13 + 9 + 4)
    ("cbam", {"bias": False}, 612),  # 2Ch + 100
    ("cbam", {"fusion": "parallel_mean", "kernel": 3}, 600),  # 2Ch + h + C + 2*9 + 2
    ("cbam", {"fusion": "product", "ties": "one"}, 680),
    ("cbam", {"fusion": "serial_sc", "spatial": "lite"}, 678),
    ("cbam.article", {}, 5_418),  # 2Ch + 2h + 2C + 96*49 + 66
    ("cbam.article_serial", {}, 6_066),  # 2(2Ch + 2h + 2C) + 96*49 + 66
    ("cbam.timm", {}, 612),  # 2Ch + 2*49 + 2
    ("cbam_lite.article_003", {}, 530),  # 2Ch + 2*9
    ("cbam_lite.article_004", {}, 1_122),  # 2Ch + 2*49, h = C/8
    ("channel_gate.article", {}, 1_296),  # 2(2Ch + 2h + 2C)
    ("channel_gate.article_shared", {}, 648),  # 2Ch + 2h + 2C
    ("cpca", {"ratio": 8}, 12_296),  # C^2 + 112 C + 2 C h + h, h = C/8
    ("dsconv", {"kernel": 5}, 5_824),  # 25C + 2C + C^2
    ("dsconv.article", {}, 4_800),  # 9C + C + C^2 + C
    ("eca", {"kernel": 7}, 7),
    ("ela", {"form": "B"}, 576),  # 7 C + 2 C
    ("ela", {"form": "L"}, 3_712),  # 56 C + 2 C
    ("ela", {"form": "S"}, 2_688),  # 40 C + 2 C
    ("ema", {"groups": 32}, 48),  # 10 c^2 + 4 c, c = 2
    ("gam", {"ratio": 4, "groups": 4}, 27_456),  # 2Ch(1 + 49/4) + 4h + 4C
    ("gam.copy", {}, 102_720),  # 2Ch(1 + 49) + 4h + 4C, h = C/4
    ("gam.paper_grouped", {}, 7_056),
    ("gc", {"fusion": "mul", "ratio": 8}, 1_177),  # 2 C h + 3 h + 2 C + 1
    ("lska.lka", {"kernel": 23}, 9_024),  # C (5^2 + 7^2 + 2) + C^2 + C
    ("mhsa.absolute", {}, 13_376),  # 3 (C^2 + C) + 2 * 7 C
    ("mlca", {"local_size": 3, "local_weight": 0.8}, 6),
    ("msca", {"form": "block"}, 19_520),  # 3 C^2 + 113 C
    ("nonlocal.paper", {}, 8_480),  # 4 C h + 3 h + 3 C, h = 32
    ("psa", {"groups": (32, 32, 32, 32), "fit_groups": True}, 10_545),  # 164*64 + SE, groups become 16
    ("psa", {"kernels": (3, 5), "groups": (1, 2), "split_input": True}, 22_178),
    ("psa.large", {"fit_groups": True}, 6_961),  # 108*64 + SE
    ("psa.official", {}, 27_121),
    ("psa.paper", {"groups": (1, 1, 2, 4)}, 20_209),
    ("scsa", {"heads": 4, "pool": "max", "window": 2}, 1_024),
    ("scsa", {"qkv_bias": True, "window": -1}, 1_216),  # 19 C
    ("se", {"bias": False}, 512),  # 2Ch
    ("se", {"divisor": 8}, 1_096),  # h = 8
    ("se.article", {}, 1_096),  # 2Ch + h + C, h = C/8
    ("sk.paper", {}, 8_768),  # 2 * 9 C^2 / 32 + 4 C + 3 C h + 2 h, h = 32
    ("spatial_gate", {"spatial": "deep", "kernel": 3}, 930),  # 96*9 + 66
    ("spatial_gate.article", {}, 4_770),  # 96*49 + 66
    ("spatial_gate.paper", {"kernel": 5}, 50),  # 2*25
    ("splat", {"cardinality": 2}, 21_984),
    ("splat", {"radix": 1, "cardinality": 2}, 20_768),
    ("splat", {"radix": 1}, 41_248),
    ("splat", {"radix": 4, "cardinality": 2}, 29_632),
    ("splat", {"radix": 4}, 58_304),
    ("triplet", {"kernel": 3, "spatial": False}, 40),  # 2 (2 * 9 + 2)
]

PLAIN = sorted(name for name, facts in registry.blocks().items() if facts.slot != "neck")
FORMS: list[tuple[str, Any]] = [(name, {}) for name in PLAIN]
FORMS += [(name, options) for name, options, _ in VARIANTS]
forms = pytest.mark.parametrize(("name", "options"), FORMS, ids=lambda value: str(value) if value else "")


def build(name: str, channels: int = 64, **options: Any) -> Any:  # a block, into which tests look
    if registry.info(name.partition(".")[0]).slot == "neck":
        return attnsearch.create_neck(name, in_channels=[channels // 4, channels // 2, channels], **options)
    return attnsearch.create_block(name, channels, **options)


Model = TypeVar("Model", bound=nn.Module)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def random_map(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def stir(model: Model) -> Model:
    """Move every parameter off its initial value: a gate that starts at zero lets no gradient through."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def test_every_block_has_a_row() -> None:
    assert set(EXPECTED_PARAMS) == set(registry.blocks()), "give the new block a row in EXPECTED_PARAMS"


@pytest.mark.parametrize("name", EXPECTED_PARAMS)
def test_parameters_follow_the_formula(name: str) -> None:
    assert (count(build(name, 64)), count(build(name, 512))) == EXPECTED_PARAMS[name]


@pytest.mark.parametrize(("name", "options", "expected"), VARIANTS, ids=str)
def test_variants_follow_the_formula(name: str, options: dict, expected: int) -> None:
    assert count(build(name, **options)) == expected


@forms
def test_shape_is_kept_at_any_size(name: str, options: dict) -> None:
    block = build(name, **options)
    for size in ((8, 8), (7, 5), (1, 1)):
        x = random_map(2, 64, *size)
        assert block(x).shape == x.shape


@forms
def test_one_sample_trains(name: str, options: dict) -> None:
    block = build(name, **options).train()
    assert block(random_map(1, 64, 6, 5)).isfinite().all()
    assert block(random_map(1, 64, 1, 1)).isfinite().all()


@forms
def test_gradient_reaches_every_parameter(name: str, options: dict) -> None:
    block = stir(build(name, **options))
    x = random_map(4, 64, 6, 5).requires_grad_()
    (block(x) * random_map(4, 64, 6, 5).flip(0)).sum().backward()
    reached = {k for k, p in block.named_parameters() if p.grad is not None and p.grad.any()}
    inert = set(getattr(block, "inert_parameters", ()))
    assert not {k for k, _ in block.named_parameters()} - reached - inert
    assert x.grad is not None
    assert x.grad.any()


@forms
def test_input_is_left_as_it_was(name: str, options: dict) -> None:
    x = random_map(2, 64, 6, 5)
    before = x.clone()
    build(name, **options)(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


GATES = [form for form in FORMS if registry.info(form[0].partition(".")[0]).slot == "attention"]


@pytest.mark.parametrize(("name", "options"), GATES, ids=lambda value: str(value) if value else "")
def test_a_gate_depends_on_its_input(name: str, options: dict) -> None:
    """A gate that is a constant passes every other test here; such a block is affine."""
    block = stir(build(name, **options)).eval()
    x = random_map(2, 64, 6, 5)
    y = x.flip(0)
    assert not torch.allclose(block(x + y) + block(0 * x), block(x) + block(y), rtol=1e-3, atol=1e-4)


@forms
def test_resolved_options_build_the_same_block(name: str, options: dict) -> None:
    base, preset = registry.expand(name)
    resolved: dict[str, Any] = registry.complete(base, 64, {**preset, **options})
    torch.manual_seed(5)
    given = build(name, **options).eval()
    torch.manual_seed(5)
    again = build(base, **resolved).eval()
    torch.testing.assert_close(given.state_dict(), again.state_dict(), rtol=0, atol=0)
    x = random_map(2, 64, 6, 5)
    torch.testing.assert_close(given(x), again(x), rtol=0, atol=0)
    assert registry.complete(base, 64, resolved) == resolved


@pytest.mark.parametrize("name", registry.blocks())
def test_doc_says_how_it_differs(name: str) -> None:
    assert "Differs from the paper:" in " ".join(registry.info(name).doc.split())


@pytest.mark.parametrize("name", registry.blocks())
def test_presets_name_real_options(name: str) -> None:
    facts = registry.info(name)
    for options in facts.presets.values():
        registry.check_options(facts, options)


PRESETS = [f"{name}.{preset}" for name, facts in registry.blocks().items() for preset in facts.presets]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name: str) -> None:
    assert build(name, 128) is not None


# -- widths, norms, starts ----------


@pytest.mark.parametrize(
    ("channels", "ratio", "floor", "divisor", "expected"),
    [
        (64, 16, 1, 1, 4),
        (8, 16, 1, 1, 1),
        (16, 16, 4, 1, 4),
        (16, 16, 1, 8, 8),
        (200, 16, 1, 8, 16),
        (100, 16, 1, 1, 6),
    ],
)
def test_hidden_width(channels: int, ratio: int, floor: int, divisor: int, expected: int) -> None:
    assert hidden_width(channels, ratio, floor, divisor) == expected


@pytest.mark.parametrize("channels", [1, 2, 16, 30, 64])
@pytest.mark.parametrize("hidden", [1, 2, 3, 4, 7, 16, 64])
def test_canonical_hidden_gives_that_width(channels: int, hidden: int) -> None:
    assert hidden_width(channels, **canonical_hidden(channels, hidden)) == hidden


def test_equal_widths_have_one_spelling() -> None:
    spellings = ({"ratio": 16}, {"ratio": 32, "min_hidden": 4}, {"ratio": 16, "divisor": 4}, {"ratio": 15})
    assert len({tuple(registry.complete("se", 64, given).items()) for given in spellings}) == 1
    assert registry.complete("cbam", 64, {"mlp": "independent", "bias": False})["bias"] is True


# Multiply-accumulates on a map of H x W, C = 64, as the sources' papers and code give them by hand.
N = 20 * 14
MACS = [
    ("caa", {}, (2 * 64**2 + 64 * 22) * N),
    ("cpca", {}, (3 * 64**2 + 103 * 64) * N + 4 * 64 * 16),
    ("danet_cam", {}, 2 * 64**2 * N),
    ("danet_pam", {}, (64**2 + 2 * 64 * 8) * N + (64 + 8) * N**2),
    ("ela", {"form": "B"}, 7 * 64 * (20 + 14)),
    ("ela", {"form": "S"}, 5 * 64 * 8 * (20 + 14)),
    ("mlca", {}, 3 * 64 * (1 + 25)),
    ("msca", {}, (64**2 + 103 * 64) * N),
    ("msca", {"form": "block"}, (3 * 64**2 + 103 * 64) * N),
    ("nam", {}, 0),
    ("scsa", {"heads": 4}, 6 * 64 * (20 + 14) + 3 * 64 * 4 + 2 * 64 * 16 * 4),  # 2 x 2 windows of 7
]


@pytest.mark.parametrize(("name", "options", "expected"), MACS, ids=str)
def test_macs_follow_the_formula(name: str, options: dict, expected: int) -> None:
    assert attnsearch.measure(build(name, **options), (64, 20, 14)).macs == expected


def test_nam_takes_the_size_of_scales_and_bears_none() -> None:
    """Scales 3 and -1 on one position of a normalised map of 2 and 4: shares 3/4 and 1/4 of 6 and -4."""
    model = build("nam", 2).eval()
    x = torch.tensor([2.0, 4.0]).reshape(1, 2, 1, 1)
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([3.0, -1.0]))
    normed = x.flatten() / (1 + 1e-5) ** 0.5 * torch.tensor([3.0, -1.0])
    expected = x.flatten() * (normed * torch.tensor([0.75, 0.25])).sigmoid()
    torch.testing.assert_close(model(x).flatten(), expected)
    nn.init.zeros_(model.norm.weight)
    torch.testing.assert_close(model(x), x / 2)


def test_cam_looks_for_what_is_unlike() -> None:
    """Channels (1, 0) and (0, 2): E = diag(1, 4), softmax(max - E) gives (1, e) / (1 + e) and (e^4, 1) / (1 + e^4)."""
    model = build("danet_cam", 2)
    nn.init.ones_(model.gamma)
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).reshape(1, 2, 1, 2)
    e, e4 = math.e, math.exp(4)
    mixed = torch.tensor([[1 / (1 + e), 2 * e / (1 + e)], [e4 / (1 + e4), 2 / (1 + e4)]])
    torch.testing.assert_close(model(x), x + mixed.reshape(1, 2, 1, 2))


def test_mlca_keeps_samples_apart() -> None:
    model, x = build("mlca").eval(), random_map(3, 64, 6, 5)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_scsa_clamps_its_window_to_the_map() -> None:
    x = random_map(2, 16, 4, 3)
    model = build("scsa", 16, window=7)
    whole = build("scsa", 16, window=-1)
    whole.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(x), whole(x))  # one window, the whole map


def test_official_spatial_gate_starts_at_one_half() -> None:
    x = random_map(2, 64, 6, 5)
    torch.testing.assert_close(build("spatial_gate")(x), x / 2)
    block = build("cbam")
    torch.testing.assert_close(block(x), block.channel(x) / 2)


def test_norm_at_batch_one_uses_running_statistics() -> None:
    norm = BatchNorm(3)
    cast(Tensor, norm.running_mean).add_(1.0)
    x = random_map(1, 3, 1, 1)
    torch.testing.assert_close(norm(x), (x - 1.0) / (1 + 1e-5) ** 0.5)
    assert norm.num_batches_tracked == 0
    stacked = BatchNorm(3, views=2)
    torch.testing.assert_close(stacked(random_map(2, 3)), random_map(2, 3) / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1, 1), (1, 3, 2, 2), (2, 3, 2, 2, 2)], ids=str)
def test_norm_is_the_ordinary_one_elsewhere(shape: tuple[int, ...]) -> None:
    x = random_map(*shape)
    over = [0, *range(2, x.dim())]
    mean, var = (
        statistic(x, over, keepdim=True) for statistic in (torch.mean, partial(torch.var, correction=0))
    )
    torch.testing.assert_close(BatchNorm(3)(x), (x - mean) / (var + 1e-5).sqrt())


def test_shared_norm_counts_one_batch_a_step() -> None:
    block = build("channel_gate.article_shared")
    block(random_map(4, 64, 3, 3))
    assert block.mlp[1].num_batches_tracked == 1


# -- gates by hand: two channels, two positions ----------


def test_serial_cbam_is_channel_then_space() -> None:
    x = random_map(2, 64, 6, 5)
    block = stir(build("cbam")).eval()
    y = block.channel(x)
    expected = {
        "serial": block.spatial(y),
        "serial_sc": block.channel(block.spatial(x)),
        "parallel": x + block.channel(x) + block.spatial(x),
        "parallel_mean": (block.channel(x) + block.spatial(x)) / 2,
        "product": y * block.spatial.weights(x),
    }
    for fusion, wanted in expected.items():
        other = build("cbam", fusion=fusion).eval()
        other.load_state_dict(block.state_dict())
        torch.testing.assert_close(other(x), wanted)


def test_deep_residual_adds_the_mean_of_both_maps() -> None:
    """Two channels holding 1 and 3: mean 2, maximum 3; a silent convolution leaves sigmoid(2.5)."""
    gate = build("spatial_gate.article", 2).eval()
    with torch.no_grad():
        gate.body[0].weight.zero_()
    x = torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(gate.weights(x).item(), 1 / (1 + math.exp(-2.5)))


def test_ties_share_the_gradient_or_give_it_to_one() -> None:
    for ties, expected in (("shared", [0.5, 0.5]), ("one", [1.0, 0.0])):
        x = torch.ones(1, 1, 1, 2, requires_grad=True)
        gate = build("channel_gate", 1, ties=ties)
        with torch.no_grad():
            for parameter in gate.parameters():
                parameter.fill_(1.0)
        through_maximum = torch.autograd.grad(gate.weights(x).sum(), x)[0].flatten()
        mean_share = through_maximum.sum() / 4  # half of the gradient, spread over both positions
        torch.testing.assert_close(through_maximum - mean_share, torch.tensor(expected) * 2 * mean_share)


# -- the zoo: spellings, shuffle, positions ----------


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("eca", {"gamma": 4.0, "kernel": 3}, {}),
        ("shuffle", {"groups": 32}, {}),
        ("sge", {"groups": 64}, {}),
        ("coordatt", {"ratio": 8}, {"ratio": 4, "min_hidden": 3}),
        ("bam", {"ratio": 15}, {}),
        ("nonlocal", {"ratio": 9}, {}),
    ],
)
def test_options_that_coincide_have_one_spelling(name: str, one: dict, other: dict) -> None:
    same = [count(build(name, **options)) for options in (one, other)]
    assert (registry.complete(name, 64, one) == registry.complete(name, 64, other)) == (same[0] == same[1])


def test_shuffle_sends_both_halves_to_alternating_channels() -> None:
    """With gates of one, channel i of the first half lands at 2 i, of the second at 2 i + 1."""
    model = build("shuffle", 8, groups=2)
    for bias in (model.channel_bias, model.spatial_bias):
        nn.init.constant_(bias, 40.0)
    out = model(torch.arange(8.0).reshape(1, 8, 1, 1))
    torch.testing.assert_close(out.flatten(), torch.tensor([0.0, 4, 1, 5, 2, 6, 3, 7]))


def test_relative_positions_against_a_loop() -> None:
    """On 2x3 maps: offsets from -1 to 1 down, resized from five places, and from -2 to 2 across."""
    model = build("mhsa", 6, heads=2, size=3)
    q = random_map(1, 2, 3, 2, 3)
    scores = model.relative_scores(q)
    down = model.rows[:, ::2]  # three places over five: every other one
    for i, j in product(range(6), repeat=2):
        r = down[:, j // 3 - i // 3 + 1] + model.columns[:, j % 3 - i % 3 + 2]
        torch.testing.assert_close(scores[0, :, i, j], q[0, :, :, i // 3, i % 3] @ r)


@torch.no_grad()
def test_gct_by_the_formula() -> None:
    model, x = stir(build("gct", 6)), random_map(2, 6, 3, 4)
    alpha, gamma, beta = (p[0, :, 0, 0].numpy() for p in (model.alpha, model.gamma, model.beta))
    expected = x.numpy().copy()
    for image in expected:
        embedding = alpha * np.sqrt((image**2).sum((1, 2)) + 1e-5)
        normal = embedding / np.sqrt((embedding**2).mean() + 1e-5)
        image *= (1 + np.tanh(gamma * normal + beta))[:, None, None]
    torch.testing.assert_close(model(x), torch.from_numpy(expected))


@torch.no_grad()
def test_sge_by_the_formula() -> None:
    model, x = stir(build("sge", 6, groups=2)), random_map(2, 6, 3, 4)
    expected = x.numpy().copy()
    for image, g in product(expected, range(2)):
        group = image[3 * g : 3 * g + 3]
        likeness = np.einsum("chw,c->hw", group, group.mean((1, 2)))
        normal = (likeness - likeness.mean()) / (likeness.std(ddof=1) + 1e-5)
        group /= 1 + np.exp(-(model.weight[0, g, 0].item() * normal + model.bias[0, g, 0].item()))
    torch.testing.assert_close(model(x), torch.from_numpy(expected))


@torch.no_grad()
def test_nonlocal_by_the_formula() -> None:
    model, x = stir(build("nonlocal", 16, ratio=2)).eval(), random_map(1, 16, 2, 3)
    places = x.reshape(16, 6).numpy()
    query, key, value = (
        conv.weight[:, :, 0, 0].numpy() @ places + conv.bias.numpy()[:, None]
        for conv in (model.query, model.key, model.value)
    )
    scores = np.exp(query.T @ key / 4)  # 16 ** -0.5
    mixed = value @ (scores / scores.sum(1, keepdims=True)).T
    context = model.norm(model.out(torch.from_numpy(mixed).reshape(1, 8, 2, 3)))
    torch.testing.assert_close(model(x), x + context)


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("kernel", [7, 11, 23, 35, 41, 53])
def test_lska_sees_as_far_as_its_kernel(kernel: int, separable: bool) -> None:
    model = build("lska", 1, kernel=kernel, separable=separable)
    x = torch.ones(1, 1, 61, 61, requires_grad=True)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    model.gate(x)[0, 0, 30, 30].backward()
    seen = cast(Tensor, x.grad)[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [kernel, kernel]


@torch.no_grad()
def test_bam_paper_sums_what_the_code_multiplies() -> None:
    x = random_map(2, 64, 5, 7)
    model = stir(build("bam")).eval()
    channel, spatial = model.channel(x.mean((2, 3), keepdim=True)), model.spatial(x)
    torch.testing.assert_close(model(x), x + x * (channel * spatial).sigmoid())
    other = build("bam.paper").eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), x + x * (channel + spatial).sigmoid())


@torch.no_grad()
def test_gc_scales_or_adds_one_context() -> None:
    x = random_map(1, 8, 2, 2)
    scaling = stir(build("gc", 8, fusion="mul"))
    adding = build("gc", 8)
    adding.load_state_dict(scaling.state_dict())
    change = adding(x) - x
    torch.testing.assert_close(change, change.mean((2, 3), keepdim=True).expand_as(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scaling(x), x * change.sigmoid())


@torch.no_grad()
def test_attention_with_relative_positions_by_the_formula() -> None:
    model, x = build("mhsa", 6, heads=2), random_map(1, 6, 2, 3)
    q, k, v = (conv(x).reshape(2, 3, 6) for conv in model.qkv)
    places = model.relative_scores(q.reshape(1, 2, 3, 2, 3))[0]
    scores = torch.einsum("hdi,hdj->hij", q, k) / 3**0.5 + places / 3**0.5
    expected = torch.einsum("hij,hdj->hdi", scores.softmax(2), v)
    torch.testing.assert_close(model(x), expected.reshape(1, 6, 2, 3))


def test_position_tables_are_resized_end_to_end() -> None:
    table = torch.tensor([0.0, 2.0, 6.0])
    torch.testing.assert_close(resized(table, 5), torch.tensor([0.0, 1.0, 2.0, 4.0, 6.0]))
    torch.testing.assert_close(resized(table, 1), torch.tensor([2.0]))


@pytest.mark.parametrize("name", [name for name in PLAIN if registry.info(name).slot == "conv"])
def test_conv_blocks_stride_and_widen_like_a_3x3(name: str) -> None:
    x = random_map(2, 64, 7, 5)
    model = attnsearch.create_block(name, 64, out_channels=128, stride=2)
    assert model(x).shape == nn.Conv2d(64, 128, 3, 2, 1)(x).shape


# -- conv blocks ----------

CONVS = [form for form in FORMS if registry.info(form[0].partition(".")[0]).slot == "conv"]


@pytest.mark.parametrize(("name", "options"), CONVS, ids=lambda value: str(value) if value else "")
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5)])
def test_conv_block_widens_and_strides(name: str, options: dict, height: int, width: int) -> None:
    block = build(name, out_channels=128, stride=2, **options)
    assert block(random_map(2, 64, height, width)).shape == (2, 128, (height + 1) // 2, (width + 1) // 2)


def test_depthwise_separable_by_hand() -> None:
    """One position, two channels: the centre of each filter, then a 2 x 2 matrix, then its biases."""
    block = build("dsconv.article", 2)
    with torch.no_grad():
        block.depthwise.weight[:, 0, 1, 1] = torch.tensor([2.0, 3.0])
        block.depthwise.bias.copy_(torch.tensor([1.0, -1.0]))
        block.pointwise.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 2.0]])[:, :, None, None])
        block.pointwise.bias.copy_(torch.tensor([0.0, 10.0]))
    out = block(torch.tensor([5.0, 7.0]).reshape(1, 2, 1, 1))
    torch.testing.assert_close(out.flatten(), torch.tensor([11.0 + 20.0, 40.0 + 10.0]))


@pytest.mark.parametrize("cardinality", [1, 2, 4])
@pytest.mark.parametrize("radix", [2, 3])
def test_r_softmax_sums_to_one_over_the_splits(radix: int, cardinality: int) -> None:
    logits = random_map(2, cardinality * radix * 5, 1, 1)
    by_split = r_softmax(logits, radix, cardinality).reshape(2, radix, cardinality, 5)
    torch.testing.assert_close(by_split.sum(1), torch.ones(2, cardinality, 5))
    # Group 0's first channel is compared with its own splits, which stand side by side in the logits.
    own = logits[0, : radix * 5 : 5].flatten().softmax(0)
    torch.testing.assert_close(by_split[0, :, 0, 0], own)


def test_r_softmax_of_one_split_is_a_sigmoid() -> None:
    logits = random_map(2, 8, 1, 1)
    torch.testing.assert_close(r_softmax(logits, 1, 2), logits.flatten(1).sigmoid())


def test_psa_weights_stay_within_their_bounds() -> None:
    """Softmax over four sigmoids: 1 / (1 + 3e) = 0.109 to e / (e + 3) = 0.475."""
    block, ungated = stir(build("psa")), []
    block.convs.apply(lambda conv: conv.register_forward_hook(lambda *seen: ungated.append(seen[2])))
    x = 30 * random_map(2, 64, 6, 5)
    ratio = block(x) / torch.cat(ungated, 1)
    assert 0.109 < ratio.min() < 0.2
    assert 0.3 < ratio.max() < 0.4755


def test_psa_reports_the_groups_it_was_built_with() -> None:
    fitted = build("psa", 16, groups=(1, 4, 8, 16), fit_groups=True)
    assert fitted.groups == (1, 4, 4, 4)
    assert [conv.groups for conv in fitted.convs] == [1, 4, 4, 4]
    assert registry.complete("psa", 16, {"fit_groups": True})["groups"] == (1, 4, 4, 4)


def test_grouped_gam_shuffles_its_spatial_weights() -> None:
    """Two groups of two channels: the weights of channels 0, 1 | 2, 3 go to 0, 2 | 1, 3."""
    block = build("gam", 4, ratio=2, groups=2).eval()
    with torch.no_grad():
        for parameter in block.spatial.parameters():
            parameter.zero_()
        block.spatial[4].bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
        block.channel[2].weight.zero_()
        block.channel[2].bias.zero_()
    weights = block(torch.ones(1, 4, 1, 1)).flatten() / 0.5
    torch.testing.assert_close(weights, torch.tensor([0.0, 2.0, 1.0, 3.0]).sigmoid())


# -- the neck ----------


def neck_maps(*sizes: tuple[int, ...], batch: int = 2) -> list[Tensor]:
    return [random_map(batch, 8 * 2**i, *size) for i, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "dim"),
    [
        ([(16, 12), (8, 6), (4, 3)], "2d"),
        ([(17, 33), (9, 17), (5, 9)], "2d"),
        ([(4, 4), (2, 2), (1, 1)], "2d"),
        ([(8, 8, 4), (4, 4, 2), (2, 2, 1)], "3d"),
        ([(9, 5, 5), (5, 3, 3), (3, 2, 2)], "3d"),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_neck_gives_the_deepest_shape_and_trains(sizes: list, dim: str, batch: int) -> None:
    neck = stir(attnsearch.create_neck("pmfs", [8, 16, 32], width=8, dim=dim)).train()
    maps = neck_maps(*sizes, batch=batch)
    before = [one.clone() for one in maps]
    out = neck(maps)
    assert out.shape == maps[-1].shape
    assert out.isfinite().all()
    torch.testing.assert_close(maps, before, rtol=0, atol=0)
    (out * random_map(*out.shape)).sum().backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())


def test_gradient_reaches_every_parameter_of_the_neck() -> None:
    neck = stir(attnsearch.create_neck("pmfs", [8, 16, 32], width=8))
    out = neck(neck_maps((16, 12), (8, 6), (4, 3)))
    (out * random_map(*out.shape).flip(0)).sum().backward()
    # A constant before a softmax over positions changes nothing: its gradient is zero but for rounding.
    without = {"channel_key.3.bias"}
    missing = {key for key, parameter in neck.named_parameters() if not cast(Tensor, parameter.grad).any()}
    assert missing <= without


def test_neck_of_flat_volumes_is_the_neck_of_images() -> None:
    """A volume one slice deep meets the middle slice of each kernel alone."""
    flat = stir(attnsearch.create_neck("pmfs", [8, 16], width=8, kernels=(2, 1))).eval()
    deep = attnsearch.create_neck("pmfs", [8, 16], width=8, dim="3d").eval()
    state = {}
    for (name, ours), image in zip(deep.state_dict().items(), flat.state_dict().values(), strict=True):
        value = torch.zeros_like(ours)
        if ours.dim() == 5:
            value[:, :, ours.shape[2] // 2] = image
        else:
            value = image.reshape(ours.shape)
        state[name] = value
    deep.load_state_dict(state)
    maps = neck_maps((6, 4), (3, 2))
    out = deep([one[:, :, None] for one in maps])
    torch.testing.assert_close(out[:, :, 0], flat(maps))


def test_neck_widths_may_differ() -> None:
    neck = attnsearch.create_neck("pmfs", [8, 16], width=8, key_width=4, value_width=12)
    assert neck(neck_maps((6, 4), (3, 2))).shape == (2, 16, 3, 2)


def test_neck_refuses_maps_it_cannot_join() -> None:
    neck = attnsearch.create_neck("pmfs", [8, 16, 32], width=8)
    given = attnsearch.create_neck("pmfs", [8, 16, 32], width=8, kernels=(4, 2, 1))
    with pytest.raises(BlockError, match="built for 3 maps, got 2"):
        neck(neck_maps((4, 4), (2, 2)))
    with pytest.raises(BlockError, match=r"sizes \[\(17, 17\), \(9, 9\), \(5, 5\)\] pool to"):
        given(neck_maps((17, 17), (9, 9), (5, 5)))
    with pytest.raises(BlockError, match="expected a map with 16 channels"):
        neck([random_map(2, 8, 4, 4)] * 3)
    with pytest.raises(BlockError, match="not one size for each of 2 maps"):
        attnsearch.create_neck("pmfs", [8, 16], kernels=(4, 2, 1))


# -- mistakes ----------


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("se", {"ratio": 0}, "ratio must be at least 1"),
        ("se", {"ratio": "8"}, "option 'ratio': expected int, got '8'"),
        ("se", {"bias": 1}, "option 'bias': expected bool"),
        ("se", {"reduction": 8}, "no option 'reduction'"),
        ("cbam", {"kernel": 4}, "kernel must be odd"),
        ("caa", {"kernel_h": 4}, "kernel_h must be odd"),
        ("cpca", {"ratio": 65}, "ratio=65 leaves no hidden channel of 64"),
        ("dsconv", {"stride": 0}, "stride must be"),
        ("mlca", {"local_size": 0}, "local_size must be at least 1"),
        ("mlca", {"local_weight": 1.5}, "a share from 0 to 1"),
        ("scsa", {"heads": 5}, "heads=5 does not divide 64 channels"),
        ("scsa", {"window": 0}, "window must be at least 1, or -1"),
        ("gam", {"groups": 3}, "groups=3 does not divide the 64 channels"),
        ("gam", {"groups": 8}, "groups=8 does not divide the 4 hidden channels"),
        ("psa", {"groups": (1, 4)}, "one of groups per kernel"),
        ("psa", {"groups": (1, 4, 8, 32)}, "groups=32 of kernel 9 does not divide 16.*fit_groups"),
        ("psa", {"kernels": (2, 5, 7, 9)}, "each of psa's kernels must be odd"),
        ("psa", {"out_channels": 66}, "needs channels divisible by 4, got 66"),
        ("splat", {"cardinality": 3}, "cardinality 3 does not divide 64"),
        ("splat", {"radix": 0}, "radix must be at least 1"),
        ("cbam", {"fusion": "paralel"}, "Did you mean 'parallel'"),
        ("bam", {"dilation": 0}, "dilation must be at least 1"),
        ("eca", {"gamma": 0.0}, "gamma must be above 0"),
        ("eca", {"kernel": 2}, "kernel must be odd"),
        ("lska", {"kernel": 9}, "9 is not one of 7, 11, 23"),
        ("mhsa", {"heads": 5}, "heads=5 does not divide 64 output channels; it may be 1, 2, 4"),
        ("mhsa", {"size": 0}, "size must be at least 1"),
        ("nonlocal", {"ratio": 0}, "ratio must be at least 1"),
        ("shuffle", {"groups": 64}, r"groups=64 does not divide 32 .*half of 64.*1, 2, 4, 8, 16, 32$"),
        ("sge", {"groups": 24}, "groups=24 does not divide 64 channels; it may be 1, 2, 4"),
        ("simam", {"regularizer": 0.0}, "above 0"),
        ("sk", {"groups": 3}, "groups=3 does not divide 32 input channels of a path"),
        ("sk", {"kernels": (3, 4)}, "kernel must be odd"),
        ("sk", {"kernels": (3,)}, "two or more"),
        ("triplet", {"kernel": 4}, "kernel must be odd"),
    ],
)
def test_mistakes_say_what_would_be_right(name: str, options: dict, words: str) -> None:
    with pytest.raises(BlockError, match=words):
        build(name, **options)


@pytest.mark.parametrize(
    ("name", "channels", "words"),
    [
        ("danet_pam", 7, "at least 8 channels"),
        ("ela", 48, "form T needs channels divisible by 32, got 48"),
        ("ema", 20, "groups=8 does not divide 20"),
        ("scsa", 30, "divisible by 4, got 30"),
        ("shuffle", 15, "even number of channels"),
        ("sk", 65, "the number of kernels=2 does not divide 65"),
    ],
)
def test_widths_that_do_not_fit_are_refused(name: str, channels: int, words: str) -> None:
    with pytest.raises(BlockError, match=words):
        build(name, channels)


def test_unknown_names_say_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'cbam'"):
        attnsearch.create_block("cbamm", 64)
    with pytest.raises(UsageError, match="Did you mean 'article'"):
        attnsearch.create_block("se.artcle", 64)
    with pytest.raises(BlockError, match="channels must be"):
        attnsearch.create_block("se", 0)


def test_facts_need_no_torch() -> None:
    code = (
        "import sys, attnsearch\nfrom attnsearch.blocks import registry\n"
        "assert registry.expand('se.article') == ('se', {'ratio': 8})\nassert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
