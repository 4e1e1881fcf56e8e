"""Space: a YAML file states a question; here it becomes sites with options, and every choice an Arch.

    question: Which CBAM variant, in which stages?
    host: resnet20                      # or a mapping, see `arch.Host`
    stages:                             # one mapping for all stages, or a list with one for each
      attention:                        # a gate, `none` among them
        - none
        - {block: cbam, ratio: [4, 8, 16], kernel: [3, 7]}      # a list is a choice
      units: [all, last]
    tied: false                         # true: one choice for all stages
    neck: none
    limits: {params: 1.2x, macs: 60M}   # x: times the baseline
    recipe: {epochs: 12, lr: 0.1}       # see `trial.Recipe`
    for_data: {cluttered-digits: {host: resnet8, recipe: {epochs: 6}}}

Checking a file imports no torch: blocks and their options are read from syntax trees. Only `Space.sites`, which brings
every option to its canonical form, imports the blocks named.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from attnsearch import registry, yaml_file
from attnsearch.arch import CONV3X3, INITS, NONE, POSITIONS, UNITS, Arch, Block, Host, Stage, plain
from attnsearch.errors import BlockError, SpaceError, UsageError, did_you_mean, unknown
from attnsearch.trial import Recipe

MAX_SITE_OPTIONS = 20_000
LIMITED = ("params", "macs", "flops", "activations", "bytes_moved")
_STAGE_KEYS = ("attention", "position", "units", "init", "conv", "convs")
_KEYS = (
    "name",
    "question",
    "host",
    "stages",
    "tied",
    "neck",
    "baseline",
    "limits",
    "recipe",
    "for_data",
    "design",
)
_WORDS: dict[str, Sequence[str]] = {
    "position": POSITIONS,
    "units": UNITS,
    "init": INITS,
    "convs": ("second", "both"),
}
_DESIGNS = ("search", "loo", "add", "swap", "factorial")


@dataclass(frozen=True)
class Limit:
    """An upper bound on a cost; `relative` bounds are times the baseline's."""

    cost: str
    value: float
    relative: bool = False

    def __str__(self) -> str:
        return f"{self.cost}<={self.value:g}{'x' if self.relative else ''}"


