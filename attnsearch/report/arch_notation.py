"""The short notation of a study's architectures: the options that vary, and once for all rows what does not.

Numbers are written behind the first letters of the option's name (`r4` is ratio 4), words stand for themselves
(`parallel`), and an option at its default is not shown; `Notation.legend` says all three.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from attnsearch.core.text import format_value
from attnsearch.report.arch_strip import Strip, StripCell
from attnsearch.statistics.front import ArchResult

if TYPE_CHECKING:
    from attnsearch.report.design_verdicts import Judged

_SPELT = re.compile(r"[=(|@]")  # in a variant's name: it says its options
_COMMA = re.compile(r",(?![^(\[]*[)\]])")  # outside brackets
_PLAIN_WORDS = ("none", "default", "given", "shared")  # these say nothing without the option's name
_PLACES = {  # key of a stage -> value -> words
    "position": {"after_conv": "after conv", "after_add": "after add", "after_stage": "after stage"},
    "units": {"first": "first unit", "last": "last unit", "alternate": "every 2nd unit"},
    "init": {"identity": "identity start"},
    "control": {"null": "null gate", "frozen": "frozen"},
    "convs": {"both": "both convs"},
}


@dataclass(frozen=True, eq=False)
class _Slot:
    """A block where it stands: its options as people write them, and words on its place."""

    block: str
    options: Mapping[str, str]
    place: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Stage:
    """What stands in one stage; made once for all architectures that have it, so two are the same or different."""

    name: str
    slots: tuple[_Slot, ...]
    units: tuple[bool, ...] = ()
    after: bool = False


@dataclass(frozen=True)
class Notation:
    """How a study's architectures are written; `strip` writes one, `legend` is said once above them."""

    varying: Mapping[str, tuple[str, ...]]  # block -> options, numbers first
    usual: Mapping[str, Mapping[str, str]]  # block -> option -> value that is not shown
    letters: Mapping[str, str]  # option -> its first letters
    shared: Mapping[str, Mapping[str, str]]
    places: tuple[str, ...]  # words on the place that all blocks share
    # Every format writes every architecture, and a study may have ten thousand.
    _written: dict[tuple[str, str], Strip] = field(default_factory=dict, repr=False, compare=False)
    _cells: dict[_Stage, StripCell] = field(default_factory=dict, repr=False, compare=False)

    def strip(self, row: ArchResult) -> Strip:
        """One architecture; a variant whose name says more than its options keeps the name."""
        called = (row.key, row.name)
        if called not in self._written:
            self._written[called] = self._strip(row)
        return self._written[called]

    def _strip(self, row: ArchResult) -> Strip:
        stages = _stages(row)
        for stage in stages:
            if stage not in self._cells:
                self._cells[stage] = self._cell(stage)
        cells = tuple(self._cells[stage] for stage in stages)
        named = row.name if row.name and not _SPELT.search(row.name) else ""
        return Strip(cells, row.title, named, "baseline" if row.baseline else row.control, _widths(row))

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks in their order of colours."""
        return tuple(self.varying)

    @property
    def legend(self) -> tuple[str, ...]:
        """What holds for all rows, what is not shown, and which letters stand for what."""
        several = len(self.varying) > 1

        def described(options: Mapping[str, Mapping[str, str]]) -> str:
            found = []
            for block, values in options.items():
                words = ", ".join(f"{_words(name)} {value}" for name, value in values.items())
                found += [f"{block} {words}" if several else words] if words else []
            return "; ".join(found)

        every = "; ".join(filter(None, (described(self.shared), ", ".join(self.places))))
        letters = ", ".join(f"{letter} = {_words(name)}" for name, letter in self.letters.items())
        hidden = described(
            {block: {o: self.usual[block][o] for o in varying} for block, varying in self.varying.items()}
        )
        return tuple(
            f"{head}: {words}"
            for head, words in (("In every row", every), ("Letters", letters), ("Where not shown", hidden))
            if words
        )

    def _cell(self, stage: _Stage) -> StripCell:
        block = "+".join(slot.block for slot in stage.slots)
        text = " + ".join(self._text(slot) for slot in stage.slots)
        options = tuple((slot.block, *option) for slot in stage.slots for option in slot.options.items())
        return StripCell(stage.name, block, text, stage.units, stage.after, options)

    def _text(self, slot: _Slot) -> str:
        usual = self.usual.get(slot.block, {})
        options = [
            self._option(slot.block, name, slot.options[name])
            for name in self.varying.get(slot.block, ())
            if slot.options.get(name, usual[name]) != usual[name]
        ]
        return " ".join([slot.block, *options, *(word for word in slot.place if word not in self.places)])

    def _option(self, block: str, name: str, value: str) -> str:
        if name in self.letters and value[:1].isdigit():
            return f"{self.letters[name]}{value}"
        if value in ("yes", "no"):
            return _words(name) if value == "yes" else f"no {_words(name)}"
        return f"{_words(name)} {_words(value)}" if value in _PLAIN_WORDS else _words(value)


def notation(rows: Sequence[ArchResult], sites: Mapping[str, Iterable[str]]) -> Notation:
    """The notation of these rows; `sites` are the space's options, which say what was asked at all."""
    slots = [slot for row in rows for stage in _stages(row) for slot in stage.slots]
    values: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for slot in slots:
        for name, value in slot.options.items():
            values[slot.block][name].append(value)
    defaults = {block: _defaults(block) for block in values}
    varying, usual, shared = {}, {}, {}
    asked = _asked(sites)
    for block, options in values.items():
        usual[block] = {name: defaults[block].get(name, _commonest(found)) for name, found in options.items()}
        changed = [name for name, found in options.items() if set(found) != {found[0]}]
        varying[block] = tuple(sorted(changed, key=lambda name: (not usual[block][name][:1].isdigit(), name)))
        shared[block] = {
            name: found[0]
            for name, found in options.items()
            if name not in changed and ((block, name) in asked or found[0] != defaults[block].get(name))
        }
    numbers = {name for block, names in varying.items() for name in names if usual[block][name][:1].isdigit()}
    places = tuple(word for word in (slots[0].place if slots else ()) if all(word in s.place for s in slots))
    return Notation(varying, usual, _letters(numbers), shared, places)


