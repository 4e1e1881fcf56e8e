"""Arch: one frozen architecture, a ResNet host with what stands in its slots. Plain values, no torch.

    Arch(host, stages, neck)
      Host    which ResNet: depth, width, stem, how it strides (`host`)
      Stage   the conv slot and the attention slot of one stage
      Block   a block's name with its options

`Arch.from_dict` reads what a JSON or YAML file says; `attnsearch.space.canonical` brings an arch to its one
form, on which `Arch.key` is meant to be taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from attnsearch.blocks import registry
from attnsearch.blocks.registry import Value
from attnsearch.core.errors import UsageError, did_you_mean
from attnsearch.core.text import format_value
from attnsearch.space import module_file
from attnsearch.space.host import HOSTS, Host

Position = Literal["before_add", "after_conv", "after_add", "after_stage"]
POSITIONS: tuple[Position, ...] = ("before_add", "after_conv", "after_add", "after_stage")
UNITS = ("all", "first", "last", "alternate")
INITS = ("default", "identity")
CONVS = ("second", "first", "both")
_CONVS_WRITTEN = {"second": "", "first": "*first", "both": "*2"}
_WORDS: dict[str, tuple[str, ...]] = {
    "position": POSITIONS,
    "init": INITS,
    "convs": CONVS,
    "control": ("none", "null", "frozen"),
    "stem": ("cifar", "imagenet", "deep", "tiered"),
    "unit": ("basic", "bottleneck", "single"),
    "shortcut": ("conv", "pool", "pad"),
    "downsample": ("conv", "pool", "pool_first"),
    "images": ("all", "half"),
}
_NUMBERS = ("width", "stem_width", "expansion", "base_width", "cardinality")


@dataclass(frozen=True)
class Block:
    """A block with the options it is built with; `none` leaves a slot empty, `conv3x3` is the host's own."""

    name: str = "none"
    options: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, name: str, **options: Value) -> Block:
        return cls(name, tuple(sorted(options.items())))

    @classmethod
    def parse(cls, values: str | Mapping[str, Any] | Block) -> Block:
        """`"cbam"`, or `{"block": "cbam", "ratio": 8}`."""
        if isinstance(values, Block):
            return values
        if isinstance(values, str):
            return cls(values)
        if not isinstance(values, Mapping) or "block" not in values:
            raise UsageError(
                f"a slot needs a block's name, or one under 'block' with its options, got {values!r}"
            )
        rest = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key != "block"}
        return cls.of(str(values["block"]), **rest)

    def to_dict(self) -> str | dict[str, Any]:
        if not self.options:
            return self.name
        return {"block": self.name, **{k: list(v) if isinstance(v, tuple) else v for k, v in self.options}}

    def __str__(self) -> str:
        """`cbam(fusion=parallel,ratio=8)`: options at their default are left out."""
        if not self.options:
            return self.name
        defaults = {
            option.name: option.default for option in registry.info(self.name.partition(".")[0]).options
        }
        options = [f"{k}={format_value(v)}" for k, v in self.options if defaults.get(k) != v]
        return f"{self.name}({','.join(options)})" if options else self.name

    def __bool__(self) -> bool:
        return self.name not in ("none", "conv3x3")


NONE = Block("none")
CONV3X3 = Block("conv3x3")