@dataclass(frozen=True)
class Space:
    """A question about a host: what may stand in which stage, in which form.

    `choices` holds, per site, the candidate stages as the file spells them; `sites` their canonical form, without
    repetitions. A site is a stage (`stage1`, ...), all stages at once (`stages`, when tied), or the `neck`.
    """

    name: str
    question: str
    host: Host
    choices: Mapping[str, tuple[Stage | Block, ...]]
    tied: bool = False
    limits: tuple[Limit, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)
    baseline_stages: tuple[Stage, ...] = ()
    design: str = "search"
    text: str = ""
    source: str = ""
    for_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def sites(self) -> dict[str, dict[str, tuple[Stage, ...] | Block]]:
        """Site -> readable option -> what it puts in (one Stage per stage concerned, or the neck's Block)."""
        found: dict[str, dict[str, tuple[Stage, ...] | Block]] = {}
        for site, candidates in self.choices.items():
            options: dict[str, tuple[Stage, ...] | Block] = {}
            seen = set()
            for candidate in candidates:
                value = self._canonical_option(site, candidate)
                if value not in seen:
                    seen.add(value)
                    options[_label(value)] = value
            found[site] = options
        return found

    def size(self) -> int:
        """Distinct archs. Sites are independent and deduplicated, so this is the product of their sizes."""
        return math.prod(len(options) for options in self.sites.values())

    def enumerate(self) -> Iterator[Arch]:
        """Every arch once, in a fixed order."""
        for labels in itertools.product(*self.sites.values()):
            yield self.arch(dict(zip(self.sites, labels, strict=True)))

    def sample(self, seed: int) -> Arch:
        """One arch, each equally likely; the same seed gives the same arch on every machine."""
        chooser = random.Random(seed)
        return self.arch({site: chooser.choice(list(options)) for site, options in self.sites.items()})

    def arch(self, choice: Mapping[str, str]) -> Arch:
        """The arch of one option per site; a site that is missing or an unknown option is a `UsageError`."""
        stages: list[Stage] = []
        neck = NONE
        for site, options in self.sites.items():
            label = choice.get(site)
            if label not in options:
                raise UsageError(f"{site}: {unknown('option', label, options)}")
            value = options[label]
            if isinstance(value, Block):
                neck = value
            else:
                stages.extend(value)
        return Arch(self.host, tuple(stages), neck)

    def choice(self, arch: Arch) -> dict[str, str] | None:
        """The options that make an arch, or None where it lies outside the space."""
        arch = canonical(arch)
        if arch.host != self.host:
            return None
        wanted: dict[str, tuple[Stage, ...] | Block] = {"stages": arch.stages, "neck": arch.neck}
        wanted.update({f"stage{i + 1}": (stage,) for i, stage in enumerate(arch.stages)})
        found = {
            site: next((label for label, value in options.items() if value == wanted[site]), None)
            for site, options in self.sites.items()
        }
        if None in found.values() or ("neck" not in self.sites and arch.neck):
            return None
        return {site: str(label) for site, label in found.items()}

    def baseline(self) -> Arch:
        """What every difference refers to: the file's `baseline`, else the plain host."""
        if self.baseline_stages:
            return canonical(Arch(self.host, self.baseline_stages))
        return plain(self.host)

    def homogeneous(self) -> list[Arch]:
        """Archs with one option everywhere, where all sites have it: the placements to try first."""
        sites = {site: options for site, options in self.sites.items() if site != "neck"}
        shared = [
            label
            for label in next(iter(sites.values()))
            if all(label in options for options in sites.values())
        ]
        neck = {"neck": next(iter(self.sites["neck"]))} if "neck" in self.sites else {}
        return [self.arch({**dict.fromkeys(sites, label), **neck}) for label in shared]

    def factors(self) -> dict[str, list[list[int]]]:
        """Per site, one row of integer codes per option: block, position, units and each option of each block.

        Two options that differ in one of them differ in one code, which is what a Hamming kernel wants to see.
        """
        return {site: _factor_codes(list(options.values())) for site, options in self.sites.items()}

    def fingerprint(self) -> str:
        """Hash of host and options: a study is resumed only with the space it began with."""
        spelled = {
            "host": plain(self.host).to_dict()["host"],
            "sites": {s: list(o) for s, o in self.sites.items()},
        }
        return hashlib.sha1(json.dumps(spelled, sort_keys=True).encode()).hexdigest()[:12]

    def on(self, data: str) -> Space:
        """The space as its file wants it on a data set (`for_data`): another host, another recipe."""
        change = self.for_data.get(data)
        if not change:
            return self
        host = change.get("host", self.host)
        choices = self.choices if host == self.host else _refit(self.choices, host)
        return replace(
            self, host=host, choices=choices, recipe=replace(self.recipe, **change.get("recipe", {}))
        )

    def _canonical_option(self, site: str, candidate: Stage | Block) -> tuple[Stage, ...] | Block:
        if isinstance(candidate, Block):
            return _complete(candidate, self.host.channels(len(self.host.units or ()) - 1))
        count = len(self.host.units or ())
        stages = range(count) if site == "stages" else [int(site.removeprefix("stage")) - 1]
        try:
            return tuple(canonical_stage(self.host, i, candidate) for i in stages)
        except BlockError as error:
            raise SpaceError(self.source or self.name, [f"{site}: {error}"]) from None


def load_space(name_or_path: str | Path) -> Space:
    """A shipped space by name, or a YAML file; every mistake of the file is in the one `SpaceError` raised."""
    name = str(name_or_path)
    shipped = shipped_spaces()
    if name in shipped:
        return _Reader(yaml_file.read(shipped[name]), name).space()
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or "/" in name or path.exists():
        return _Reader(yaml_file.read(path), path.stem).space()
    raise UsageError(unknown("space", name, shipped))


def read_space(text: str, name: str) -> Space:
    """A space from the text of its file; every mistake is in the one `SpaceError` raised."""
    return _Reader(yaml_file.parse(text, name), name).space()


