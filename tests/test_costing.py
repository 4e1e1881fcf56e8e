"""The additive cost table against direct counts of whole networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from attnsearch.build.resnet import build
from attnsearch.core.costs import parse_limits
from attnsearch.cost.cost_table import CostTable, map_size
from attnsearch.space.space import load_space

IMAGE = (3, 32, 32)
MULTIPLY_ADD = {"conv", "linear", "addmm", "mm", "matmul", "bmm", "einsum"}  # names of fvcore


@pytest.fixture(scope="module")
def table():
    return CostTable(load_space("cbam_variants").on("cluttered-digits"), IMAGE, classes=10)


def test_sums_are_the_direct_counts_of_fifty_archs(table):
    assert table.additive
    for seed in range(50):
        arch = table.space.sample(seed)
        assert table.of(arch, table.space.choice(arch)) == table.direct(arch)


@pytest.mark.slow
@pytest.mark.parametrize("host", ["resnet8", "resnet14", "resnet18", "resnet50"])
def test_sums_are_what_fvcore_counts(tmp_path, host):
    """Fifty random archs per backbone, built: fvcore's operators that multiply and add, and parameters."""
    path = tmp_path / "host.yaml"
    path.write_text(
        f"host: {host}\nstages: {{attention: [none, se, eca, cbam, coordatt, gc, nonlocal], units: [all, last]}}\n"
    )
    sums, sizes = CostTable(load_space(path), IMAGE, classes=10), set()
    assert sums.additive
    for seed in range(50):
        arch = sums.space.sample(seed)
        network = build(arch, classes=10).eval()
        counted = FlopCountAnalysis(network, torch.zeros(1, *IMAGE)).unsupported_ops_warnings(False)
        operators = counted.uncalled_modules_warnings(False).by_operator()
        macs = sum(count for name, count in operators.items() if name in MULTIPLY_ADD)
        params = sum(weight.numel() for weight in network.parameters())
        found = sums.of(arch, sums.space.choice(arch))
        assert (found["macs"], found["params"]) == (macs, params)
        sizes.add(macs)
    assert len(sizes) > 10


def test_stage_level_blocks_and_conv_blocks_are_additive_too(tmp_path):
    path = tmp_path / "mixed.yaml"
    path.write_text(
        "host: {name: resnet14, width: 32}\n"
        "stages:\n"
        "  attention: [none, {block: bam}, se]\n"
        "  position: [after_stage, before_add, after_conv]\n"
        "  conv: [conv3x3, dsconv]\n"
    )
    table = CostTable(load_space(path), IMAGE, classes=10)
    assert table.additive
    for seed in range(10):
        arch = table.space.sample(seed)
        assert table.of(arch, table.space.choice(arch)) == table.direct(arch)


def test_the_range_is_that_of_all_archs(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("host: resnet8\nstages: {attention: [none, se, cbam]}\n")
    table = CostTable(load_space(path), IMAGE, classes=10)
    macs = table.column(table.codes(10_000), "macs")
    assert len(macs) == 27
    assert table.range("macs") == (macs.min(), macs.max())


def test_nothing_over_budget_is_allowed(table):
    limits = parse_limits("params<=1.02x,macs<=13M")
    codes = table.codes(2_000)
    kept = codes[table.allowed(codes, limits)]
    assert 0 < len(kept) < len(codes)
    assert (table.column(kept, "params") <= 1.02 * table.baseline["params"]).all()
    assert (table.column(kept, "macs") <= 13e6).all()


def test_map_sizes_halve_as_the_network_does():
    # 224 px: 7x7/2 to 112, max-pool to 56, then 56, 28, 14, 7 (He et al. 2016, table 1).
    host = load_space("cbam_variants").host
    assert [map_size(host, IMAGE, i) for i in (-1, 0, 1, 2)] == [(32, 32), (32, 32), (16, 16), (8, 8)]
    from attnsearch.space.arch import Host

    assert [map_size(Host("resnet18"), (3, 224, 224), i)[0] for i in (-1, 0, 1, 2, 3)] == [56, 56, 28, 14, 7]


def test_columns_follow_the_codes(table):
    codes = table.codes(100)
    doubled = np.concatenate([codes, codes])
    column = table.column(doubled, "flops")
    assert (column[:100] == column[100:]).all()
