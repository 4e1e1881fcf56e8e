"""Check of a block: what it promises its host, tried out property by property.

    audit("cbam")             a shipped block or preset
    audit(MyBlock, 128)       any class built as `cls(channels, **options)`

Each property (`block_properties`) gives one `Finding`: passed with a fact, failed with a reason, or skipped. Everything
runs on the CPU, seeded, on small random maps; nothing of the caller's is changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attnsearch.blocks import registry
from attnsearch.build.create import create_block, create_neck
from attnsearch.core.errors import UsageError, unknown
from attnsearch.tools.block_properties import PROPERTIES, Property, builds
from attnsearch.tools.block_subject import Failed, Skipped, Subject, in_one_line


@dataclass(frozen=True)
class Finding:
    """One property of a block: `passed` is None where it could not be tried."""

    name: str
    passed: bool | None
    reason: str = ""  # why it failed or was skipped
    fact: str = ""  # what was found where it passed


def audit(
    block: str | type[nn.Module],
    channels: int = 64,
    *,
    options: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
) -> list[Finding]:
    """Try every property of a block, or those named in `only`; see `properties()`.

    Args:
        block: a registered name, `"se"` or `"cbam.article"`, or a class; without `@block` it is a gate.
        channels: width to try at; a neck gets a quarter, a half and the whole of it.
        options: the block's own, as in a space file.
        only: names of properties.

    Raises `UsageError` for an unknown name of a block or a property.
    """
    subject = _subject(block, channels, options or {})
    names: Collection[str] = properties() if only is None else only
    for name in names:
        if name not in PROPERTIES:
            raise UsageError(unknown("property", name, PROPERTIES))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = _try("builds", builds, subject)
        if not built.passed:
            return [built]
        fitting = [name for name in PROPERTIES if name in names and subject.slot in PROPERTIES[name][1]]
        return [built, *(_try(name, PROPERTIES[name][0], subject) for name in fitting)]


def properties() -> tuple[str, ...]:
    """Names of all properties, in the order they are tried."""
    return tuple(PROPERTIES)


def _subject(block: str | type[nn.Module], channels: int, options: Mapping[str, Any]) -> Subject:
    if not isinstance(block, str):
        return Subject(getattr(block, "block_slot", "attention"), channels, block, options)
    slot = registry.info(registry.expand(block)[0]).slot
    create: Callable[..., nn.Module] = create_neck if slot == "neck" else create_block
    return Subject(slot, channels, lambda width, **rest: create(block, width, **rest), options)


def _try(name: str, check: Property, subject: Subject) -> Finding:
    try:
        return Finding(name, True, fact=check(subject))
    except Failed as verdict:
        return Finding(name, False, reason=str(verdict))
    except Skipped as verdict:
        return Finding(name, None, reason=str(verdict))
    except Exception as error:  # whatever a user's block raises is the finding
        return Finding(name, False, reason=in_one_line(error))