def shipped_spaces() -> dict[str, Path]:
    """Names and files of the spaces that come with attnsearch, in a checkout and in a wheel alike."""
    packaged = Path(str(resources.files("attnsearch"))) / "search_spaces"
    folder = packaged if packaged.is_dir() else packaged.parent.parent / "search_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def parse_limits(text: str) -> tuple[Limit, ...]:
    """`params<=1.2x,macs<=60M` as limits; raises `UsageError`."""
    limits = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\w+)\s*<=\s*(\S+)", part)
        if match is None:
            raise UsageError(f"Cannot read the limit '{part}': write for example params<=1.2x,macs<=60M")
        limits.append(_limit(match[1], match[2]))
    return tuple(limits)


def canonical(arch: Arch) -> Arch:
    """The one spelling of an arch: inert settings dropped, options filled in and resolved to what is built.

    Archs that build the same network have one canonical form, and so one `key`, on every machine.
    """
    host = arch.host.filled()
    stages = arch.stages or (Stage(),) * len(host.units or ())
    return Arch(
        host=host,
        stages=tuple(canonical_stage(host, i, stage) for i, stage in enumerate(stages)),
        neck=_complete(arch.neck, host.channels(len(stages) - 1)),
    )


def canonical_stage(host: Host, index: int, stage: Stage) -> Stage:
    """`canonical` for one stage of a host."""
    host = host.filled()
    count = (host.units or ())[index]
    conv = _complete(stage.conv, host.conv_channels(index))
    convs = stage.convs if conv and host.unit == "basic" else "second"
    channels = host.conv_channels(index) if stage.position == "after_conv" else host.channels(index)
    attention = _complete(stage.attention, channels)
    if not attention or (stage.position != "after_stage" and not stage.indices(count)):
        return Stage(conv=conv, convs=convs)
    indices = stage.indices(count)
    units: str | tuple[int, ...] = (
        "all" if stage.position == "after_stage" or len(indices) == count else indices
    )
    if units == (count - 1,):
        units = "last"  # readable, and still one spelling
    position = stage.position
    if position == "after_add" and indices == (count - 1,):
        position, units = "after_stage", "all"  # the last unit's output is the stage's
    init: Literal["default", "identity"] = stage.init
    if init == "identity" and registry.starts_as_identity(attention.name, channels, dict(attention.options)):
        init = "default"
    return Stage(attention, position, units, init, stage.control, conv, convs)


def _complete(block: Block, channels: int) -> Block:
    if not block:
        return block
    name, preset = registry.expand(block.name)
    return Block.of(name, **registry.complete(name, channels, {**preset, **dict(block.options)}))


def _label(value: tuple[Stage, ...] | Block) -> str:
    if isinstance(value, Block):
        return str(value)
    return str(value[0]) if len(set(value)) == 1 else " | ".join(str(stage) for stage in value)


def _factor_codes(values: Sequence[tuple[Stage, ...] | Block]) -> list[list[int]]:
    rows: list[dict[str, Any]] = []
    for value in values:
        row: dict[str, Any] = {}
        parts: tuple[Stage | Block, ...] = value if isinstance(value, tuple) else (value,)
        for i, part in enumerate(parts):
            blocks = [part] if isinstance(part, Block) else [part.attention, part.conv]
            for slot, block in enumerate(blocks):
                row[f"{i}.{slot}"] = block.name
                row.update({f"{i}.{slot}.{block.name}.{k}": v for k, v in block.options})
            if isinstance(part, Stage):
                row.update({f"{i}.{k}": getattr(part, k) for k in ("position", "units", "init", "convs")})
        rows.append(row)
    columns = sorted({key for row in rows for key in row})
    codes = {
        column: {repr(v): n for n, v in enumerate(dict.fromkeys(row.get(column) for row in rows))}
        for column in columns
    }
    varying = [column for column in columns if len(codes[column]) > 1]
    return [[codes[column][repr(row.get(column))] for column in varying] for row in rows]


def _refit(
    choices: Mapping[str, tuple[Stage | Block, ...]], host: Host
) -> dict[str, tuple[Stage | Block, ...]]:
    """The same choices on a host of the same number of stages; a different number needs a file of its own."""
    sites = [site for site in choices if site.startswith("stage") and site != "stages"]
    if sites and len(sites) != len(host.units or ()):
        raise UsageError(f"for_data: {host.name} has {len(host.units or ())} stages, the space {len(sites)}")
    return dict(choices)


