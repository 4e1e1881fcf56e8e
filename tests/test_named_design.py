"""`variants` in a space file: an ablation of archs that have names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnsearch.core.errors import SpaceError, UsageError
from attnsearch.core.settings import Settings
from attnsearch.cost.cost_table import CostTable
from attnsearch.space.space import Space, read_space
from attnsearch.study.ablation import laid_out, plan_design

SPACE = """
host: resnet8
stages: {attention: [none, se, cbam], units: [all, last], position: [before_add, after_stage]}
"""


def space(variants: str) -> Space:
    return read_space(f"{SPACE}variants: {variants}\n", "x")


def test_each_name_is_one_variant_beside_the_plain_host() -> None:
    asked = space("{late: none | none | se, everywhere: all stages se, mixed: cbam@after_stage | none | se}")
    assert asked.design == "named"
    design = plan_design(asked, asked.design, None, [0, 1])
    assert list(design.variants) == ["plain", "late", "everywhere", "mixed"]
    archs = {name: str(asked.arch(row)) for name, row in design.variants.items()}
    assert archs["plain"] == "plain"
    assert archs["late"] == "none | none | se"
    assert archs["everywhere"] == "all stages se"
    assert archs["mixed"] == "cbam@after_stage | none | se"


def test_the_usual_controls_stand_beside_named_variants() -> None:
    asked = space("{late: none | none | cbam}")
    table = CostTable(asked, (3, 32, 32), 10)
    variants = laid_out(asked, table, Settings(seeds=2, controls="null,narrow"))[1]
    assert {v.control for v in variants.values()} == {"", "null gate", "narrow host"}


def test_other_variants_are_another_question() -> None:
    late, early = space("{a: none | none | se}"), space("{a: se | none | none}")
    assert late.fingerprint() != early.fingerprint()
    without = read_space(SPACE, "x")
    assert without.fingerprint() not in (late.fingerprint(), early.fingerprint())


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ("[se]", "expected a mapping from a name to an arch"),
        ("{}", "expected a mapping from a name to an arch"),
        ("{1: se}", "a variant's name is text other than plain, got 1"),
        ("{plain: se}", "a variant's name is text other than plain"),
        ("{late: [none, none, se]}", "variants.late: expected an arch, such as none | se"),
    ],
)
def test_mistakes_in_the_mapping_are_told_with_the_file(variants: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        space(variants)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ("{late: none | none | eca}", "'eca' is no option of stage3 in this space"),
        ("{late: none | se}", "names 2 options, the space has 3 sites"),
        ("{a: se, b: se | se | se}", "The variant 'b' is 'a' under another name"),
        ("{a: none}", "The variant 'a' is the baseline under another name"),
    ],
)
def test_variants_that_the_space_does_not_have(variants: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_design(space(variants), "named", None, [0])
    assert message in str(caught.value)


def test_a_named_design_needs_names() -> None:
    with pytest.raises(SpaceError, match="a named design needs variants"):
        read_space(f"{SPACE}design: named\n", "x")
    with pytest.raises(UsageError, match="--design named needs a space with `variants"):
        plan_design(read_space(SPACE, "x"), "named", None, [0])


def test_the_places_of_a_gate_in_a_trained_network_are_twelve() -> None:
    from attnsearch.space.space import load_space
    from benchmarks import pretrained

    asked = load_space(Path(pretrained.__file__).with_name("placement.yaml"))
    design = plan_design(asked, asked.design, None, [0])
    assert len(design.variants) == 13  # with the plain host
    assert len({asked.arch(row).key for row in design.variants.values()}) == 13
