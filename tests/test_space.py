"""Space files: what they say, and what is said of their mistakes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from attnsearch.core.costs import parse_limits
from attnsearch.core.errors import AttnsearchError, SpaceError, UsageError
from attnsearch.space.arch import Arch, Stage
from attnsearch.space.canonical import canonical
from attnsearch.space.space import load_space, shipped_spaces


def space_of(tmp_path: Path, text: str):
    path = tmp_path / "question.yaml"
    path.write_text(text)
    return load_space(path)


ECA = "host: resnet20\nstages:\n  attention: [none, {block: eca, kernel: [3, 5]}]\n"

# text of a file, words that its one error must contain
MISTAKES = {
    "unknown block": (
        "stages: {attention: [none, cbamm]}",
        ["Unknown block 'cbamm'", "Did you mean 'cbam'?", "line 1"],
    ),
    "unknown block in one stage": (
        "host: resnet20\nstages:\n- {attention: se}\n- {attention: [none, see]}\n- {attention: se}",
        ["stages[1].attention[1]", "Unknown block 'see' in stage 2", "Did you mean 'se'?", "line 4"],
    ),
    "unknown option": (
        "stages: {attention: [none, {block: se, raito: 16}]}",
        ["stages.attention[1].raito", "'raito'", "Did you mean 'ratio'?"],
    ),
    "unknown key": ("stagse: {}\nstages: {attention: [none, se]}", ["'stagse'", "Did you mean 'stages'?"]),
    "word for a number": (
        "stages: {attention: [none, {block: se, ratio: many}]}",
        ["expected int", "'many'"],
    ),
    "unknown choice": (
        "stages: {attention: [none, {block: cbam, fusion: paralel}]}",
        ["'paralel'", "Did you mean 'parallel'?"],
    ),
    "unknown host": (
        "host: resnet19\nstages: {attention: [none, se]}",
        ["Unknown host 'resnet19'", "resnet18"],
    ),
    "unknown units": (
        "stages: {attention: [none, se], units: [al]}",
        ["Unknown units 'al'", "Did you mean 'all'?"],
    ),
    "wrong number of stages": (
        "host: resnet20\nstages:\n- {attention: [none, se]}\n- {attention: se}",
        ["resnet20 has 3 stages, the list has 2"],
    ),
    "conv block in the attention slot": ("stages: {attention: [none, psa]}", ["Unknown block 'psa'"]),
    "nothing to choose": ("stages: {attention: se}", ["space has 1 architecture; nothing to search"]),
    "no stages": ("stages: []", ["space has 0 architectures; nothing to search"]),
    "bad limit": ("stages: {attention: [none, se]}\nlimits: {params: alot}", ["limits.params", "1.2x, 60M"]),
    "bad recipe": (
        "stages: {attention: [none, se]}\nrecipe: {epochs: 0}",
        ["epochs must be an integer ≥ 1"],
    ),
    "no number": (
        "stages: {attention: [none, se]}\nrecipe: {epochs: null}",
        ["epochs must be an integer ≥ 1, got 'None'"],
    ),
    "a word for a list": (
        "stages: {attention: [none, se]}\nrecipe: {augment: flip}",
        ["augment must be a list of flip, crop, random_resized_crop"],
    ),
    "a number for a list": ("stages: {attention: [none, se]}\nrecipe: {augment: 0}", ["must be a list"]),
    "a mapping for a word": (
        "stages: {attention: [none, se], position: {at: before_add}}",
        ["stages.position", "Unknown position"],
    ),
    "a list in a list": (
        "stages: {attention: [none, {block: se, ratio: [[4]]}]}",
        ["stages.attention[1].ratio", "expected int, got [4]"],
    ),
    "a width for all stages": (
        "host: {name: resnet20, widths: 5}\nstages: {attention: [none, se]}",
        ["host.widths"],
    ),
    "too few widths": (
        "host: {name: resnet20, widths: [16, 32]}\nstages: {attention: [none, se]}",
        ["one for each of 3 stages, got 2"],
    ),
    "a condition that is none": (
        "stages: {attention: [none, {block: cbam, kernel: {values: [3, 7], when: serial}}]}",
        ["stages.attention[1].kernel.when", "expected a mapping"],
    ),
    "a condition on an unknown option": (
        "stages: {attention: [none, {block: cbam, kernel: {values: [3, 7], when: {fussion: serial}}}]}",
        ["kernel.when.fussion", "Did you mean 'fusion'?"],
    ),
    "a condition on an unknown choice": (
        "stages: {attention: [none, {block: cbam, kernel: {values: [3, 7], when: {fusion: seriel}}}]}",
        ["kernel.when.fusion", "Did you mean 'serial'?"],
    ),
    "infinite rate": ("stages: {attention: [none, se]}\nrecipe: {lr: .inf}", ["not a finite number"]),
    "empty": ("# only a comment\n", ["is empty"]),
    "tab": ("stages:\n\tattention: se", [":2:1:", "\\t"]),
    "tag": ("stages: !!python/object/apply:os.system ['true']", ["unsafe tag refused"]),
    "twice": ("tied: true\ntied: false\nstages: {attention: [none, se]}", ["key 'tied' stands twice", ":2:"]),
    "alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{n}: &{n} [{', '.join(['*' + p] * 10)}]\n" for p, n in zip("abcde", "bcdef", strict=True)
        ),
        ["too many nodes"],
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_says_where_what_and_what_would_be_right(tmp_path, case):
    text, words = MISTAKES[case]
    with pytest.raises(AttnsearchError) as raised:
        space_of(tmp_path, text)
    assert raised.value.exit_code == 2
    for word in ["question.yaml", *words]:
        assert word in str(raised.value)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path):
    text = "host: resnet19\nstages: {attention: [none, see], units: al}\nrecipe: {epochs: 0}\n"
    with pytest.raises(SpaceError) as raised:
        space_of(tmp_path, text)
    assert len(raised.value.problems) == 4


def test_a_tag_executes_nothing(tmp_path):
    marker = tmp_path / "executed"
    with pytest.raises(UsageError, match="unsafe tag"):
        space_of(tmp_path, f"stages: !!python/object/apply:pathlib.Path.touch ['{marker}']")
    assert not marker.exists()


def test_a_file_of_more_than_a_megabyte_is_refused(tmp_path):
    with pytest.raises(UsageError, match="file too large"):
        space_of(tmp_path, "#" * 1_000_001)


def test_scientific_notation_is_a_number(tmp_path):
    assert space_of(tmp_path, ECA + "recipe: {lr: 1e-3}").recipe.lr == 0.001


def test_sites_are_counted_by_hand(tmp_path):
    # none, eca(3), eca(5), each gate in all units or the last one: 1 + 2 * 2 = 5 per stage, 5^3 archs.
    space = space_of(tmp_path, ECA + "  units: [all, last]\n")
    assert space.size() == 125 == len({arch.key for arch in space.enumerate()})


def test_tied_stages_choose_once(tmp_path):
    assert space_of(tmp_path, ECA + "tied: true").size() == 3


def test_a_conditional_option_is_asked_only_under_its_parent(tmp_path):
    text = """
    stages:
      attention:
        - none
        - block: cbam
          fusion: [serial, parallel]
          kernel: {values: [3, 7], when: {fusion: serial}}
    tied: true
    """
    labels = list(space_of(tmp_path, text).sites["stages"])
    # serial with 3 or 7 (the default), parallel with the default alone
    assert labels == ["none", "cbam(kernel=3)", "cbam", "cbam(fusion=parallel)"]


@pytest.mark.parametrize(
    ("block", "asked"),
    [("cbam", ["cbam(kernel=3)", "cbam"]), ("cbam.article", ["cbam.article"])],  # whose fusion is parallel
)
def test_a_condition_on_an_option_that_the_file_leaves_out_is_one_on_its_value(tmp_path, block, asked):
    text = f"stages: {{attention: [none, {{block: {block}, kernel: {{values: [3, 7], when: {{fusion: serial}}}}}}]}}"
    choices = space_of(tmp_path, text).choices["stage1"]
    assert [str(stage) for stage in choices] == ["none", *asked]


def test_options_that_build_the_same_block_are_one(tmp_path):
    # At 16 channels ratio 16 and 12 both leave one hidden channel: 16 // 16 = 16 // 12 = 1.
    text = (
        "host: resnet20\nstages:\n- attention: [none, {block: se, ratio: [12, 16]}]\n"
        + "- {attention: se}\n" * 2
    )
    assert space_of(tmp_path, text).size() == 2


@pytest.mark.parametrize("units", ["last", (0, 1, 2)])
def test_units_have_one_spelling(units):
    host = Arch.from_dict({"host": "resnet20"}).host
    spelled = "last" if units == "last" else "all"
    same = (2,) if units == "last" else "all"
    keys = set()
    for way in (units, spelled, same):
        stage = Stage(
            attention=Arch.from_dict({"stages": [{"attention": "eca"}]}).stages[0].attention, units=way
        )
        keys.add(canonical(Arch(host, (stage,) * 3)).key)
    assert len(keys) == 1


def test_settings_of_an_empty_slot_are_dropped():
    inert = Arch.from_dict({"host": "resnet20", "stages": [{"units": "last", "position": "after_add"}]})
    assert canonical(inert).key == canonical(Arch.from_dict({"host": "resnet20"})).key


def test_a_key_is_the_same_on_every_machine():
    # Recorded once; it changes only when what is built by this dictionary changes.
    arch = canonical(Arch.from_dict({"host": "resnet20", "stages": [{"attention": "eca"}]}))
    fresh = subprocess.run(
        [
            sys.executable,
            "-c",
            "from attnsearch.space.arch import Arch; from attnsearch.space.canonical import canonical;"
            "print(canonical(Arch.from_dict({'host': 'resnet20', 'stages': [{'attention': 'eca'}]})).key)",
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert fresh.stdout.strip() == arch.key


def test_a_sample_is_decided_by_its_seed():
    space = load_space("cbam_variants")
    assert space.sample(3).key == space.sample(3).key
    assert len({space.sample(seed).key for seed in range(20)}) > 15


def test_an_arch_and_its_choice_are_one(tmp_path):
    space = space_of(tmp_path, ECA + "  units: [all, last]\n")
    for seed in range(20):
        arch = space.sample(seed)
        choice = space.choice(arch)
        assert choice is not None
        assert space.arch(choice) == arch
    assert space.choice(Arch.from_dict({"host": "resnet20", "stages": [{"attention": "se"}]})) is None


def test_factors_tell_options_apart(tmp_path):
    space = space_of(tmp_path, ECA + "  units: [all, last]\n")
    for site, rows in space.factors().items():
        assert len({tuple(row) for row in rows}) == len(space.sites[site])


def test_limits_read_as_they_are_written():
    params, macs = parse_limits("params<=1.2x, macs<=60M")
    assert (params.cost, params.value, params.relative) == ("params", 1.2, True)
    assert (macs.cost, macs.value, macs.relative) == ("macs", 60e6, False)
    with pytest.raises(UsageError, match="Did you mean 'macs'"):
        parse_limits("mac<=3")


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_shipped_space_is_one_question(name):
    space = load_space(name)
    assert space.question.endswith("?")
    assert space.size() == math.prod(len(options) for options in space.sites.values()) > 1


def test_a_mistake_is_told_without_torch(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("stages: {attention: [none, see]}")
    code = (
        "import sys\nfrom attnsearch.space.space import load_space\nfrom attnsearch.core.errors import SpaceError\n"
        f"try: load_space({str(path)!r})\nexcept SpaceError: pass\n"
        "print([m for m in ('torch', 'pandas', 'optuna', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
