"""Options as people write them, `cbam(kernel=7, ratio=8)@last`, read back into what they stand for.

`Stage` and `Block` write themselves in one form; read is every form that means the same.
"""

from __future__ import annotations

import re
from typing import Any, get_args

from attnsearch.blocks import registry
from attnsearch.blocks.registry import Option, Value
from attnsearch.core.errors import UsageError, unknown
from attnsearch.space.arch import CONV3X3, INITS, NONE, POSITIONS, UNITS, Block, Stage

_PART = re.compile(r"\s*([\w.]+)\s*(\([^()]*\))?\s*(\*\s*(?:2|first))?\s*((?:@[^@+()]*)*)\s*")
_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
CONTROLS = ("null", "frozen")


def parse_stage(text: str) -> Stage:
    """A stage as `Stage.__str__` writes it, or as one might: `none`, `se(ratio=16)@all`, `psa + se@after_add`.

    Raises:
        UsageError: words that no stage is written with, or an option that a block does not have.
    """
    values: dict[str, Any] = {}
    for part in _parts(text):
        found = _PART.fullmatch(part)
        if not found:
            raise UsageError(f"cannot read the option '{text}'; write for example cbam(ratio=8)@last")
        name, options, which, places = found.groups()
        block = parse_block(name + (options or ""))
        if block in (NONE, CONV3X3):
            continue
        is_conv = registry.info(name.partition(".")[0]).slot == "conv"
        slot = "conv" if is_conv else "attention"
        if slot in values or (is_conv and places) or (which and not is_conv):
            raise UsageError(f"cannot read the option '{text}': a stage has one convolution and one gate")
        values |= {
            slot: block,
            **({"convs": "first" if which.endswith("first") else "both"} if which else {}),
        }
        for word in (word.strip() for word in places.split("@")[1:]):
            values |= _place(word)
    return Stage(**values)


def parse_block(text: str) -> Block:
    """A block with its options, `pmfs(width=48)`.

    Raises:
        UsageError: no such block, no such option, or a value that is none of it.
    """
    name, _, rest = text.strip().partition("(")
    name = name.strip()
    if name in (NONE.name, CONV3X3.name):
        return Block(name)
    info = registry.info(registry.expand(name)[0])
    options: dict[str, Value] = {}
    for entry in filter(None, (entry.strip() for entry in rest.removesuffix(")").split(","))):
        key, _, value = (word.strip() for word in entry.partition("="))
        known = {option.name: option for option in info.options}
        if key not in known:
            raise UsageError(unknown(f"option of {name}", key, known))
        options[key] = _value(known[key], value, name)
    return Block.of(name, **options)


def _parts(text: str) -> list[str]:
    """Split at plus signs that are not inside parentheses."""
    return re.split(r"\+(?![^(]*\))", text)


def _place(word: str) -> dict[str, Any]:
    """Where a gate stands and how it starts, from one word behind an @."""
    if word in POSITIONS:
        return {"position": word}
    if word in UNITS:
        return {"units": word}
    if word in INITS:
        return {"init": word}
    if word in CONTROLS:
        return {"control": word}
    if re.fullmatch(r"\d+(-\d+)*", word):
        return {"units": tuple(int(number) for number in word.split("-"))}
    raise UsageError(unknown("place", word, (*POSITIONS, *UNITS, *INITS)))


def _value(option: Option, text: str, block: str) -> Value:
    """The first reading of a word that the option takes."""
    readings: list[Value] = []
    if re.fullmatch(r"\d+(-\d+)*", text):
        readings.append(tuple(int(number) for number in text.split("-")))
    for kind in (int, float):
        try:
            readings.append(kind(text))
        except ValueError:
            continue
    if text.lower() in _TRUTH:
        readings.append(_TRUTH[text.lower()])
    readings += [None] * (text.lower() in ("none", "null")) + [text]
    order = sorted(readings, key=lambda value: not isinstance(value, _first_type(option)))
    for value in order:
        if not option.refuses(value):
            return float(value) if "float" in option.type and type(value) is int else value
    raise UsageError(f"{block}, option {option.name}: {option.refuses(order[0])}")


def _first_type(option: Option) -> type | tuple[type, ...]:
    """The type of an option's default, which settles what 3 is where 3 and (3,) would both do."""
    return type(option.default) if option.default is not None else get_args(Value)[0]