@dataclass(frozen=True)
class Stage:
    """What stands in the slots of one stage.

    Args:
        attention: a gate (B, C, H, W) -> (B, C, H, W).
        position: before_add (after the branch's last norm), after_conv (after the slot's convolution, before its
            norm), after_add, after_stage.
        units: all, first, last, alternate (every second unit from the first), or a tuple of indices from 0.
        init: identity adds the gate as x + s * (gate(x) - x) with a trained s that starts at 0.
        control: for the controls of a comparison: `null` puts the identity in the gate's place, `frozen` leaves the
            gate's parameters as drawn.
        conv: what stands where a unit's 3x3 convolution stood.
        convs: in a basic unit, whether `conv` takes the second 3x3, the first or both.
    """

    attention: Block = NONE
    position: Position = "before_add"
    units: str | tuple[int, ...] = "all"
    init: Literal["default", "identity"] = "default"
    control: Literal["none", "null", "frozen"] = "none"
    conv: Block = CONV3X3
    convs: Literal["second", "first", "both"] = "second"

    def indices(self, count: int) -> tuple[int, ...]:
        """The units, of `count`, that carry the attention block."""
        named = {
            "all": tuple(range(count)),
            "first": (0,),
            "last": (count - 1,),
            "alternate": tuple(range(0, count, 2)),
        }
        if isinstance(self.units, str):
            return named[self.units]
        return tuple(sorted({i for i in self.units if i < count}))

    def __str__(self) -> str:
        """`none`, `cbam(ratio=8)@last`, `psa`, `sk*first`, `psa+se@after_add`."""
        parts = [f"{self.conv}{_CONVS_WRITTEN[self.convs]}"] if self.conv else []
        if self.attention:
            where: list[str] = [self.position] if self.position != "before_add" else []
            if self.units != "all" and self.position != "after_stage":
                where.append(format_value(self.units))
            where += ["identity"] if self.init == "identity" else []
            where += [self.control] if self.control != "none" else []
            parts.append("@".join([str(self.attention), *where]))
        return "+".join(parts) or "none"


