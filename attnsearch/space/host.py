"""The host (backbone) that carries the blocks: which ResNet, how wide and deep, or a model of the user's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from attnsearch.core.errors import UsageError, unknown

# Beyond them a number is a slip, and building the network would take all memory before anybody sees why.
MOST_CHANNELS, MOST_UNITS = 65_536, 2_000  # of a stage, of a network (ResNet-1202 has 600)

_NARROWEST_STEM = {"deep": 2, "tiered": 8}  # else one of its convolutions has no channel

_IMAGENET_UNITS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
# He et al. 2015, section 4.2.
_CIFAR_UNITS = {f"resnet{6 * n + 2}": (n, n, n) for n in (1, 2, 3, 5, 7, 9, 18)}
HOSTS = {**_CIFAR_UNITS, **_IMAGENET_UNITS}


@dataclass(frozen=True)
class Host:
    """A ResNet before anything is put in: stem, stages of residual units, head.

    Args:
        name: resnet8/14/20/32/44/56/110 (CIFAR, 3 stages) or resnet18/34/50/101/152 (ImageNet, 4 stages).
        width: channels of the first stage's units before expansion; 16 (CIFAR) or 64 (ImageNet) when None.
        stem: `cifar` 3x3, `imagenet` 7x7/2 and max-pool, `deep` and `tiered` three 3x3 and max-pool; the family's
            own when None.
        stem_width: channels that the stem puts out (the first two convolutions have half of them in a deep stem,
            three eighths and half in a tiered one, as timm's resnet50t); the width of the first stage when None.
        widths: width of each stage, where they do not double from `width`.
        units: units per stage, where they differ from the name's.
        unit: `basic`, `bottleneck`, or `single` (article 000: one convolution, activation before the gate);
            the name's own when None.
        expansion: output channels of a bottleneck over its width (4; EPSANet Large 2); 1 elsewhere.
        shortcut: how a shortcut changes the shape: `conv` 1x1 with stride, `pool` average pool then 1x1 (ResNet-D),
            `pad` every second pixel and zero channels on both sides (He et al. 2015, option A; public CIFAR weights).
        shortcut_bias: whether the shortcut's convolution has a bias, which the norm behind it takes out again
            (leaderj1001's BoTNet has one, so its weights need it).
        downsample: how the branch of a bottleneck or single unit strides: `conv` in the 3x3 slot, `pool` average pool
            after it (ResNeSt's avd), `pool_first` before it.
        base_width, cardinality: width of a bottleneck's 3x3 = int(planes * base_width / 64) * cardinality.
        module, make, sha256: of a model of the user's own: the name of its file, the function that makes it, and the
            file's fingerprint (see `module_file`). Its units, widths and `inner` are read from it, the rest has no use.
        inner: channels behind conv2 in each stage of such a model.
    """

    name: str = "resnet20"
    width: int | None = None
    stem: Literal["cifar", "imagenet", "deep", "tiered"] | None = None
    stem_width: int | None = None
    widths: tuple[int, ...] | None = None
    units: tuple[int, ...] | None = None
    unit: Literal["basic", "bottleneck", "single"] | None = None
    expansion: int | None = None
    shortcut: Literal["conv", "pool", "pad"] = "conv"
    shortcut_bias: bool = False
    downsample: Literal["conv", "pool", "pool_first"] = "conv"
    base_width: int = 64
    cardinality: int = 1
    module: str = ""
    make: str = ""
    sha256: str = ""
    inner: tuple[int, ...] | None = None

    def filled(self) -> Host:
        """The same host with every None worked out and what has no effect at its default.

        Raises `UsageError` for an unknown name, a width that does not fit the unit, or too few or too many widths.
        """
        if self.module:
            if len({len(per or ()) for per in (self.units, self.widths, self.inner)} | {0}) != 2:
                raise UsageError(
                    f"host: what was read from {self.module} is incomplete; write {{module: {self.module}, make: "
                    f"{self.make or '...'}}} alone"
                )
            return self
        if self.name not in HOSTS:
            raise UsageError(unknown("host", self.name, HOSTS))
        cifar = self.name in _CIFAR_UNITS
        deep = self.name in ("resnet50", "resnet101", "resnet152")
        unit = self.unit or ("bottleneck" if deep else "basic")
        wide = unit == "bottleneck"
        units = tuple(self.units or HOSTS[self.name])
        if self.widths is not None and len(self.widths) != len(units):
            raise UsageError(f"widths are one for each of {len(units)} stages, got {len(self.widths)}")
        if sum(units) > MOST_UNITS:
            raise UsageError(f"at most {MOST_UNITS:,} units in all, got {sum(units):,}")
        width, expansion = self.width or (16 if cifar else 64), self.expansion or (4 if wide else 1)
        widest = max(self.widths or (width << (len(units) - 1),)) * max(
            expansion, self.base_width * self.cardinality // 64
        )
        if max(widest, self.stem_width or 0) > MOST_CHANNELS:
            raise UsageError(
                f"at most {MOST_CHANNELS:,} channels in a stage, got {max(widest, self.stem_width or 0):,}"
            )
        narrowest, stem_width = _NARROWEST_STEM.get(self.stem or "", 1), self.stem_width or width
        if stem_width < narrowest:
            raise UsageError(f"a {self.stem} stem puts out at least {narrowest} channels, got {stem_width}")
        if not wide and expansion != 1:
            raise UsageError(f"expansion is of bottleneck units; {unit} units put out their width")
        if wide and width * self.base_width < 64:
            raise UsageError(f"base_width={self.base_width} leaves no channel of width {width}")
        return replace(
            self,
            width=width,
            stem=self.stem or ("cifar" if cifar else "imagenet"),
            stem_width=None if self.stem_width == width else self.stem_width,
            units=units,
            unit=unit,
            expansion=expansion,
            shortcut_bias=self.shortcut_bias and self.shortcut != "pad",
            downsample="conv" if unit == "basic" else self.downsample,
            base_width=self.base_width if wide else 64,
            cardinality=self.cardinality if wide else 1,
        )

    def planes(self, stage: int) -> int:
        """Width of the units of a stage (from 0), before expansion."""
        return self.widths[stage] if self.widths else int(self.filled().width or 0) << stage

    def channels(self, stage: int) -> int:
        """Channels that a stage (from 0) puts out."""
        return self.planes(stage) * int(self.filled().expansion or 1)

    def conv_channels(self, stage: int) -> int:
        """Channels of what stands in a stage's conv slot."""
        host = self.filled()
        if host.inner:
            return host.inner[stage]
        if host.unit != "bottleneck":
            return host.planes(stage)
        return int(host.planes(stage) * host.base_width / 64) * int(host.cardinality)
