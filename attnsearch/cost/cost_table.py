"""The cost of every arch of a space before anything is trained: one count per site and option, summed.

A stage's cost depends on what stands in it alone, since every block keeps the shape of the map; so the cost of an arch
is that of stem and head plus that of each stage. The sums are checked against direct counts of whole networks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attnsearch.build.layers import Layer
from attnsearch.build.module_host import check_runs
from attnsearch.build.network import build_network
from attnsearch.build.parts import stages_of
from attnsearch.build.resnet import StageBuilder, stem_channels
from attnsearch.core.costs import LIMITED, Limit, within
from attnsearch.core.errors import CostError
from attnsearch.cost.measure import COMPUTED, explain_unknown, measure_made
from attnsearch.space.arch import Arch, Block, Host, Stage, plain
from attnsearch.space.space import Space

SMALL_MAP = 4  # places on a side, below which a spatial gate has nothing to weigh
CHECKED = 5  # archs counted directly to confirm the sums


class CostTable:
    """Costs of a space's archs on images of one shape.

    Args:
        space: its sites become the table's rows.
        image: (C, H, W).
        classes: outputs of the head.

    `additive` says whether the sums agreed with direct counts; where they do not, every arch is counted directly.
    """

    def __init__(self, space: Space, image: tuple[int, int, int], classes: int) -> None:
        self.space, self.image, self.classes = space, image, classes
        self.unknown: dict[str, int] = {}  # operations of the space that no rule covers
        if space.host.module:
            check_runs(space.host, image, classes)
        self.baseline = self.direct(space.baseline())
        plain_stages = plain(space.host)
        zero = self._vector(self.direct(plain_stages))
        own = [self._stage(i, Stage()) for i in range(len(plain_stages.stages))]
        self._rest = zero - sum(own)
        self._options = {
            site: np.stack([self._option(site, value) for value in options.values()])
            for site, options in space.sites.items()
        }
        self.additive = self._agrees()

    def direct(self, arch: Arch) -> dict[str, float]:
        """Counts of the whole network."""
        return self._measured(
            lambda: build_network(arch, classes=self.classes, in_channels=self.image[0]), self.image
        )

    def _measured(self, make: Callable[[], nn.Module], image: tuple[int, int, int]) -> dict[str, float]:
        cost = measure_made(make, image, computed=self.image[1] * self.image[2] <= COMPUTED)
        self.unknown |= cost.unknown
        return {name: float(getattr(cost, name)) for name in LIMITED}

    def of(self, arch: Arch, choice: Mapping[str, str] | None) -> dict[str, float]:
        """Costs of one arch, by its choice where it lies in the space."""
        if choice is None or not self.additive:
            return self.direct(arch)
        return dict(zip(LIMITED, self._sums(self._code(choice))[0].tolist(), strict=True))

    def column(self, codes: NDArray[np.int64], cost: str) -> NDArray[np.float64]:
        """One cost of many archs, (N,), given as option indices per site, (N, sites)."""
        if not self.additive:
            return np.array([self._counted(tuple(row))[LIMITED.index(cost)] for row in codes.tolist()])
        return self._sums(codes)[:, LIMITED.index(cost)]

    def allowed(self, codes: NDArray[np.int64], limits: Sequence[Limit]) -> NDArray[np.bool_]:
        """Which archs keep all limits."""
        keep = np.ones(len(codes), dtype=bool)
        for limit in limits:
            keep &= within(self.column(codes, limit.cost), self.bound(limit))
        return keep

    def broken(self, costs: Mapping[str, float], limits: Sequence[Limit]) -> list[Limit]:
        """The limits that these costs of one arch are over."""
        return [limit for limit in limits if not within(costs[limit.cost], self.bound(limit))]

    def bound(self, limit: Limit) -> float:
        """A limit as an absolute number; `CostError` where a part of that cost cannot be counted."""
        if self.unknown and limit.cost != "params":
            raise CostError(f"The budget {limit} cannot be held: {explain_unknown(self.unknown)}")
        return limit.value * self.baseline[limit.cost] if limit.relative else limit.value

    def range(self, cost: str) -> tuple[float, float]:
        """Least and greatest cost in the space; exact where the table is additive."""
        column = LIMITED.index(cost)
        low = self._rest[column] + sum(rows[:, column].min() for rows in self._options.values())
        high = self._rest[column] + sum(rows[:, column].max() for rows in self._options.values())
        return float(low), float(high)

    def codes(self, most: int) -> NDArray[np.int64]:
        """All archs as option indices, (N, sites), or `most` random ones where there are more."""
        sizes = [len(options) for options in self.space.sites.values()]
        if self.space.size() <= most:
            return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(
                -1, len(sizes)
            )
        chooser = np.random.default_rng(0)
        return np.stack([chooser.integers(0, size, most) for size in sizes], axis=1)

    def _sums(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        total = np.tile(self._rest, (len(codes), 1))
        for column, rows in enumerate(self._options.values()):
            total += rows[codes[:, column]]
        return total

    def _code(self, choice: Mapping[str, str]) -> NDArray[np.int64]:
        """One arch as option indices, (1, sites)."""
        return np.array([[list(options).index(choice[s]) for s, options in self.space.sites.items()]])

    def _counted(self, code: tuple[int, ...]) -> NDArray[np.float64]:
        choice = {
            site: list(options)[i] for (site, options), i in zip(self.space.sites.items(), code, strict=True)
        }
        return self._direct_cache(self.space.arch(choice))

    @cached_property
    def _direct_cache(self) -> Callable[[Arch], NDArray[np.float64]]:
        return cache(lambda arch: self._vector(self.direct(arch)))

    def _option(self, site: str, value: tuple[Stage, ...] | Block) -> NDArray[np.float64]:
        if isinstance(value, Block):
            return self._neck(value)
        first = 0 if site == "stages" else int(site.removeprefix("stage")) - 1
        total = np.zeros(len(LIMITED))
        for i, stage in enumerate(value):
            total += self._stage(first + i, stage)
        return total

    def _stage(self, index: int, stage: Stage) -> NDArray[np.float64]:
        """A stage with what stands in it: itself without a gate, plus the gate once for each unit that carries it."""
        host = self.space.host.filled()
        units = (host.units or ())[index]
        if not stage.attention or host.downsample != "conv":
            return self._layer(index, stage)
        bare = Stage(conv=stage.conv, convs=stage.convs)
        times = 1 if stage.position == "after_stage" else len(stage.indices(units))
        inner = stage.position == "after_conv"
        channels = host.conv_channels(index) if inner else host.channels(index)
        return self._layer(index, bare) + times * self._gate(index, channels, stage.attention, stage.init)

    @cached_property
    def _layer(self) -> Callable[[int, Stage], NDArray[np.float64]]:
        @cache
        def counted(index: int, stage: Stage) -> NDArray[np.float64]:
            host = self.space.host.filled()
            if host.module:
                return self._beyond_plain(index, stage)
            channels = stem_channels(host) if index == 0 else host.channels(index - 1)
            maker, units = StageBuilder(host, stage, index, None), (host.units or ())[index]
            shape = channels, *map_size(host, self.image, index - 1)
            return self._vector(self._measured(lambda: maker.stage(channels, units), shape))

        return counted

    @cached_property
    def _gate(self) -> Callable[[int, int, Block, str], NDArray[np.float64]]:
        @cache
        def counted(index: int, channels: int, block: Block, init: str) -> NDArray[np.float64]:
            host = self.space.host.filled()
            stage = Stage(attention=block, init=init)  # type: ignore[arg-type]
            maker = StageBuilder(host, stage, index, None)
            shape = channels, *map_size(host, self.image, index)
            return self._vector(self._measured(lambda: maker.gate(channels, ""), shape))

        return counted

    def _beyond_plain(self, index: int, stage: Stage) -> NDArray[np.float64]:
        """What a network costs more than the plain host with this in one stage alone."""
        bare = plain(self.space.host)
        stages = (*bare.stages[:index], stage, *bare.stages[index + 1 :])
        return self._more(Arch(bare.host, stages)) if stage != Stage() else np.zeros(len(LIMITED))

    def _neck(self, block: Block) -> NDArray[np.float64]:
        bare = plain(self.space.host)
        return self._more(Arch(bare.host, bare.stages, block)) if block else np.zeros(len(LIMITED))

    def _more(self, arch: Arch) -> NDArray[np.float64]:
        return self._vector(self.direct(arch)) - self._vector(self.direct(plain(self.space.host)))

    def _agrees(self) -> bool:
        """Whether the sums are the direct counts: exactly for params and MACs, whatever the arch."""
        for seed in range(CHECKED):
            chooser = random.Random(seed)
            choice = {site: chooser.choice(list(options)) for site, options in self.space.sites.items()}
            direct = self._vector(self.direct(self.space.arch(choice)))
            if not np.array_equal(self._sums(self._code(choice))[0], direct):
                return False
        return True

    @staticmethod
    def _vector(costs: Mapping[str, float]) -> NDArray[np.float64]:
        return np.array([costs[name] for name in LIMITED], dtype=np.float64)


def map_size(host: Host, image: tuple[int, int, int], stage: int) -> tuple[int, int]:
    """Height and width of the map that a stage (from 0; -1 is the stem) puts out."""
    if host.module:
        return _map_sizes(host, image)[stage]
    halvings = (0 if host.filled().stem == "cifar" else 2) + max(0, stage)
    height, width = image[1:]
    for _ in range(halvings):
        height, width = -(-height // 2), -(-width // 2)
    return height, width


@cache
def _map_sizes(host: Host, image: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    """Of each stage of a model of the user's own, as a pass shows them."""
    model = build_network(plain(host), classes=2, in_channels=image[0]).eval()
    sizes: dict[int, tuple[int, int]] = {}

    def keep(layer: Layer) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            sizes[layer.number] = tuple(out.shape[-2:])

        return hook

    for layer in stages_of(model):
        layer.units[-1].module.register_forward_hook(keep(layer))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model(torch.zeros(1, *image))
    return tuple(size for _, size in sorted(sizes.items()))


def small_map(host: Host, image: tuple[int, int, int]) -> str:
    """A warning where little is left for the last stage to look at, or an empty string."""
    height, width = map_size(host, image, len(host.filled().units or ()) - 1)
    if min(height, width) >= SMALL_MAP:
        return ""
    enough = SMALL_MAP * -(-image[1] // height)
    return (
        f"the last stage of {host.name} sees maps of {height}×{width} at images of {image[1]}×{image[2]}: gates there "
        f"have little to choose from; --image-size {enough} or a CIFAR stem gives {SMALL_MAP}×{SMALL_MAP}"
    )


__all__ = ["CostTable", "map_size", "small_map"]
