"""What YAML 1.1 reads otherwise than people mean, numbers that are slips, and options in any spelling."""

from __future__ import annotations

import time

import pytest
import yaml

from attnsearch.blocks.registry import Option
from attnsearch.core.errors import AttnsearchError, UsageError
from attnsearch.space import load_space, read_space
from attnsearch.space.labels import parse_stage
from attnsearch.space.space import shipped_spaces

BASE = "host: resnet20\nstages:\n  attention: [none, se]\n"

MERGES = {
    "a mapping": "{attention: [none, &e {block: eca, kernel: 3}, {<<: *e, kernel: 5}]}",
    "a list of mappings": "{attention: [none, {<<: [{block: eca}, {block: se, kernel: 5}]}]}",
    "at the end": "{attention: [none, {kernel: 5, <<: {block: eca, kernel: 3}}]}",
    "a whole stage": "{<<: {attention: [none, se], units: all}, units: [all, last]}",
}


@pytest.mark.parametrize("case", MERGES)
def test_merges_are_those_of_yaml(case):
    """The values are yaml.safe_load's, which implements yaml.org/type/merge.html."""
    text = f"host: resnet20\nstages: {MERGES[case]}\n"
    plain = yaml.safe_dump({"host": "resnet20", "stages": yaml.safe_load(text)["stages"]})
    assert "<<" not in plain
    assert read_space(text, "x").choices == read_space(plain, "x").choices


MISREAD = {
    "recipe: {epochs: 012}": "012 is an octal number in YAML; write 12",
    "recipe: {lr: 1:30}": "1:30 counts by sixties in YAML",
    "recipe: {epochs: 1:30}": "1:30 counts by sixties in YAML",
    "recipe: {lr: 1:30.5}": "counts by sixties",
    "tied: !!bool maybe": "cannot read 'maybe' as bool",
    'recipe: {lr: !!float ""}': "cannot read '' as float",
    "recipe: {epochs: !!int _}": "cannot read '_' as int",
    "recipe: {epochs: !!int 0x}": "cannot read '0x' as int",
    "question: !!timestamp x": "a timestamp has no meaning here",
    "neck: no": "no, off and false are truth values in YAML; write none",
    "limits: {<<: 3}": "<< merges a mapping",
    "a: &a {<<: *a}": "too many nodes",
}


@pytest.mark.parametrize("line", MISREAD)
def test_what_yaml_misreads_gets_a_sentence(line):
    with pytest.raises(UsageError) as caught:
        read_space(BASE + line, "x.yaml")
    assert MISREAD[line] in str(caught.value)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ("{attention: [no, se]}", "write none, or quote the word"),
        ("{attention: [none, se], position: [yes]}", "truth values in YAML; write one of before_add"),
    ],
)
def test_a_truth_value_in_place_of_a_word(stages, words):
    with pytest.raises(UsageError, match=words):
        read_space(f"stages: {stages}", "x.yaml")


RATIOS, KERNELS = list(range(1, 900)), list(range(1, 254, 2))
GIANTS = {
    "a width": "host: {name: resnet20, width: 1000000000000}\nstages: {attention: [none, se]}",
    "widths": "host: {name: resnet20, widths: [8, 8, 1000000000000]}\nstages: {attention: [none, se]}",
    "a stem": "host: {name: resnet20, stem_width: 1000000000000}\nstages: {attention: [none, se]}",
    "groups": "host: {name: resnet50, cardinality: 1000000000000}\nstages: {attention: [none, se]}",
    "units": "host: {name: resnet20, units: [1000000000, 1, 1]}\nstages: {attention: [none, se]}",
    "stages": f"host: {{name: resnet20, units: [{', '.join('1' * 40)}]}}\nstages: {{attention: [none, se]}}",
    "a kernel": "stages: {attention: [none, {block: eca, kernel: 1000001}]}",
    "kernels": "stages: {conv: [conv3x3, {block: psa, kernels: [3, 1000001]}]}",
    "a ratio": "stages: {attention: [none, {block: se, ratio: 1000000000}]}",
    "forms": f"stages: {{attention: [none, {{block: cbam, ratio: {RATIOS}, kernel: {KERNELS}}}]}}",
    "words": f"stages: {{attention: [none, se], position: {['before_add'] * 4000}, units: {['all'] * 4000}}}",
}


@pytest.mark.parametrize("case", GIANTS)
def test_giants_take_neither_memory_nor_time(case):
    began = time.monotonic()
    if case == "words":
        assert read_space(GIANTS[case], "x.yaml").choices["stage1"][1:]
    else:
        with pytest.raises(UsageError, match=r"at most [\d,]+|more than 20,000 forms of one block"):
            read_space(GIANTS[case], "x.yaml")
    assert time.monotonic() - began < 5


def test_a_number_of_a_block_may_be_as_large_as_is_of_use():
    assert Option("kernel", "int", 3).refuses(255) == ""
    assert Option("kernel", "int", 3).refuses(257) == "at most 255, got 257"
    assert Option("sizes", "tuple[int, ...]", (1,)).refuses([3, 70_000]) == "at most 65,536, got 70,000"


# Options in any spelling

SAME = {
    "none": ("none", " none ", "conv3x3"),
    "cbam(fusion=parallel,ratio=8)": (
        "cbam(ratio=8,fusion=parallel)",
        "cbam( fusion = parallel , ratio = 8 )",
        "cbam(fusion=parallel,ratio=8,kernel=7)",
        "cbam(fusion=parallel,ratio=8)@all",
        "cbam(fusion=parallel,ratio=8)@before_add@all",
    ),
    "cbam": ("cbam()", "cbam(ratio=16)", "cbam(kernel=7, ratio=16, fusion=serial)"),
}


@pytest.mark.parametrize("label", SAME)
def test_an_option_is_named_in_any_spelling(label):
    space = load_space("cbam_variants")
    for text in SAME[label]:
        assert space.named(f"{text} | none | none") == space.named(f"{label} | none | none"), text


@pytest.mark.parametrize("name", sorted(shipped_spaces()))
def test_labels_are_read_back(name):
    """What a stage writes of itself stands for that stage, in every option of every shipped space."""
    space = load_space(name)
    for site, options in space.sites.items():
        for label, value in options.items():
            if site != "neck" and " | " not in label:
                assert space._canonical_option(site, parse_stage(label)) == value, label


WRONG = {
    "cbam(ratio=3)": "'cbam(ratio=3)' is no option in this space. Known: none, ",
    "cbam(ratoi=8)": "Unknown option of cbam 'ratoi'. Did you mean 'ratio'?",
    "cbam(ratio=x)": "cbam, option ratio: expected int, got 'x'",
    "cbamm": "Unknown option 'cbamm'. Did you mean 'cbam'?",
    "cbam(ratio=8": "cannot read the option 'cbam(ratio=8'",
    "cbam@lst": "Unknown option 'cbam@lst'",
}


@pytest.mark.parametrize("text", WRONG)
def test_an_option_that_is_none_is_not_taken_for_another(text):
    with pytest.raises(AttnsearchError) as caught:
        load_space("cbam_variants").named(text)
    assert WRONG[text] in str(caught.value)
