"""The reader of a space file: every mistake is reported, none stops the reading. See `space` for what a file says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from attnsearch.blocks import registry
from attnsearch.core.checks import beside
from attnsearch.core.choices import DESIGNS
from attnsearch.core.convergence import LEAST_SEEDS, LONGER, Convergence
from attnsearch.core.costs import Limit, read_limit
from attnsearch.core.errors import BlockError, SpaceError, UsageError, did_you_mean, unknown
from attnsearch.core.recipes import STARTS
from attnsearch.core.text import many
from attnsearch.core.trial import Recipe
from attnsearch.space import yaml_file
from attnsearch.space.arch import (
    CONV3X3,
    CONVS,
    INITS,
    NONE,
    POSITIONS,
    UNITS,
    Arch,
    Block,
    Host,
    Stage,
    check_fits_module,
    plain,
    read_host,
)
from attnsearch.space.values import as_built, combinations, is_number, recipe_problem, truth_value

MAX_SITE_OPTIONS = 20_000
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
    "variants",
)
_WORDS: dict[str, Sequence[str]] = {
    "position": POSITIONS,
    "units": UNITS,
    "init": INITS,
    "convs": CONVS,
}


def read_document(
    document: yaml_file.Document, name: str, weights: str = "", module: Host | None = None
) -> dict[str, Any]:
    """The fields of a `space.Space` that a document states; every mistake is in the one `SpaceError` raised.

    Args:
        weights: a checkpoint that is named outside the document, and goes before one in it. A recipe in the document
            is then not meant for it, unless it says what it starts from: `finetune` is taken in its place.
        module: what the document's `host: {module: ...}` was when it was first read; the file is not opened again.
    """
    return _Reader(document, name, weights, module).fields()


class _Reader:
    """Reads one document; every check that fails adds a (path, sentence) to `problems`."""

    def __init__(
        self, document: yaml_file.Document, name: str, weights: str = "", module: Host | None = None
    ) -> None:
        self.document, self.module = document, module
        self.name = name
        self.weights = weights
        self.outside = bool(weights)  # the document knows nothing of its weights
        self.problems: list[tuple[str, str]] = []

    def fields(self) -> dict[str, Any]:
        node = self.document.values
        if not isinstance(node, dict):
            raise SpaceError(self.document.source, ["expected a mapping with host, stages, ... at the top"])
        self.known(node, _KEYS, "")
        self.read_weights(node.get("host"))
        host = self.host(node.get("host", "resnet20"), "host")
        tied = node.get("tied", False)
        if not isinstance(tied, bool):
            self.problems.append(("tied", f"expected true or false, got {tied!r}"))
        choices = self.choices(node, host, bool(tied))
        variants = self.variants(node.get("variants"))
        design = node.get("design", "named" if variants else "search")
        if design not in DESIGNS:
            self.problems.append(("design", unknown("design", design, DESIGNS)))
        elif design == "named" and not variants and "variants" not in node:
            self.problems.append(("design", "a named design needs variants: {name: option | option, ...}"))
        result = {
            "name": str(node.get("name", self.name)),
            "question": " ".join(str(node.get("question", "")).split()),
            "host": host,
            "weights": self.weights,
            "choices": choices,
            "tied": bool(tied),
            "limits": self.limits(node.get("limits", {})),
            "recipe": Recipe(**self.recipe(node.get("recipe", {}), "recipe")),
            "baseline_stages": self.baseline(node.get("baseline"), host),
            "design": str(design),
            "variants": variants,
            "text": self.document.text,
            "source": self.document.source,
            "for_data": self.for_data(node.get("for_data", {})),
        }
        if not self.problems and math.prod(len(set(options)) for options in choices.values()) < 2:
            count = 0 if any(not options for options in choices.values()) or not choices else 1
            self.problems.append(("", f"space has {many(count, 'architecture')}; nothing to search"))
        if self.problems:
            raise yaml_file.problems_error(self.document, self.problems)
        return result

    def known(self, node: Mapping[Any, Any], keys: Sequence[str], path: str) -> None:
        for key in node:
            if key not in keys:
                where = f"{path}.{key}" if path else str(key)
                self.problems.append((where, unknown("key", key, keys)))

    def read_weights(self, host: Any) -> None:
        """The checkpoint that `host.weights` names: as it stands, or beside the document."""
        named = host.get("weights") if isinstance(host, dict) else None
        if named is None:
            return
        if not isinstance(named, str) or not named:
            self.problems.append(("host.weights", f"expected a file of weights, got {named!r}"))
        elif not self.outside:
            self.weights = beside(named, Path(self.document.source).parent)

    def host(self, node: Any, path: str) -> Host:
        if isinstance(node, dict):
            node = {key: value for key, value in node.items() if key != "weights"}
            if self.module and "module" in node:
                return self.module
        try:
            return read_host(node, Path(self.document.source).parent)
        except (UsageError, TypeError, ValueError) as error:
            self.problems.append((path, str(error)))
            if isinstance(node, dict) and "module" in node:  # nothing is known of its stages
                raise yaml_file.problems_error(self.document, self.problems) from None
            return Host().filled()

    def choices(
        self, node: Mapping[str, Any], host: Host, tied: bool
    ) -> dict[str, tuple[Stage | Block, ...]]:
        count = len(host.units or ())
        stages = node.get("stages", {})
        result: dict[str, tuple[Stage | Block, ...]] = {}
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
                result[f"stage{i + 1}"] = self.stage(entry, f"stages[{i}]", f"in stage {i + 1}")
        else:
            options = self.stage(stages, "stages", "in stages")
            result = {"stages": options} if tied else {f"stage{i + 1}": options for i in range(count)}
        necks = self.blocks(node.get("neck", "none"), "neck", "neck", "in the neck")
        if host.module:
            try:
                check_fits_module(host, itertools.chain.from_iterable(result.values()), *necks)
            except UsageError as error:
                self.problems.append(("", str(error)))
        return {**result, "neck": necks} if len(necks) > 1 or necks[:1] not in ((), (NONE,)) else result

    def stage(self, node: Any, path: str, where: str) -> tuple[Stage, ...]:
        if not isinstance(node, dict):
            self.problems.append((path, f"expected a mapping with {', '.join(_STAGE_KEYS)}"))
            return ()
        self.known(node, _STAGE_KEYS, path)
        attention = self.blocks(node.get("attention", "none"), f"{path}.attention", "attention", where)
        conv = self.blocks(node.get("conv", "conv3x3"), f"{path}.conv", "conv", where)
        settings = list(
            itertools.product(
                *(
                    self.words(node.get(k, self.usual(k)), allowed, f"{path}.{k}", k)
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

    def usual(self, key: str) -> str:
        """A word of a stage that the document leaves out; what enters a trained network starts as the identity."""
        return "identity" if key == "init" and self.weights else _WORDS[key][0]

    def words(self, node: Any, allowed: Sequence[str], path: str, key: str) -> tuple[Any, ...]:
        out = []
        for value in node if isinstance(node, list) else [node]:
            indices = (
                key == "units"
                and isinstance(value, list)
                and value
                and all(type(v) is int and v >= 0 for v in value)
            )
            if isinstance(value, bool):
                self.problems.append((path, truth_value(value, f"one of {', '.join(map(str, allowed))}")))
            elif indices or value in allowed:
                out.append(tuple(value) if indices else value)
            else:
                self.problems.append((path, unknown(key, value, allowed)))
        return tuple(dict.fromkeys(out))

    def blocks(self, node: Any, path: str, slot: str, where: str) -> tuple[Block, ...]:
        """Every block of a list with every combination of its options."""
        out: list[Block] = []
        entries = node if isinstance(node, list) else [node]
        for i, entry in enumerate(entries):
            inner = f"{path}[{i}]" if isinstance(node, list) else path
            out.extend(self.block(entry, inner, slot, where))
        return tuple(dict.fromkeys(out))

    def block(self, entry: Any, path: str, slot: str, where: str) -> list[Block]:
        options = entry if isinstance(entry, dict) else {"block": entry}
        empty = CONV3X3 if slot == "conv" else NONE
        name = options.get("block", "")
        if isinstance(name, bool):
            self.problems.append((path, truth_value(name, empty.name)))
            return []
        name = empty.name if name is None else str(name)
        if name == empty.name and len(options) == 1:
            return [empty]
        known = {info.name: info for info in registry.blocks().values() if info.slot == slot}
        base, _, preset = name.partition(".")
        if base not in known:
            words = [empty.name, *known]
            near = did_you_mean(name, words)
            self.problems.append((path, f"Unknown block '{name}' {where}.{near} Known: {', '.join(words)}"))
            return []
        if preset:
            try:
                registry.expand(name)
            except UsageError as error:
                self.problems.append((path, str(error)))
                return []
        info = known[base]
        words = [option.name for option in info.options]
        axes: dict[str, tuple[list[Any], Mapping[str, Any]]] = {}
        for key, value in options.items():
            if key in words:
                axes[key] = self.axis(info, key, value, f"{path}.{key}")
            elif key != "block":
                self.problems.append((f"{path}.{key}", unknown(f"key of {name}", key, words)))
        count = math.prod(len(values) for values, _ in axes.values())
        if count > MAX_SITE_OPTIONS:
            self.problems.append(
                (path, f"more than {MAX_SITE_OPTIONS:,} forms of one block; split the question")
            )
            return []
        left_out = {
            **{option.name: option.default for option in info.options},
            **info.presets.get(preset, {}),
        }
        return [Block.of(name, **combination) for combination in combinations(axes, left_out)]

    def axis(
        self, info: registry.BlockInfo, key: str, node: Any, path: str
    ) -> tuple[list[Any], Mapping[str, Any]]:
        """The values of one option, and the condition under which it is asked."""
        option, when = info.option(key), {}
        if isinstance(node, dict):
            self.known(node, ("values", "when"), path)
            when = self.condition(info, key, node.get("when", {}), f"{path}.when")
            node = node.get("values", [option.default])
        one_tuple = (
            "tuple" in option.type
            and isinstance(node, list)
            and node
            and all(isinstance(v, int) for v in node)
        )
        values = [node] if one_tuple or not isinstance(node, list) else node
        if not values:
            self.problems.append((path, "an empty list leaves nothing to choose"))
        return self.option_values(option, values, path), when

    def condition(
        self, info: registry.BlockInfo, key: str, node: Any, path: str
    ) -> dict[str, tuple[Any, ...]]:
        """Other option -> the values under which this one is asked."""
        if not isinstance(node, dict):
            self.problems.append((path, "expected a mapping from another option to its values"))
            return {}
        words = [option.name for option in info.options if option.name != key]
        self.known(node, words, path)
        return {
            word: tuple(
                self.option_values(
                    info.option(word), entry if isinstance(entry, list) else [entry], f"{path}.{word}"
                )
            )
            for word, entry in node.items()
            if word in words
        }

    def option_values(self, option: registry.Option, node: Sequence[Any], path: str) -> list[Any]:
        """The values as the block is built with them; what the option does not take is a problem."""
        result = []
        for value in (as_built(option, entry) for entry in node):
            if option.choices and value not in option.choices:
                self.problems.append((path, unknown("value", value, option.choices)))
            elif why := option.refuses(value):
                self.problems.append((path, why))
            else:
                result.append(value)
        return result

    def limits(self, node: Any) -> tuple[Limit, ...]:
        result = []
        for cost, text in (node or {}).items() if isinstance(node, dict) else [("", node)]:
            try:
                result.append(read_limit(str(cost), str(text)))
            except UsageError as error:
                self.problems.append((f"limits.{cost}", str(error)))
        return tuple(result)

    def recipe(self, node: Any, path: str) -> dict[str, Any]:
        if isinstance(node, str):
            node = {"start": node}
        if not isinstance(node, dict):
            self.problems.append(
                (path, f"expected a mapping, for example {{epochs: 12}}, or one of {', '.join(STARTS)}")
            )
            return {}
        names = [item.name for item in fields(Recipe)]
        self.known(node, ["start", *names], path)
        start = node.get("start", "finetune" if self.weights else "scratch")
        if start not in STARTS:
            self.problems.append((f"{path}.start", unknown("recipe", start, STARTS)))
            return {}
        if self.outside and "start" not in node:
            return dict(STARTS[start])
        stated = self.recipe_values(node, names, path)
        return stated if path.startswith("for_data") and "start" not in node else {**STARTS[start], **stated}

    def recipe_values(self, node: Mapping[str, Any], names: Sequence[str], path: str) -> dict[str, Any]:
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in node.items() if key in names}
        for key, value in values.items():
            if wrong := recipe_problem(key, value):
                self.problems.append((f"{path}.{key}", wrong))
        return values

    def baseline(self, node: Any, host: Host) -> tuple[Stage, ...]:
        if node in (None, "plain"):
            return ()
        try:
            stages = node if isinstance(node, list) else [node]
            return Arch.from_dict({**plain(host).to_dict(), "stages": stages}).stages
        except (UsageError, BlockError, TypeError) as error:
            self.problems.append(("baseline", str(error)))
            return ()

    def variants(self, node: Any) -> dict[str, str]:
        """Name -> the arch that it stands for, as text; whether the space has it is known when sites are."""
        if node is None:
            return {}
        if not isinstance(node, dict) or not node:
            self.problems.append(
                ("variants", "expected a mapping from a name to an arch, such as `late: none | se`")
            )
            return {}
        for name, text in node.items():
            if not isinstance(name, str) or not name.strip() or name == "plain":
                self.problems.append(("variants", f"a variant's name is text other than plain, got {name!r}"))
            elif not isinstance(text, str):
                self.problems.append(
                    (f"variants.{name}", f"expected an arch, such as none | se, got {text!r}")
                )
        return {str(name): str(text) for name, text in node.items()}

    def for_data(self, node: Any) -> dict[str, dict[str, Any]]:
        result: dict[str, dict[str, Any]] = {}
        if not isinstance(node, dict):
            self.problems.append(("for_data", "expected a mapping from a data set to host and recipe"))
            return result
        for data, change in node.items():
            path = f"for_data.{data}"
            if not isinstance(change, dict):
                self.problems.append((path, "expected a mapping with host and recipe"))
                continue
            self.known(change, ("host", "recipe", "convergence", "control_widths"), path)
            result[str(data)] = {}
            if "host" in change:
                result[str(data)]["host"] = self.host(change["host"], f"{path}.host")
            if "recipe" in change:
                result[str(data)]["recipe"] = self.recipe(change["recipe"], f"{path}.recipe")
            if "convergence" in change:
                epochs = (result[str(data)].get("recipe") or {}).get("epochs", Recipe().epochs)
                result[str(data)]["convergence"] = self.convergence(
                    change["convergence"], epochs, f"{path}.convergence"
                )
            if "control_widths" in change:
                widths = change["control_widths"]
                self.host({"name": "resnet20", "widths": widths}, f"{path}.control_widths")
                result[str(data)]["control_widths"] = tuple(widths) if isinstance(widths, list) else None
        return result

    def convergence(self, node: Any, epochs: Any, path: str) -> Convergence | None:
        """What the baseline's errors were at the recipe's length and at a longer one."""
        keys = ("errors", "long_epochs", "long_errors")
        if not isinstance(node, dict) or set(node) != set(keys):
            self.problems.append((path, f"expected a mapping with {', '.join(keys)}"))
            return None
        for key in ("errors", "long_errors"):
            values = node[key]
            if not isinstance(values, list) or len(values) < LEAST_SEEDS or not all(map(is_number, values)):
                self.problems.append(
                    (f"{path}.{key}", f"expected errors in percent of {LEAST_SEEDS} seeds or more")
                )
                return None
        if type(epochs) is not int:
            return None  # a problem of the recipe, which is named there
        if type(node["long_epochs"]) is not int or node["long_epochs"] < LONGER * epochs:
            self.problems.append(
                (f"{path}.long_epochs", f"expected {LONGER} times the {epochs} epochs or more")
            )
            return None
        return Convergence(epochs, tuple(node["errors"]), node["long_epochs"], tuple(node["long_errors"]))
