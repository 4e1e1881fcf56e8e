"""Networks by name, as archs. Plain values, no torch.

    resnet50                            a host of `arch.HOSTS`
    cbam_resnet50, resnet50_cbam        a block in a host, where its authors put it; any block with any host
    cbam.article_resnet18               a block's preset
    article_000_resnet18                what an article builds: ARTICLES
    epsanet50_large, resnest101         published networks that are more than a block in a host
    resnest50_fast_2s1x64d              radix 2, cardinality 1, base width 64
    ..._cifar                           any of them with a CIFAR stem: 3x3, no stride, no pooling

What a name means stands here alone; unknown ones are a `UsageError` with the nearest right word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import gcd
from pathlib import Path
from typing import Any

from attnsearch.blocks import registry
from attnsearch.core.checks import beside
from attnsearch.core.errors import UsageError, did_you_mean
from attnsearch.space import yaml_file
from attnsearch.space.arch import HOSTS, Arch, Block, Host, Stage

ALIASES = {"sa": "shuffle", "ca": "coordatt", "botnet": "mhsa"}  # words of papers -> names of blocks


@dataclass(frozen=True)
class Place:
    """Where a block's authors put it, if not into every unit before the addition."""

    stages: slice = field(default_factory=lambda: slice(None))
    settings: Mapping[str, Any] = field(default_factory=dict)


PLACES = {
    "bam": Place(slice(None, -1), {"position": "after_stage"}),
    "mhsa": Place(slice(-1, None)),
    "nonlocal": Place(slice(1, 3), {"position": "after_add", "units": "alternate"}),  # 5 blocks in ResNet-50
    "simam": Place(settings={"position": "after_conv"}),
}

# ECA-Net's kernels per stage as published, where the paper's formula gives others.
ECA_KERNELS = {
    "resnet18": (3, 5, 7, 7),
    "resnet34": (3, 3, 5, 7),
    "resnet50": (3, 5, 5, 7),
    "resnet101": (3, 3, 5, 7),
}

# Prefix of a network's name -> its host's changes and its stages, as the articles print them.
ARTICLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "article_000": ({"unit": "single"}, {"conv": "dsconv.article", "attention": "gam_article"}),
    "article_003_source": ({}, {"attention": "cbam_lite.article_003"}),  # what it starts from
    "article_003_serial": ({}, {"attention": "cbam.article_serial"}),
    "article_003_parallel": ({}, {"attention": "cbam.article"}),
    "article_004": ({}, {"attention": "cbam_lite.article_004"}),
}

_EPSANET = {
    "small": ({}, "psa"),
    "large": ({"width": 128, "expansion": 2, "stem_width": 64}, "psa.large"),
}
# Units and stem channels; 200 and 269 are the paper's own depths.
_RESNEST = {
    "50": ((3, 4, 6, 3), 64),
    "101": ((3, 4, 23, 3), 128),
    "200": ((3, 24, 36, 3), 128),
    "269": ((3, 30, 48, 8), 128),
}
_CIFAR = "_cifar"


def read_arch(arch: Arch | Mapping[str, Any] | str | Path) -> Arch:
    """An arch, its dictionary, a JSON or YAML file of one, or a network's name, as an `Arch` with every value checked.

    Raises:
        UsageError: an unknown name or word, or a file that holds no arch.
    """
    return read_start(arch)[0]


def read_start(arch: Arch | Mapping[str, Any] | str | Path) -> tuple[Arch, str]:
    """`read_arch`, and the weights that its host starts from (`host: {weights: FILE}`); empty where none are named."""
    if isinstance(arch, Arch):
        return Arch.from_dict(arch.to_dict()), ""
    if isinstance(arch, Mapping):
        return _started(arch, Path())
    path = Path(arch)
    if isinstance(arch, Path) or path.suffix in (".json", ".yaml", ".yml") or len(path.parts) > 1:
        return _started(_read_file(path), path.parent)
    return preset(arch), ""


def _started(values: Mapping[str, Any], folder: Path) -> tuple[Arch, str]:
    """An arch and its weights from plain values; `folder` is where the file that says so lies."""
    host = values.get("host")
    if not isinstance(host, Mapping) or "weights" not in host:
        return Arch.from_dict(values, folder), ""
    weights = host["weights"]
    if not isinstance(weights, str) or not weights:
        raise UsageError(f"host.weights: expected a file of weights, got {weights!r}")
    rest = {key: value for key, value in host.items() if key != "weights"}
    return Arch.from_dict({**values, "host": rest}, folder), beside(weights, folder)