@dataclass(frozen=True)
class Arch:
    """A host, what stands in each of its stages, and the neck. `str()` is for people, `key` for identity.

    Args:
        images: of the training images, those that it learns from: `half` for a control, which takes as many steps.
    """

    host: Host = field(default_factory=Host)
    stages: tuple[Stage, ...] = ()
    neck: Block = NONE
    images: Literal["all", "half"] = "all"

    @property
    def key(self) -> str:
        """12 hex digits of the SHA-1 of the arch's dictionary; equal on every machine."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha1(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON or YAML; what stands at its default is left out."""
        return {
            "host": _said(self.host, Host()) | {"name": self.host.name},
            "stages": [_said(stage, Stage()) for stage in self.stages],
            "neck": self.neck.to_dict(),
            **({} if self.images == "all" else {"images": self.images}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path = Path()) -> Arch:
        """Read `{"host": ..., "stages": [...], "neck": ...}`; raises `UsageError` with the nearest right word.

        Args:
            folder: of the file that says so, where a host of the user's own may lie.
        """
        _check_keys(values, [item.name for item in fields(cls)], "an arch")
        images = values.get("images", "all")
        _check_value("images", images, "images", of_host=False)
        host = read_host(values.get("host", "resnet20"), folder)
        count = len(host.units or ())
        listed = values.get("stages", ())
        if not isinstance(listed, list | tuple):
            raise UsageError(f"stages: expected a list, got {listed!r}")
        entries = [Stage(**_values(Stage, entry, f"stages[{i}]")) for i, entry in enumerate(listed)]
        if len(entries) not in (0, 1, count):
            raise UsageError(f"{host.name} has {count} stages, the arch lists {len(entries)}")
        stages = tuple(entries) * count if len(entries) == 1 else tuple(entries) or (Stage(),) * count
        if host.module:
            check_fits_module(host, stages, Block.parse(values.get("neck", "none")))
        return cls(host, stages, Block.parse(values.get("neck", "none")), images)

    def __str__(self) -> str:
        if len(set(self.stages)) == 1:
            text = str(self.stages[0])
            text = "plain" if text == "none" else f"all stages {text}"
        else:
            text = " | ".join(str(stage) for stage in self.stages)
        if self.host.widths and not self.host.module:
            text += f" (widths {format_value(self.host.widths)})"
        text += " (half of the images)" if self.images == "half" else ""
        return f"{text} > {self.neck}" if self.neck else text


def read_host(node: Any, folder: Path = Path()) -> Host:
    """A host by its name, or by its fields; a model of the user's own lies in `folder` or where the program runs.

    Raises:
        UsageError: an unknown word or number, or a module that may not be run or holds no ResNet.
    """
    if isinstance(node, Mapping) and "module" in node and "sha256" not in node:
        node = module_file.completed(node, folder)
    return Host(**_values(Host, {"name": node} if isinstance(node, str) else node, "host")).filled()


def check_fits_module(host: Host, stages: Iterable[Stage | Block], *necks: Block) -> None:
    """Raise `UsageError` for what only hosts of attnsearch's own can take."""
    if any(necks):
        raise UsageError(f"neck: {host.name} is a model of your own, which has no place for a neck")
    other = next((s.convs for s in stages if isinstance(s, Stage) and s.convs != "second"), None)
    if other:
        raise UsageError(
            f"convs: {other} is for hosts of attnsearch's own; in {host.name} only conv2 is replaced"
        )


def plain(host: Host) -> Arch:
    """The host with nothing put in: the baseline of every comparison."""
    host = host.filled()
    return Arch(host=host, stages=(Stage(),) * len(host.units or ()))


def _said(value: Host | Stage, default: Host | Stage) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for item in fields(value):
        item_value = getattr(value, item.name)
        if item_value != getattr(default, item.name):
            out[item.name] = (
                item_value.to_dict()
                if isinstance(item_value, Block)
                else list(item_value)
                if isinstance(item_value, tuple)
                else item_value
            )
    return out


def _values(cls: type[Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: expected a mapping, got {values!r}")
    _check_keys(values, [item.name for item in fields(cls)], where)
    for key, value in values.items():
        _check_value(key, value, f"{where}.{key}", of_host=cls is Host)
    blocks = ("attention", "conv")
    return {
        key: Block.parse(value) if key in blocks else tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
    }


def _check_value(key: str, value: Any, where: str, *, of_host: bool) -> None:
    """Raise `UsageError` for a word or number that no host or stage takes; None leaves a host's value to its name."""
    if of_host and value is None and getattr(Host, key) is None:
        return
    if key in _WORDS and value not in _WORDS[key]:
        words = _WORDS[key]
        raise UsageError(
            f"{where}: unknown {key} '{value}'.{did_you_mean(str(value), words)} Known: {', '.join(words)}"
        )
    if of_host and key in ("name", "module", "make", "sha256") and not isinstance(value, str):
        what = "a host's name" if key == "name" else "a text"
        raise UsageError(f"{where}: expected {what}, got {value!r}")
    if key == "shortcut_bias" and not isinstance(value, bool):
        raise UsageError(f"{where}: expected true or false, got {value!r}")
    if key in _NUMBERS and not _whole(value, 1):
        raise UsageError(f"{where}: expected a whole number of at least 1, got {value!r}")
    if key in ("widths", "inner") and not _wholes(value, 1):
        raise UsageError(f"{where}: expected the width of each stage, got {value!r}")
    if key == "units" and not (isinstance(value, str) and not of_host):
        if not _wholes(value, int(of_host)):
            what = "units of each stage" if of_host else f"{', '.join(UNITS)} or a list of indices from 0"
            raise UsageError(f"{where}: expected {what}, got {value!r}")
    elif key == "units" and value not in UNITS:
        raise UsageError(
            f"{where}: unknown units '{value}'.{did_you_mean(value, UNITS)} Known: {', '.join(UNITS)}"
        )


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _wholes(value: Any, least: int) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(_whole(n, least) for n in value)


def _check_keys(values: Mapping[str, Any], known: Any, where: str) -> None:
    for key in values:
        if key not in known:
            raise UsageError(
                f"{where}: unknown key '{key}'.{did_you_mean(str(key), known)} Known: {', '.join(known)}"
            )


__all__ = [
    "CONV3X3",
    "CONVS",
    "HOSTS",
    "INITS",
    "NONE",
    "POSITIONS",
    "UNITS",
    "Arch",
    "Block",
    "Host",
    "Stage",
    "check_fits_module",
    "plain",
    "read_host",
]
