"""A question without a file: blocks in a host, as the space file that asks it."""

from __future__ import annotations

from collections.abc import Sequence

from attnsearch.blocks import registry
from attnsearch.core.errors import UsageError, unknown
from attnsearch.space.arch import HOSTS, Host

SLOTS = {"attention": "none", "conv": "conv3x3"}  # slot -> what stands there by default


def written(host: str, blocks: Sequence[str], stages: Sequence[int] = (), weights: str = "") -> str:
    """The text of a space file: an ablation that adds each block to the host, in all stages at once or in each of some.

    Args:
        host: a name of `arch.HOSTS`. blocks: names or presets, all of one slot.
        stages: numbers from 1; each of them is then asked for itself.
        weights: that the host starts from.

    Raises:
        UsageError: an unknown host, block or stage, or blocks of two slots.
    """
    if host not in HOSTS:
        raise UsageError(unknown("host", host, HOSTS))
    count = len(Host(host).filled().units or ())
    if wrong := [stage for stage in stages if not 1 <= stage <= count]:
        raise UsageError(f"--stages: {host} has stages 1 to {count}, got {wrong[0]}")
    slot = _slot(blocks)
    choice = f"{{{slot}: [{', '.join([SLOTS[slot], *blocks])}]}}"
    lines = [
        f"name: {'_'.join(block.replace('.', '-') for block in blocks)}_in_{host}",
        f"question: Which of {', '.join(blocks)} helps in {host}?",
        f"host: {{name: {host}, weights: {_quoted(weights)}}}" if weights else f"host: {host}",
        "design: add",
        *_recipe(host, weights),
    ]
    if stages:
        rows = [choice if stage in stages else "{}" for stage in range(1, count + 1)]
        return "\n".join([*lines, "stages:", *(f"  - {row}" for row in rows)]) + "\n"
    return "\n".join([*lines, "tied: true", f"stages: {choice}"]) + "\n"


def _recipe(host: str, weights: str) -> list[str]:
    """A host of photos is trained in batches of 32: 128 images of 224 pixels take several gigabytes in each worker.

    The rate falls with the batch; other hosts have the default recipe.
    """
    if Host(host).filled().stem == "cifar":
        return []
    start, lr = ("start: finetune, ", 0.005) if weights else ("", 0.025)
    return [f"recipe: {{{start}batch_size: 32, lr: {lr}}}"]


def _slot(blocks: Sequence[str]) -> str:
    """The slot that all of the blocks stand in."""
    slots: dict[str, str] = {}
    for block in blocks:
        info = registry.info(registry.expand(block)[0])
        if info.slot not in SLOTS:
            raise UsageError(
                f"--blocks: '{block}' stands in the {info.slot} slot; a space file can ask for it"
            )
        slots[info.slot] = block
    if len(slots) > 1:
        both = " and ".join(f"'{block}' in the {slot} slot" for slot, block in slots.items())
        raise UsageError(f"--blocks: {both} is two questions; ask one at a time, or in a space file")
    if not slots:
        raise UsageError("--blocks: name at least one block, as in --blocks se,cbam")
    return next(iter(slots))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


__all__ = ["written"]
