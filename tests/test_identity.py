"""One key, one network: what is spelled in two ways is one arch, what computes another thing is another."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnsearch.blocks import registry
from attnsearch.build.resnet import build
from attnsearch.space import yaml_file
from attnsearch.space.arch import CONVS as WHICH
from attnsearch.space.arch import POSITIONS, UNITS, Arch, Block, Host, Stage
from attnsearch.space.canonical import canonical
from attnsearch.space.space import Space, load_space, shipped_spaces

Fingerprint = tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]

GATES = [name for name, facts in registry.blocks().items() if facts.slot == "attention"]
CONVS = [name for name, facts in registry.blocks().items() if facts.slot == "conv"]
PER_SPACE = 15  # archs; their 105 pairs in each of ten spaces are over 1,000


@torch.no_grad()
def fingerprint(arch: Arch) -> Fingerprint:
    """Shapes of all parameters, and outputs for numbers put into them in order, whatever they are called."""
    model = build(arch, classes=4, in_channels=1).double().eval()
    filler = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=filler, dtype=torch.float64) * 0.2)
    out: Tensor = model(torch.randn(2, 1, 24, 24, generator=filler, dtype=torch.float64))
    return tuple(tuple(p.shape) for p in model.parameters()), tuple(out.flatten().tolist())


def spellings(space: Space, chooser: random.Random) -> list[Arch]:
    """Archs as the file spells them, before anything is deduplicated; drawn so that many are the same network."""
    count = len(space.host.units or ())
    pools = {}
    for site, candidates in space.choices.items():
        pool = [chooser.choice(candidates) for _ in range(2)]
        first = space._canonical_option(site, pool[0])
        alike = [c for c in candidates if c != pool[0] and space._canonical_option(site, c) == first]
        pools[site] = pool + alike[:2]
    archs = []
    for _ in range(PER_SPACE):
        chosen = {site: chooser.choice(pool) for site, pool in pools.items()}
        neck: Any = chosen.pop("neck", Block())
        stages: Any = tuple(chosen.values()) if "stages" not in chosen else (chosen["stages"],) * count
        archs.append(Arch(space.host, stages, neck))
    return archs


@pytest.mark.parametrize("name", shipped_spaces())
def test_equal_keys_are_equal_networks_and_unequal_ones_are_not(name: str) -> None:
    space = load_space(name).on("cluttered-digits")
    archs = spellings(space, random.Random(name))
    prints = [fingerprint(arch) for arch in archs]
    keys = [canonical(arch).key for arch in archs]
    pairs = list(itertools.combinations(range(len(archs)), 2))
    merged = [(i, j) for i, j in pairs if keys[i] == keys[j]]
    assert merged, "the draw holds no two spellings of one network: the test would prove nothing"
    false_merges = [(archs[i], archs[j]) for i, j in merged if prints[i] != prints[j]]
    false_splits = [(archs[i], archs[j]) for i, j in pairs if keys[i] != keys[j] and prints[i] == prints[j]]
    assert (false_merges, false_splits) == ([], [])


@pytest.mark.parametrize("name", shipped_spaces())
def test_a_site_has_as_many_options_as_networks(name: str) -> None:
    """Every spelling of a site's options built, the rest of the network plain: none counted twice, none lost."""
    space = load_space(name).on("cluttered-digits")
    sites = list(space.choices)
    for site in {sites[0], sites[-1]}:  # the narrowest stage and the widest, or the neck
        networks = {fingerprint(alone(space, site, candidate)) for candidate in space.choices[site]}
        assert len(networks) == len(space.sites[site])


def alone(space: Space, site: str, candidate: Stage | Block) -> Arch:
    stages = [Stage()] * len(space.host.units or ())
    if isinstance(candidate, Block):
        return Arch(space.host, tuple(stages), candidate)
    if site == "stages":
        return Arch(space.host, (candidate,) * len(stages))
    stages[int(site.removeprefix("stage")) - 1] = candidate
    return Arch(space.host, tuple(stages))


def test_the_pairs_are_a_thousand() -> None:
    assert len(shipped_spaces()) * PER_SPACE * (PER_SPACE - 1) // 2 >= 1000


def stages(conv: bool) -> st.SearchStrategy[Stage]:
    units = st.one_of(st.sampled_from(UNITS), st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple))
    convs = [
        Block("conv3x3"),
        *(Block.of(name, **({"fit_groups": True} if name == "psa" else {})) for name in CONVS),
    ]
    return st.builds(
        Stage,
        attention=st.sampled_from([Block(), *map(Block, GATES)]),
        position=st.sampled_from(POSITIONS),
        units=units,
        init=st.sampled_from(["default", "identity"]),
        conv=st.sampled_from(convs) if conv else st.just(convs[0]),
        convs=st.sampled_from(WHICH),
    )


HOSTS = (
    Host("resnet8", width=32),
    Host("resnet8", width=32, stem_width=32, units=(2, 1, 2)),
    Host("resnet8", width=32, unit="bottleneck", expansion=2, shortcut="pool", downsample="pool"),
    Host("resnet8", width=32, unit="single", downsample="pool_first", base_width=32),
)


@st.composite
def archs(draw: st.DrawFn, conv: bool = True) -> Arch:
    host = draw(st.sampled_from(HOSTS))
    return Arch(
        host, tuple(draw(stages(conv)) for _ in range(3)), Block(draw(st.sampled_from(["none", "pmfs"])))
    )


@settings(max_examples=200, deadline=None)
@given(archs())
def test_the_canonical_form_is_a_fixed_point_and_travels(arch: Arch) -> None:
    """Through JSON, through YAML as the shipped reader sees it, and through itself."""
    one = canonical(arch)
    by_json = Arch.from_dict(json.loads(json.dumps(one.to_dict())))
    by_yaml = Arch.from_dict(yaml_file.parse(yaml.safe_dump(one.to_dict()), "test").values)
    assert one == canonical(one) == canonical(by_json) == by_yaml
    assert one.key == by_json.key == by_yaml.key == canonical(Arch.from_dict(arch.to_dict())).key


@settings(max_examples=40, deadline=None)
@given(archs())
def test_the_canonical_form_builds_the_same_network(arch: Arch) -> None:
    assert fingerprint(arch) == fingerprint(canonical(arch))


def test_one_seed_gives_one_network() -> None:
    arch = load_space("cbam_variants").on("cluttered-digits").sample(3)
    one, same, other = (build(arch, seed=seed).state_dict() for seed in (5, 5, 6))
    torch.testing.assert_close(one, same, atol=0, rtol=0)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_layers_that_two_archs_share_start_alike() -> None:
    space = load_space("cbam_variants").on("cluttered-digits")
    one, other = (build(arch, seed=0).state_dict() for arch in (space.sample(1), space.baseline()))
    torch.testing.assert_close({key: one[key] for key in other}, other, atol=0, rtol=0)


def test_the_key_is_the_sha1_of_the_dictionary() -> None:
    """Written out by hand: keys of stored studies must be found again, by any version on any machine."""
    arch = canonical(Arch.from_dict({"host": "resnet8", "stages": [{"attention": "se"}, {}, {}]}))
    se = '{"bias":true,"block":"se","divisor":1,"min_hidden":1,"ratio":16}'
    host = '{"expansion":1,"name":"resnet8","stem":"cifar","unit":"basic","units":[1,1,1],"width":16}'
    text = f'{{"host":{host},"neck":"none","stages":[{{"attention":{se}}},{{}},{{}}]}}'
    assert arch.key == hashlib.sha1(text.encode()).hexdigest()[:12]
