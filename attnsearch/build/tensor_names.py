"""Weights: somebody else's checkpoint in a model of ours, or of theirs, whatever names its trainer gave the tensors.

Names are compared after three things have been taken off on both sides: what wraps a model (`module.`, `_orig_mod.`),
the words that other libraries use (`RENAMED`), and the prefix under which most of the rest agrees (`net.`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.build.checkpoint import Checkpoint, read_checkpoint, tensors_of
from attnsearch.core.checks import CHOICE
from attnsearch.core.errors import UsageError
from attnsearch.core.text import many

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
COUNTER = "num_batches_tracked"  # of batch norms; nothing is computed from it
_CONV = {"convolution": "conv", "normalization": "bn"}

# Words of other libraries -> those of torchvision.
RENAMED: tuple[tuple[re.Pattern[str], Any], ...] = (
    (re.compile(r"(^|\.)embedder\.embedder\.(convolution|normalization)\."), lambda m: f"{m[1]}{_CONV[m[2]]}1."),
    (
        re.compile(r"(^|\.)encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.(convolution|normalization)\."),
        lambda m: f"{m[1]}layer{int(m[2]) + 1}.{m[3]}.{_CONV[m[5]]}{int(m[4]) + 1}.",
    ),
    (
        re.compile(r"(^|\.)encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.(convolution|normalization)\."),
        lambda m: f"{m[1]}layer{int(m[2]) + 1}.{m[3]}.downsample.{int(m[4] == 'normalization')}.",
    ),
    (re.compile(r"(^|\.)(layer\d+\.\d+)\.shortcut\.(\d+)\."), lambda m: f"{m[1]}{m[2]}.downsample.{m[3]}."),
    (re.compile(r"(^|\.)(?:linear|last_linear|classifier\.1)\.(weight|bias)$"), lambda m: f"{m[1]}fc.{m[2]}"),
)  # fmt: skip


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a checkpoint and of a model.

    Args:
        loaded: in both, of one shape; by the model's names.
        missing: of the model, not in the checkpoint; they keep their values. Counters of batch norms are not listed.
        unexpected: of the checkpoint, not in the model; by the file's names.
        mismatched: in both, of different shapes; not loaded.
        notes: which part of the file was taken where there were several, and what was left out of a head.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether model and checkpoint hold exactly the same tensors."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        parts = [f"{many(len(self.loaded), 'tensor')} loaded"]
        for field, word in (
            ("missing", "missing"),
            ("unexpected", "unexpected"),
            ("mismatched", "of another shape"),
        ):
            keys = getattr(self, field)
            if keys:
                more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
                parts.append(f"{len(keys)} {word}: {', '.join(keys[:5])}{more}")
        return "; ".join([*parts, *self.notes])


@dataclass(frozen=True)
class Match:
    """One part of a checkpoint laid beside a model: `pairs` maps the model's names to the file's."""

    group: str
    prefix: str
    pairs: Mapping[str, str]
    fitting: int

    @property
    def place(self) -> str:
        """How its user can ask for this part: the key, or the prefix without its last dot."""
        return self.group or self.prefix.rstrip(".")


def load_weights(model: nn.Module, path_or_state: str | Path | Mapping[str, Any]) -> LoadReport:
    """Load what fits of a checkpoint and say what became of every tensor.

    Args:
        model: changed in place.
        path_or_state: a file (safetensors, or one of torch, read with weights_only=True; `FILE::KEY` takes one of
            several sets of weights in it), or a state dict, itself or under keys such as `state_dict` and `model`.

    Raises `UsageError` for a file that is no checkpoint, one with NaN in it, and where not one tensor fits.
    """
    if isinstance(path_or_state, str | Path):
        checkpoint = read_checkpoint(path_or_state)
    else:
        checkpoint = Checkpoint("the state dict", tensors_of(path_or_state, "the state dict"))
    return load(model, checkpoint)


def load(model: nn.Module, checkpoint: Checkpoint) -> LoadReport:
    """`load_weights` for a file that has been read."""
    own = model.state_dict()
    best, others = best_match(own, checkpoint)
    state = checkpoint.groups[best.group]
    fitting = {key: state[name] for key, name in best.pairs.items() if state[name].shape == own[key].shape}
    _check_finite(fitting, checkpoint.source)
    model.load_state_dict(fitting, strict=False)
    used = set(best.pairs.values())
    missing = tuple(key for key in own if key not in best.pairs and not key.endswith(COUNTER))
    mismatched = tuple(key for key in own if key in best.pairs and key not in fitting)
    return LoadReport(
        loaded=tuple(key for key in own if key in fitting),
        missing=missing,
        unexpected=tuple(name for name in state if name not in used),
        mismatched=mismatched,
        notes=(*_choice_note(best, others, checkpoint), *_head_note(own, state, best)),
    )


def best_match(own: Mapping[str, Tensor], checkpoint: Checkpoint) -> tuple[Match, list[Match]]:
    """The part of a checkpoint that fits a model best, and the others that fit as well.

    Of several it is the one that is no moving average, then the first. Raises `UsageError` where nothing fits.
    """
    found = [m for group, state in checkpoint.groups.items() for m in matches(own, state, group)]
    if checkpoint.choice:
        chosen = [m for m in found if checkpoint.choice in (m.place, m.group, m.prefix, m.prefix.rstrip("."))]
        if not chosen:
            places = ", ".join(dict.fromkeys(m.place or "the top" for m in found)) or "none that fits"
            raise UsageError(
                f"{checkpoint.source} has no weights under '{checkpoint.choice}'; it has {places}"
            )
        found = chosen
    if not found:
        names = [name for state in checkpoint.groups.values() for name in state]
        raise UsageError(
            f"{checkpoint.source}: No tensor of the checkpoint fits the model: it has {_some(names)}, "
            f"the model {_some(own)}"
        )
    most = max(m.fitting for m in found)
    near = [m for m in found if m.fitting == most]
    best = min(near, key=lambda m: (_averaged(m), len(m.pairs) - m.fitting))
    return best, [m for m in near if m is not best]


def matches(own: Mapping[str, Tensor], state: Mapping[str, Tensor], group: str = "") -> list[Match]:
    """The ways to lay a state dict beside a model that fit best, one for each prefix; empty where nothing fits."""
    ours, theirs = plain_names(own), plain_names(state)
    prefixes: Counter[tuple[str, str]] = Counter()
    ends: dict[str, list[tuple[str, str]]] = {}
    for name, key in ours.items():
        for prefix, end in _ends(name):
            ends.setdefault(end, []).append((prefix, key))
    for name, key in theirs.items():
        for prefix, end in _ends(name):
            for our_prefix, our_key in ends.get(end, ()):
                if not key.endswith(COUNTER) and own[our_key].shape == state[key].shape:
                    prefixes[our_prefix, prefix] += 1
    if not prefixes:
        return []
    most = max(prefixes.values())
    best: list[Match] = []
    for (mine, other), count in sorted(prefixes.items(), key=lambda item: sum(map(len, item[0]))):
        pairs = _pairs(ours, theirs, mine, other) if count == most else {}
        if pairs and not any(pairs.items() <= match.pairs.items() for match in best):
            best.append(Match(group, other, pairs, count))
    return best


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Names without wrappers and in torchvision's words -> as they are; unchanged where two would become one."""
    names_by_plain: dict[str, str] = {}
    for name in names:
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        for pattern, words in RENAMED:
            plain = pattern.sub(words, plain)
        names_by_plain[name if plain in names_by_plain else plain] = name
    return names_by_plain


