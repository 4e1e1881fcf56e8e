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
    variants: {late: none | none | se}  # archs by name, for an ablation of these alone (design: named)
    limits: {params: 1.2x, macs: 60M}   # x: times the baseline
    recipe: {epochs: 12, lr: 0.1}       # see `trial.Recipe`
    for_data:
      cued-digits:                      # on this data set: another host, another recipe, and what was measured of them
        host: resnet8
        recipe: {epochs: 6}
        convergence: {errors: [27.9, 28.3], long_epochs: 24, long_errors: [29.0, 28.6]}   # the baseline's, by seed
        control_widths: [8, 16, 32]     # of the positive control, a narrower host

A host may start from a checkpoint, `host: {name: resnet50, weights: FILE}`: the recipe then starts from `finetune` (see
`core.recipes`), and a gate from the identity unless `init` says otherwise. It may be a model of the user's own,
`host: {module: my_model.py, make: build}`, where the command line names the file (see `module_file`).

Checking a file imports no torch: blocks and their options are read from syntax trees. Only `Space.sites`, which brings
every option to its canonical form, imports the blocks named.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from attnsearch.core.convergence import Convergence
from attnsearch.core.costs import Limit
from attnsearch.core.errors import BlockError, SpaceError, UsageError, unknown
from attnsearch.core.trial import Recipe
from attnsearch.space import yaml_file
from attnsearch.space.arch import NONE, Arch, Block, Host, Stage, plain
from attnsearch.space.canonical import canonical, canonical_block, canonical_stage
from attnsearch.space.labels import parse_block, parse_stage
from attnsearch.space.reader import read_document


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
    variants: Mapping[str, str] = field(default_factory=dict)  # name -> an arch as `named` reads it
    text: str = ""
    source: str = ""
    for_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    convergence: Convergence | None = (
        None  # of the recipe on the data set of `on`, where somebody measured it
    )
    control_widths: tuple[int, ...] | None = (
        None  # of the positive control's host; half of the host's when None
    )
    weights: str = ""

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
        if arch.host != self.host or arch.images != "all":
            return None
        required: dict[str, tuple[Stage, ...] | Block] = {"stages": arch.stages, "neck": arch.neck}
        required.update({f"stage{i + 1}": (stage,) for i, stage in enumerate(arch.stages)})
        found = {
            site: next((label for label, value in options.items() if value == required[site]), None)
            for site, options in self.sites.items()
        }
        if None in found.values() or ("neck" not in self.sites and arch.neck):
            return None
        return {site: str(label) for site, label in found.items()}

    def named(self, text: str) -> dict[str, str]:
        """Site -> option, of the sites that a user names: one option for every site that has it, or `a | none | b`.

        Options may be written with spaces, in any order, with the defaults written out; `all stages a`, as archs are
        printed, is `a`.

        Raises `UsageError` for an option that no such site has.
        """
        text = text.removeprefix("all stages ")
        everywhere = {site: label for site in self.sites if (label := self._label_of(site, text))}
        if everywhere or "|" not in text:
            if not everywhere:
                raise self._no_option("option", text, {o: None for row in self.sites.values() for o in row})
            return everywhere
        words = [word.strip() for word in text.split("|")]
        if len(words) != len(self.sites):
            raise UsageError(
                f"'{text}' names {len(words)} options, the space has {len(self.sites)} sites: {', '.join(self.sites)}"
            )
        chosen = {}
        for word, (site, options) in zip(words, self.sites.items(), strict=True):
            if (label := self._label_of(site, word)) is None:
                raise self._no_option(f"option of {site}", word, options)
            chosen[site] = label
        return chosen

    def _label_of(self, site: str, text: str) -> str | None:
        """The option of a site that a text means, however it is written; None where the site has no such one."""
        options = self.sites[site]
        if text in options:
            return text
        try:
            meant = self._canonical_option(site, parse_block(text) if site == "neck" else parse_stage(text))
        except (UsageError, BlockError):
            return None
        return next((label for label, value in options.items() if value == meant), None)

    def _no_option(self, what: str, text: str, known: Mapping[str, Any]) -> UsageError:
        """An option that is well written is not one letter off another one: the space does not have it."""
        try:
            parse_stage(text)
        except UsageError as error:
            return UsageError(str(error) if "(" in text else unknown(what, text, known))
        return UsageError(f"'{text}' is no {what} in this space. Known: {', '.join(known)}")

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
        content = {
            "host": plain(self.host).to_dict()["host"],
            "sites": {s: list(o) for s, o in self.sites.items()},
            **({"variants": dict(self.variants)} if self.variants else {}),
        }
        return hashlib.sha1(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def on(self, data: str) -> Space:
        """The space as its file wants it on a data set (`for_data`): another host, another recipe."""
        change = self.for_data.get(data)
        if not change:
            return self
        host = change.get("host", self.host)
        choices = self.choices if host == self.host else _refit(self.choices, host)
        return replace(
            self,
            host=host,
            choices=choices,
            recipe=replace(self.recipe, **change.get("recipe", {})),
            convergence=change.get("convergence"),
            control_widths=change.get("control_widths"),
        )

    def with_recipe(self, changes: Mapping[str, Any]) -> Space:
        """The space with another recipe; what was measured of the old one is not known of it."""
        recipe = replace(self.recipe, **changes)
        kept = self.convergence if recipe == self.recipe else None
        return replace(self, recipe=recipe, convergence=kept)

    def _canonical_option(self, site: str, candidate: Stage | Block) -> tuple[Stage, ...] | Block:
        if isinstance(candidate, Block):
            return canonical_block(candidate, self.host.channels(len(self.host.units or ()) - 1))
        count = len(self.host.units or ())
        stages = range(count) if site == "stages" else [int(site.removeprefix("stage")) - 1]
        try:
            return tuple(canonical_stage(self.host, i, candidate) for i in stages)
        except BlockError as error:
            raise SpaceError(self.source or self.name, [f"{site}: {error}"]) from None


def load_space(name_or_path: str | Path, weights: str | None = None) -> Space:
    """A shipped space by name, or a YAML file; every mistake of the file is in the one `SpaceError` raised.

    Args:
        weights: a checkpoint that its host starts from, whatever the file says of one; see `reader.read_document`.
    """
    name = str(name_or_path)
    shipped = shipped_spaces()
    if name in shipped:
        return Space(**read_document(yaml_file.read(shipped[name]), name, weights or ""))
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or "/" in name or path.exists():
        return Space(**read_document(yaml_file.read(path), path.stem, weights or ""))
    raise UsageError(unknown("space", name, shipped))


def read_space(text: str, name: str, weights: str | None = None, module: Host | None = None) -> Space:
    """A space from the text of its file, see `load_space`; `module` as in `reader.read_document`."""
    return Space(**read_document(yaml_file.parse(text, name), name, weights or "", module))


def shipped_spaces() -> dict[str, Path]:
    """Names and files of the spaces that come with attnsearch, in a checkout and in a wheel alike."""
    packaged = Path(str(resources.files("attnsearch"))) / "search_spaces"
    folder = packaged if packaged.is_dir() else packaged.parent.parent / "search_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


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