def preset(name: str) -> Arch:
    """The arch of a network's name; see the head of this file for the names."""
    stem = {"stem": "cifar"} if name.endswith(_CIFAR) else {}
    word = name.removesuffix(_CIFAR)
    if match := re.fullmatch(r"epsanet(50|101|152)(?:_(small|large))?", word):
        host, conv = _EPSANET[match[2] or "small"]
        return _everywhere({"name": f"resnet{match[1]}", **host, **stem}, {"conv": conv})
    if match := re.fullmatch(r"resnest(50|101|200|269)(?:_fast_(\d+)s(\d+)x(\d+)d)?", word):
        return _resnest(match[1], tuple(int(n) for n in match.groups()[1:] if n), stem)
    if match := re.fullmatch(r"(?:(.+)_)?(resnet\d+)(?:_(.+))?", word):
        before, host_name, after = match.groups()
        if host_name in HOSTS and not (before and after):
            return _hosted(before or after, {"name": host_name, **stem})
    near = did_you_mean(word, names())
    raise UsageError(
        f"Unknown network '{name}'.{near} Known: a host ({', '.join(HOSTS)}), a block in a host (cbam_resnet50), "
        "epsanet50_small, resnest50, each also with _cifar"
    )


def names() -> tuple[str, ...]:
    """Every name without the suffix `_cifar`, presets of blocks and other fast ResNeSts left out."""
    what = (*registry.blocks(), *ALIASES, *ARTICLES)
    fast = ("1s1x64d", "2s1x64d", "4s1x64d", "1s2x40d", "2s2x40d", "4s2x40d", "1s4x24d")  # published
    return (
        *HOSTS,
        *(f"epsanet{depth}_{size}" for depth in (50, 101, 152) for size in _EPSANET),
        *(f"resnest{depth}" for depth in _RESNEST),
        *(f"resnest50_fast_{form}" for form in fast),
        *(f"{word}_{host}" for word in what for host in HOSTS),
    )


def _hosted(what: str | None, host: dict[str, Any]) -> Arch:
    """A host with a block, or what an article builds, in it."""
    if not what:
        return Arch.from_dict({"host": host})
    if what in ARTICLES:
        changes, stage = ARTICLES[what]
        return _everywhere({**host, **changes}, stage)
    empty = Arch.from_dict({"host": host})
    word = ALIASES.get(what, what)
    name, options = registry.expand(word)
    blocks = [
        Block.of(name, **(_published_options(name, empty.host, i) if word == name else options))
        for i in range(len(empty.stages))
    ]
    slot = registry.info(name).slot
    if slot == "neck":
        return replace(empty, neck=blocks[0])
    place = PLACES.get(name, Place())
    settings: list[dict[str, Any]] = [{slot: block, **place.settings} for block in blocks]
    filled = [Stage(**words) for words in settings]
    inside = range(len(blocks))[place.stages]
    return replace(empty, stages=tuple(filled[i] if i in inside else Stage() for i in range(len(blocks))))


def _published_options(name: str, host: Host, stage: int) -> dict[str, registry.Value]:
    """Options of a block in its authors' networks, where they are not the block's defaults or depend on the host."""
    if name == "eca" and host.name in ECA_KERNELS:
        return {"kernel": ECA_KERNELS[host.name][stage]}
    channels, cifar = host.channels(0), len(host.units or ()) == 3
    if name == "se" and cifar:  # moskomule/senet.pytorch, whose sizes are quoted (274,490 for depth 20)
        return {"bias": False}
    if name == "ema" and not cifar:
        return {"groups": 32}
    if name == "shuffle":
        return {"groups": gcd(64, channels // 2)}  # one number for the network, as in SA-Net
    if name == "psa" and host.planes(0) % 64:
        return {"fit_groups": True}
    return {}


def _resnest(depth: str, fast: tuple[int, ...], stem: dict[str, str]) -> Arch:
    units, width = _RESNEST[depth]
    radix, cardinality, base_width = fast or (2, 1, 64)
    host = {
        "name": "resnet50" if depth == "50" else "resnet101",
        "units": units,
        "stem": "deep",
        "stem_width": width,
        "shortcut": "pool",
        "downsample": "pool_first" if fast else "pool",
        "base_width": base_width,
        "cardinality": cardinality,
        **stem,
    }
    return _everywhere(host, {"conv": {"block": "splat", "radix": radix, "cardinality": cardinality}})


def _everywhere(host: dict[str, Any], stage: dict[str, Any]) -> Arch:
    return Arch.from_dict({"host": host, "stages": [stage]})


def _read_file(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".json":
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"Arch file not found: {path}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: not readable as JSON: {error}") from None
    else:
        values = yaml_file.read(path).values
    if isinstance(values, Mapping) and isinstance(values.get("spec"), Mapping):
        values = values["spec"]  # what `export` writes beside a network
    if not isinstance(values, Mapping):
        raise UsageError(f"{path}: expected a mapping with host, stages and neck")
    return values


__all__ = [
    "ALIASES",
    "ARTICLES",
    "ECA_KERNELS",
    "PLACES",
    "Place",
    "names",
    "preset",
    "read_arch",
    "read_start",
]