def _ends(name: str) -> list[tuple[str, str]]:
    """(prefix, rest) of a name at each of its dots, the last one left out: `weight` alone says nothing."""
    parts = name.split(".")
    cuts = range(max(1, len(parts) - 1))
    return [(".".join([*parts[:cut], ""]) if cut else "", ".".join(parts[cut:])) for cut in cuts]


def _pairs(ours: Mapping[str, str], theirs: Mapping[str, str], mine: str, other: str) -> dict[str, str]:
    """Model's names -> file's under these two prefixes; a head may stand outside the file's."""
    pairs: dict[str, str] = {}
    for name, key in ours.items():
        end = name.removeprefix(mine)
        counterpart = theirs.get(other + end) or (theirs.get(end) if end.startswith("fc.") else None)
        if name.startswith(mine) and counterpart is not None:
            pairs[key] = counterpart
    return pairs


def _averaged(match: Match) -> bool:
    """Whether a part is named as a moving average of weights."""
    words = re.split(r"[._]", f"{match.group}.{match.prefix}".lower())
    return bool({"ema", "swa", "averaged", "avg", "shadow"} & set(words))


def _choice_note(best: Match, others: list[Match], checkpoint: Checkpoint) -> list[str]:
    if checkpoint.choice or not others:
        return []
    rest = ", ".join(f"{checkpoint.source}{CHOICE}{m.place}" for m in others if m.place)
    return [f"taken: '{best.place or 'the top'}'; the file has other weights too, to be taken by {rest}"]


def _head_note(own: Mapping[str, Tensor], state: Mapping[str, Tensor], best: Match) -> list[str]:
    """A head of another number of classes, which is left out."""
    for key, name in best.pairs.items():
        is_head = plain_names([key]).popitem()[0].endswith("fc.weight")
        if is_head and own[key].shape != state[name].shape:
            return [
                f"the head is left out and trained from its start: it is for {len(state[name]):,} classes, "
                f"here there are {len(own[key]):,}"
            ]
    return []


def _check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    bad = [key for key, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise UsageError(f"{source} has NaN or infinity in {', '.join(bad[:3])}{more}")


def _some(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:3]) or "none"


__all__ = ["LoadReport", "Match", "best_match", "load", "load_weights", "matches", "plain_names"]