def _limit(cost: str, text: str) -> Limit:
    if cost not in LIMITED:
        raise UsageError(unknown("cost of a limit", cost, LIMITED))
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)([kKMGx]?)", str(text).strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"Cannot read the limit '{text}' of {cost}: write for example 1.2x, 60M or 250000")
    scale = {"": 1, "x": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]]
    return Limit(cost, float(match[1]) * scale, relative=match[2] == "x")


class _Reader:
    """Reads one document; every check that fails adds a (path, sentence) to `problems`."""

    def __init__(self, document: yaml_file.Document, name: str) -> None:
        self.document = document
        self.name = name
        self.problems: list[tuple[str, str]] = []

    def space(self) -> Space:
        given = self.document.values
        if not isinstance(given, dict):
            raise SpaceError(self.document.source, ["expected a mapping with host, stages, ... at the top"])
        self.known(given, _KEYS, "")
        host = self.host(given.get("host", "resnet20"), "host")
        tied = given.get("tied", False)
        if not isinstance(tied, bool):
            self.problems.append(("tied", f"expected true or false, got {tied!r}"))
        choices = self.choices(given, host, bool(tied))
        design = given.get("design", "search")
        if design not in _DESIGNS:
            self.problems.append(("design", unknown("design", design, _DESIGNS)))
        space = Space(
            name=str(given.get("name", self.name)),
            question=" ".join(str(given.get("question", "")).split()),
            host=host,
            choices=choices,
            tied=bool(tied),
            limits=self.limits(given.get("limits", {})),
            recipe=Recipe(**self.recipe(given.get("recipe", {}), "recipe")),
            baseline_stages=self.baseline(given.get("baseline"), host),
            design=str(design),
            text=self.document.text,
            source=self.document.source,
            for_data=self.for_data(given.get("for_data", {})),
        )
        if not self.problems and math.prod(len(set(options)) for options in choices.values()) < 2:
            count = 0 if any(not options for options in choices.values()) or not choices else 1
            self.problems.append(
                ("", f"space has {count} architecture{'s' if count != 1 else ''}; nothing to search")
            )
        if self.problems:
            raise yaml_file.problems_error(self.document, self.problems)
        return space

    def known(self, given: Mapping[Any, Any], keys: Sequence[str], path: str) -> None:
        for key in given:
            if key not in keys:
                where = f"{path}.{key}" if path else str(key)
                self.problems.append((where, unknown("key", key, keys)))

    def host(self, given: Any, path: str) -> Host:
        try:
            return Arch.from_dict({"host": given}).host
        except (UsageError, TypeError, ValueError) as error:
            self.problems.append((path, str(error)))
            return Host().filled()

    def choices(
        self, given: Mapping[str, Any], host: Host, tied: bool
    ) -> dict[str, tuple[Stage | Block, ...]]:
        count = len(host.units or ())
        stages = given.get("stages", {})
        found: dict[str, tuple[Stage | Block, ...]] = {}
        if isinstance(stages, list):
            if not stages:
                return {"stages": ()}
            if len(stages) != count:
                self.problems.append(
                    ("stages", f"{host.name} has {count} stages, the list has {len(stages)}")
                )
            if tied:
                self.problems.append(("tied", "a list of stages cannot be tied; give one mapping for all"))
            for i, entry in enumerate(stages):
                found[f"stage{i + 1}"] = self.stage(entry, f"stages[{i}]", f"in stage {i + 1}")
        else:
            options = self.stage(stages, "stages", "in stages")
            found = {"stages": options} if tied else {f"stage{i + 1}": options for i in range(count)}
        necks = self.blocks(given.get("neck", "none"), "neck", "neck", "in the neck")
        return {**found, "neck": necks} if len(necks) > 1 or necks[:1] not in ((), (NONE,)) else found

    def stage(self, given: Any, path: str, where: str) -> tuple[Stage, ...]:
        if not isinstance(given, dict):
            self.problems.append((path, f"expected a mapping with {', '.join(_STAGE_KEYS)}"))
            return ()
        self.known(given, _STAGE_KEYS, path)
        attention = self.blocks(given.get("attention", "none"), f"{path}.attention", "attention", where)
        conv = self.blocks(given.get("conv", "conv3x3"), f"{path}.conv", "conv", where)
        settings = list(
            itertools.product(
                *(
                    self.words(given.get(k, allowed[0]), allowed, f"{path}.{k}", k)
                    for k, allowed in _WORDS.items()
                )
            )
        )
        if len(attention) * len(conv) * len(settings) > MAX_SITE_OPTIONS:
            self.problems.append(
                (path, f"more than {MAX_SITE_OPTIONS:,} options for one stage; split the question")
            )
            return ()
        return tuple(
            dict.fromkeys(
                Stage(attention=a, conv=c, position=p, units=u, init=i, convs=both)
                for (a, c), (p, u, i, both) in itertools.product(itertools.product(attention, conv), settings)
            )
        )

    def words(self, given: Any, allowed: Sequence[str], path: str, key: str) -> tuple[Any, ...]:
        out = []
        for value in given if isinstance(given, list) else [given]:
            indices = (
                key == "units"
                and isinstance(value, list)
                and value
                and all(type(v) is int and v >= 0 for v in value)
            )
            if not indices and value not in allowed:
                self.problems.append((path, unknown(key, value, allowed)))
            out.append(tuple(value) if isinstance(value, list) else value)
        return tuple(out)

    def blocks(self, given: Any, path: str, slot: str, where: str) -> tuple[Block, ...]:
        """Every block of a list with every combination of its options."""
        out: list[Block] = []
        entries = given if isinstance(given, list) else [given]
        for i, entry in enumerate(entries):
            inner = f"{path}[{i}]" if isinstance(given, list) else path
            out.extend(self.block(entry, inner, slot, where))
        return tuple(dict.fromkeys(out))

    def block(self, entry: Any, path: str, slot: str, where: str) -> list[Block]:
        options = entry if isinstance(entry, dict) else {"block": entry}
        name = options.get("block")
        if name is None:
            name = "none" if entry is None else ""
        empty = CONV3X3 if slot == "conv" else NONE
        if name == empty.name and len(options) == 1:
            return [empty]
        known = {info.name: info for info in registry.blocks().values() if info.slot == slot}
        base, _, preset = str(name).partition(".")
        if base in known and preset:
            try:
                registry.expand(str(name))
            except UsageError as error:
                self.problems.append((path, str(error)))
                return []
        if base not in known:
            words = [empty.name, *known]
            self.problems.append(
                (
                    path,
                    f"Unknown block '{name}' {where}.{did_you_mean(str(name), words)} Known: {', '.join(words)}",
                )
            )
            return []
        facts = known[base]
        axes: dict[str, tuple[list[Any], Mapping[str, Any]]] = {}
        for key, value in options.items():
            if key == "block":
                continue
            here = f"{path}.{key}"
            words = [option.name for option in facts.options]
            if key not in words:
                self.problems.append(
                    (
                        here,
                        unknown(f"key of {name}", key, words),
                    )
                )
                continue
            axes[str(key)] = self.axis(facts.option(str(key)), value, here)
        return [Block.of(str(name), **combination) for combination in _combinations(axes)]

    def axis(self, option: registry.Option, given: Any, path: str) -> tuple[list[Any], Mapping[str, Any]]:
        """The values of one option, and the condition under which it is asked."""
        when: Mapping[str, Any] = {}
        if isinstance(given, dict):
            self.known(given, ("values", "when"), path)
            when = given.get("when", {})
            given = given.get("values", [option.default])
        one_tuple = (
            "tuple" in option.type
            and isinstance(given, list)
            and given
            and all(isinstance(v, int) for v in given)
        )
        values = [given] if one_tuple or not isinstance(given, list) else given
        if not values:
            self.problems.append((path, "an empty list leaves nothing to choose"))
        return [self.option_value(option, value, path) for value in values], when

    def option_value(self, option: registry.Option, value: Any, path: str) -> Any:
        if option.choices:
            if value not in option.choices:
                self.problems.append((path, unknown("value", value, option.choices)))
            return value
        if "tuple" in option.type:
            if isinstance(value, str) and re.fullmatch(r"\d+(-\d+)*", value):
                return tuple(int(part) for part in value.split("-"))
            if isinstance(value, list) and all(type(v) is int for v in value):
                return tuple(value)
            if isinstance(value, str) and "str" in option.type:
                return value
        accepted = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}
        kinds = [
            kind
            for word, kind in accepted.items()
            if re.search(rf"\b{word}\b", option.type.split("tuple")[0])
        ]
        if value is None and "None" in option.type:
            return None
        boolean_for_number = isinstance(value, bool) and "bool" not in option.type
        if not any(isinstance(value, kind) for kind in kinds) or boolean_for_number:
            self.problems.append((path, f"expected {option.type}, got {value!r}"))
        return (
            float(value)
            if "float" in option.type and isinstance(value, int) and not isinstance(value, bool)
            else value
        )

    def limits(self, given: Any) -> tuple[Limit, ...]:
        found = []
        for cost, text in (given or {}).items() if isinstance(given, dict) else [("", given)]:
            try:
                found.append(_limit(str(cost), str(text)))
            except UsageError as error:
                self.problems.append((f"limits.{cost}", str(error)))
        return tuple(found)

    def recipe(self, given: Any, path: str) -> dict[str, Any]:
        if not isinstance(given, dict):
            self.problems.append((path, "expected a mapping, for example {epochs: 12}"))
            return {}
        self.known(given, [item.name for item in fields(Recipe)], path)
        values = {
            key: tuple(v) if isinstance(v, list) else v for key, v in given.items() if key in _RECIPE_FIELDS
        }
        for key, message in recipe_problems(values):
            self.problems.append((f"{path}.{key}", message))
        return values

    def baseline(self, given: Any, host: Host) -> tuple[Stage, ...]:
        if given in (None, "plain"):
            return ()
        try:
            return Arch.from_dict(
                {"host": host.name, "stages": given if isinstance(given, list) else [given]}
            ).stages
        except (UsageError, BlockError, TypeError) as error:
            self.problems.append(("baseline", str(error)))
            return ()

    def for_data(self, given: Any) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if not isinstance(given, dict):
            self.problems.append(("for_data", "expected a mapping from a data set to host and recipe"))
            return found
        for data, change in given.items():
            path = f"for_data.{data}"
            if not isinstance(change, dict):
                self.problems.append((path, "expected a mapping with host and recipe"))
                continue
            self.known(change, ("host", "recipe"), path)
            found[str(data)] = {}
            if "host" in change:
                found[str(data)]["host"] = self.host(change["host"], f"{path}.host")
            if "recipe" in change:
                found[str(data)]["recipe"] = self.recipe(change["recipe"], f"{path}.recipe")
        return found