def in_short(judged: Judged, rows: Sequence[ArchResult], short: Notation) -> Judged:
    """The same verdicts, with variants in the analysis' notes called as tables call them."""
    names = {row.name: f"A{row.number} ({short.strip(row).short})" for row in rows if _SPELT.search(row.name)}
    if not names:
        return judged
    longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w=(])(?:{longest_first})(?![\w(@])")
    notes = tuple(pattern.sub(lambda match: names[match[0]], note) for note in judged.analysis.notes)
    return replace(judged, analysis=replace(judged.analysis, notes=notes))


def parts(option: str) -> tuple[str, dict[str, str]]:
    """`cbam(kernel=3,ratio=8)` as its block and its options; what is spelt otherwise is a block as a whole."""
    matched = re.fullmatch(r"([^()]+)\((.*)\)", option)
    pairs = [pair.partition("=") for pair in _COMMA.split(matched[2])] if matched else []
    if not matched or not all(equals for _, equals, _ in pairs):
        return option, {}
    return matched[1], {name.strip(): value for name, _, value in pairs}


def _stages(row: ArchResult) -> tuple[_Stage, ...]:
    """From what the trial recorded of the architecture; from its sites, or its name, where that is not a ResNet's."""
    stages = row.spec.get("stages")
    if isinstance(stages, list | tuple) and stages:
        units = dict(row.spec.get("host") or {}).get("units") or ()
        slots = [
            _of_spec(f"stage {i + 1}", json.dumps(stage), units[i] if i < len(units) else 0)
            for i, stage in enumerate(stages)
        ]
        neck = _of_neck(json.dumps(row.spec.get("neck", "none")))
        return (*slots, *([neck] if neck else []))
    if row.sites:
        return tuple(_of_text(site, option) for site, option in row.sites.items())
    return (_of_text("architecture", row.label),)


@lru_cache(maxsize=1 << 14)
def _of_text(name: str, option: str) -> _Stage:
    return _Stage(name, () if option in ("none", "plain") else (_Slot(*parts(option)),))


@lru_cache(maxsize=1 << 14)
def _of_spec(name: str, text: str, count: int) -> _Stage:
    """A stage as `Stage.to_dict` writes it, in JSON, of `count` residual units."""
    stage = json.loads(text)
    attention, conv = _slot(stage.get("attention", "none")), _slot(stage.get("conv", "conv3x3"))
    units = stage.get("units", "all")
    if attention:
        words = [_place(key, stage.get(key)) for key in ("position", "units", "init", "control")]
        attention = _Slot(attention.block, attention.options, tuple(filter(None, words)))
    if conv and stage.get("convs") == "both":
        conv = _Slot(conv.block, conv.options, (_PLACES["convs"]["both"],))
    after = bool(attention) and stage.get("position") == "after_stage"
    mask = tuple(bool(conv) or (bool(attention) and _carries(units, i, count)) for i in range(count))
    return _Stage(name, tuple(slot for slot in (conv, attention) if slot), mask, after)


@lru_cache(maxsize=1 << 10)
def _of_neck(text: str) -> _Stage | None:
    slot = _slot(json.loads(text))
    return _Stage("neck", (slot,)) if slot else None


def _slot(value: Any) -> _Slot | None:
    if isinstance(value, str):
        return None if value in ("none", "conv3x3") else _Slot(value, {})
    options = {name: format_value(tuple(v) if isinstance(v, list) else v) for name, v in dict(value).items()}
    return _Slot(str(options.pop("block")), options)


def _place(key: str, value: Any) -> str:
    if isinstance(value, list | tuple):  # of units, counted from 0
        return f"{'unit' if len(value) == 1 else 'units'} {', '.join(str(i + 1) for i in value)}"
    return _PLACES[key].get(str(value), "")


def _carries(units: Any, unit: int, count: int) -> bool:
    if isinstance(units, list | tuple):
        return unit in units
    return {"first": unit == 0, "last": unit == count - 1, "alternate": unit % 2 == 0}.get(units, True)


def _widths(row: ArchResult) -> str:
    """Where they differ from the host's own; those of a model of the user's own never do."""
    host = dict(row.spec.get("host") or {})
    return format_value(tuple(host["widths"])) if host.get("widths") and not host.get("module") else ""


def _defaults(block: str) -> dict[str, str]:
    """The block's own defaults; none of one that is not known here."""
    from attnsearch.blocks import registry  # reads every block's file

    info = registry.blocks().get(block.partition(".")[0])
    return {option.name: format_value(option.default) for option in info.options} if info else {}


def _asked(sites: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    """Block and option, of all options that the space's sites spell out."""
    texts = "|".join({option for options in sites.values() for option in options})
    return {
        (block, pair.partition("=")[0])
        for block, options in re.findall(r"([\w.]+)\(([^()]*)\)", texts)
        for pair in options.split(",")
    }


def _commonest(values: Sequence[str]) -> str:
    return max(sorted(set(values)), key=values.count)


def _letters(names: Iterable[str]) -> dict[str, str]:
    """The fewest first letters that tell the names apart; a name that begins another one is written in full."""
    ordered = sorted(names)

    def shortest(name: str) -> str:
        others = [other for other in ordered if other != name]
        ends = range(1, len(name) + 1)
        return next((name[:n] for n in ends if not any(o.startswith(name[:n]) for o in others)), f"{name} ")

    return {name: shortest(name) for name in ordered}


def _words(name: str) -> str:
    return name.replace("_", " ")
