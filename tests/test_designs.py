"""Designs: what runs, in which order, and which effects share a name."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from attnsearch.core.errors import UsageError
from attnsearch.sample.designs import Design, add, factorial, loo, swap
from attnsearch.statistics import Table, factor_effects
from attnsearch.statistics.effects import effect_columns

SITES = {"s1": ["none", "se", "cbam"], "s2": ["none", "se"], "s3": ["none", "se"]}
PLAIN = dict.fromkeys(SITES, "none")
FULL_SE = dict.fromkeys(SITES, "se")


def many(count: int) -> tuple[dict, dict, dict]:
    sites = {f"s{i}": ["none", "se"] for i in range(count)}
    return sites, dict.fromkeys(sites, "none"), dict.fromkeys(sites, "se")


def test_loo_leaves_out_each_site_of_the_reference():
    reference = {"s1": "cbam", "s2": "none", "s3": "se"}
    design = loo(SITES, baseline=PLAIN, reference=reference, seeds=[0, 1])
    assert design.baseline == "reference"
    assert design.variants == {
        "reference": reference,
        "without s1": {**reference, "s1": "none"},
        "without s3": {**reference, "s3": "none"},
    }


def test_add_puts_one_site_at_a_time():
    assert list(add(SITES, baseline=PLAIN, seeds=[0]).variants) == [
        "plain",
        "s1=se",
        "s1=cbam",
        "s2=se",
        "s3=se",
    ]
    some = add(SITES, baseline=PLAIN, reference={"s1": "cbam", "s2": "none", "s3": "se"}, seeds=[0])
    assert list(some.variants) == ["plain", "s1=cbam", "s3=se"]


def test_swap_takes_the_options_of_one_site():
    design = swap(SITES, "s1", baseline=FULL_SE, seeds=[0])
    assert design.baseline == "se"
    assert {name: options["s1"] for name, options in design.variants.items()} == {
        "se": "se",
        "none": "none",
        "cbam": "cbam",
    }
    assert {options["s2"] for options in design.variants.values()} == {"se"}


def test_full_factorial_has_every_combination_and_no_aliases():
    design = factorial(SITES, baseline=PLAIN, reference=FULL_SE, seeds=[0])
    assert len(design.variants) == 8
    assert len({tuple(v.values()) for v in design.variants.values()}) == 8
    assert next(iter(design.variants)) == design.baseline == "plain"
    assert design.aliases == ()


@pytest.mark.parametrize(("count", "runs"), [(6, 16), (8, 16), (9, 32), (15, 32)])
def test_fractions_are_of_resolution_four(count, runs):
    sites, plain, reference = many(count)
    design = factorial(sites, baseline=plain, reference=reference, seeds=[0])
    assert len(design.variants) == runs
    assert design.variants[design.baseline] == plain
    columns = effect_columns(list(design.variants.values()))
    for main in sites:
        others = [column for name, column in columns.items() if name != main]
        assert all(columns[main] @ other == 0 for other in others), f"{main} is not clear"


def test_aliases_name_every_pair_of_equal_interactions():
    sites, plain, reference = many(6)
    design = factorial(sites, baseline=plain, reference=reference, seeds=[0])
    columns = effect_columns(list(design.variants.values()))
    pairs = [
        {a, b} for a, b in combinations(columns, 2) if abs(columns[a] @ columns[b]) == len(design.variants)
    ]
    listed = [{name.removeprefix("-") for name in group} for group in design.aliases]
    assert pairs
    assert all(any(pair <= group for group in listed) for pair in pairs)
    assert all(pair in pairs for group in listed for pair in map(set, combinations(group, 2)))


def test_a_fraction_finds_planted_effects():
    sites, plain, reference = many(8)
    design = factorial(sites, baseline=plain, reference=reference, seeds=range(4))
    rng = np.random.default_rng(0)
    cells = {}
    for name, block in design.order():
        gain = 2 * (design.variants[name]["s3"] == "se") - 1 * (design.variants[name]["s6"] == "se")
        cells[name, block] = 30 - gain + rng.normal(0, 0.3)
    effects = factor_effects(Table.of_cells(cells), design.factors)
    shown = {e.name: round(e.estimate) for e in effects if e.p_holm < 0.05}
    assert shown == {"s3": 2, "s6": -1}


def test_effects_survive_a_variant_that_never_ran():
    sites, plain, reference = many(4)
    design = factorial(sites, baseline=plain, reference=reference, seeds=[0, 1])
    cells = {
        (name, block): 30.0 - 2 * (settings["s1"] == "se") - (settings["s2"] == "se") + block
        for name, settings in design.variants.items()
        for block in design.blocks
        if name != "s0=se + s1=se"
    }
    found = {e.name: e.estimate for e in factor_effects(Table.of_cells(cells), design.factors)}
    assert [found["s0"], found["s1"], found["s2"]] == pytest.approx([0, 2, 1], abs=1e-9)


def test_order_is_whole_blocks_random_within_and_stable():
    design = add(SITES, baseline=PLAIN, seeds=[3, 1, 2]).with_controls("null gate", "wide")
    order = design.order()
    size = len(design.variants)
    assert [block for _, block in order] == [3] * size + [1] * size + [2] * size
    assert Counter(order) == Counter((name, block) for name in design.variants for block in (3, 1, 2))
    assert [name for name, block in order if block == 3] != [name for name, block in order if block == 1]
    longer = Design(design.kind, design.baseline, design.variants, (3, 1, 2, 7))
    assert longer.order()[: len(order)] == order
    assert design.order(done=set(order[:5])) == order[5:]
    assert design.order(seed=1) != order


def test_first_place_of_a_block_is_fair():
    design = add(SITES, baseline=PLAIN, seeds=range(400))
    first = Counter(name for i, (name, _) in enumerate(design.order()) if i % len(design.variants) == 0)
    assert min(first.values()) > 400 / 5 * 0.6  # 5 variants, 80 each expected; 48 is 4 sd below


def test_controls_run_but_are_no_factor():
    design = factorial(SITES, baseline=PLAIN, reference=FULL_SE, seeds=[0]).with_controls("wide")
    assert "wide" in design.variants
    assert "wide" not in design.factors
    with pytest.raises(UsageError, match="already has a variant 'wide'"):
        design.with_controls("wide")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: loo(SITES, baseline=PLAIN, reference=PLAIN, seeds=[0]), "nothing to compare"),
        (lambda: swap(SITES, "s4", baseline=PLAIN, seeds=[0]), "Unknown site 's4'. Known: s1, s2, s3"),
        (
            lambda: add(SITES, baseline={**PLAIN, "s1": "sse"}, seeds=[0]),
            "no option 'sse'. Did you mean 'se'",
        ),
        (lambda: add(SITES, baseline={"s1": "none"}, seeds=[0]), "Site 's2' has no option in the design"),
        (lambda: add(SITES, baseline=PLAIN, seeds=[]), "at least one seed"),
        (
            lambda: factorial(*many(16)[:1], baseline=many(16)[1], reference=many(16)[2], seeds=[0]),
            "up to 15 sites",
        ),
    ],
)
def test_mistakes_are_told(call, words):
    with pytest.raises(UsageError) as caught:
        call()
    assert words in str(caught.value)


def test_a_reference_is_one_option_or_one_for_each_site():
    from attnsearch.space.space import read_space
    from attnsearch.study.ablation import plan_design

    space = read_space("question: q\nhost: resnet8\nstages: {attention: [none, se, ema]}\n", "q")
    everywhere = plan_design(space, "loo", "se", [0])
    assert everywhere.variants["reference"] == {"stage1": "se", "stage2": "se", "stage3": "se"}
    each = plan_design(space, "loo", "ema | none | se", [0])
    assert each.variants["reference"] == {"stage1": "ema", "stage2": "none", "stage3": "se"}
    assert set(each.variants) == {"reference", "without stage1", "without stage3"}
    with pytest.raises(UsageError, match="names 2 options, the space has 3 sites"):
        plan_design(space, "add", "ema | se", [0])
    with pytest.raises(UsageError, match="Unknown option of stage1 'es'"):
        plan_design(space, "add", "es | none | none", [0])