_RECIPE_FIELDS = {item.name for item in fields(Recipe)}


def recipe_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with recipe values: (name, sentence) for each."""
    for key in ("epochs", "batch_size", "train_images"):
        value = values.get(key)
        if value is not None and (type(value) is not int or value < 1):
            yield key, f"{key} must be an integer >= 1, got {value!r}"
    for key in ("lr",):
        value = values.get(key)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf
        ):
            yield key, f"{key} must be a positive finite number, got {value!r}"
    for key, low, high in (
        ("momentum", 0, 1),
        ("weight_decay", 0, math.inf),
        ("warmup", 0, 1),
        ("label_smoothing", 0, 1),
        ("ema", 0, 1),
    ):
        value = values.get(key)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high
        ):
            yield key, f"{key} must be a number from {low} to below {high}, got {value!r}"
    for key, allowed in (("optimizer", ("sgd", "adamw")), ("precision", ("auto", "float32", "bfloat16"))):
        value = values.get(key)
        if value is not None and value not in allowed:
            yield key, unknown(key, value, allowed)
    for value in values.get("augment") or ():
        if value not in ("flip", "crop", "cutout"):
            yield "augment", unknown("augmentation", value, ("flip", "crop", "cutout"))


def _combinations(axes: Mapping[str, tuple[list[Any], Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The product of all axes; an option whose `when` does not hold is left out, and so asked only under it."""
    free = {key: values for key, (values, when) in axes.items() if not when}
    asked = {key: pair for key, pair in axes.items() if pair[1]}
    out = [dict(zip(free, row, strict=True)) for row in itertools.product(*free.values())]
    for key, (values, when) in asked.items():
        grown = []
        for row in out:
            holds = all(row.get(k) in (v if isinstance(v, list) else [v]) for k, v in when.items())
            grown.extend([{**row, key: value} for value in values] if holds else [row])
        out = grown
    return out
