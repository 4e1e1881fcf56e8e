"""A block under check: how it is built at a width, the maps it takes, and how a property of it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attnsearch.blocks.registry import Slot
from attnsearch.core.errors import AttnsearchError

NO_SHAPE: Mapping[str, int] = {}


@dataclass(frozen=True)
class Subject:
    """The block under check: how to build it at a width, and the maps it takes."""

    slot: Slot
    channels: int
    make: Callable[..., nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)

    def block(
        self, *, channels: int | None = None, stirred: bool = True, shape: Mapping[str, int] = NO_SHAPE
    ) -> nn.Module:
        """Built from one seed; stirred: moved off its start, where a zero scale may hide a fault."""
        width: Any = (
            self.widths(channels or self.channels) if self.slot == "neck" else channels or self.channels
        )
        torch.manual_seed(0)
        model = self.make(width, **shape, **self.options)
        with torch.no_grad():
            for parameter in model.parameters() if stirred else ():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        return model

    def maps(self, batch: int, height: int, width: int, *, seed: int = 1) -> list[Tensor]:
        """One map, or for a neck three, shallow to deep, of which the deepest is height x width."""
        shapes = [(batch, self.channels, height, width)]
        if self.slot == "neck":
            deep = zip(self.widths(self.channels), (4, 2, 1), strict=True)
            shapes = [(batch, c, times * height, times * width) for c, times in deep]
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(shape, generator=generator) for shape in shapes]

    def arguments(self, maps: list[Tensor]) -> tuple[Any, ...]:
        return (maps,) if self.slot == "neck" else tuple(maps)

    def run(self, model: nn.Module, maps: list[Tensor]) -> Tensor:
        return model(*self.arguments(maps))  # type: ignore[no-any-return]

    @staticmethod
    def widths(channels: int) -> list[int]:
        return [channels // 4, channels // 2, channels]


class Failed(Exception):  # a verdict, not an error of the program
    """The property does not hold."""


class Skipped(Exception):
    """The property cannot be tried here."""


def in_one_line(error: Exception) -> str:
    """What an exception says, with its kind where it is none of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else "no message"
    return message if isinstance(error, AttnsearchError) else f"{type(error).__name__}: {message}"
