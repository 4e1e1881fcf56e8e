"""Ablations: the rows of a design over a space, with the controls that separate a gain from mere capacity.

null gate        the reference's gates replaced by the identity, at the same places: what the hook itself does
adapter          a narrow pair of pointwise convolutions, without any gating, at the same places and of the costliest
                 gate's MACs: what a few more trained parameters do. In place of the width-matched host where weights
                 are given, since nobody has weights of a wider one, or where the host is a model of the user's own
width-matched    the plain host, widened until it has the MACs of a variant: what the same price buys without a block
narrow host      the plain host with fewer channels: a harm that a study which finds nothing should have seen. Where
                 weights are given, or the host is a model of the user's own, it is the plain host trained on half
                 of the images, for as many steps
frozen gate      the reference's gates with their parameters left as drawn: what training them adds
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attnsearch.core.controls import HALF_IMAGES, NARROW
from attnsearch.core.costs import Limit
from attnsearch.core.errors import UsageError
from attnsearch.core.seeds import trial_seed
from attnsearch.core.settings import Settings
from attnsearch.core.study_attrs import DesignInfo
from attnsearch.cost.cost_table import CostTable
from attnsearch.sample import designs
from attnsearch.space.arch import CONV3X3, Arch, Block, Host, Stage, plain
from attnsearch.space.canonical import canonical
from attnsearch.space.space import Space
from attnsearch.store.study_store import StudyStore
from attnsearch.study.tasks import Costed, Task, counted

BLOCKS = 6  # seed blocks by default: the least with which a sign test could reach p < 0.05 (2 / 2^6 = 0.031)
MATCHES = 3  # width-matched hosts at most: one serves all variants within 5 % of its MACs
NEAR = 0.05


@dataclass(frozen=True)
class Variant:
    """One row of a design: its name, its arch, its options where it lies in the space, and which control it is."""

    name: str
    arch: Arch
    choice: Mapping[str, str] | None
    control: str = ""


class AblationSchedule:
    """Runs a design in whole seed blocks (one training of each variant a seed), in random order within each."""

    is_audit = False
    may_end_early = ""

    def __init__(
        self, space: Space, table: CostTable, store: StudyStore, settings: Settings, limits: Sequence[Limit]
    ) -> None:
        self.table, self.store, self.settings = table, store, settings
        self.kind = settings.design or space.design
        self.design, self.variants, self.left_out = laid_out(space, table, settings, limits)
        rows = len(self.variants) * len(self.design.blocks)
        self.total = min(rows, settings.trials or rows)

    @property
    def baseline(self) -> Arch:
        return self.variants[self.design.baseline].arch

    def next(self) -> Task | None:
        names = {variant.arch.key: name for name, variant in self.variants.items()}
        done = {(names[r.key], r.seed) for r in counted(self.store) if r.key in names}
        if len(done) >= self.total:
            return None
        order = self.design.order(done, seed=self.settings.seed)
        if not order:
            return None
        name, seed = order[0]
        variant = self.variants[name]
        return Task(variant.arch, seed, "design", protected=True, choice=variant.choice)

    def expected(self) -> list[Costed]:
        """The archs that are trained, each equally often, the baseline first, with their costs."""
        variants = sorted(self.variants.values(), key=lambda v: v.name != self.design.baseline)
        return [(v.arch, self.table.of(v.arch, v.choice)) for v in variants]

    @property
    def ended(self) -> str:
        whole = f"{len(self.variants)} variants x {len(self.design.blocks)} seed blocks"
        done = len(counted(self.store))
        return f"all {self.total} trials of {whole} are done" if done >= self.total else ""

    def info(self) -> DesignInfo:
        """What the study keeps of the design, for its report."""
        return DesignInfo(
            kind=self.kind,
            variants={variant.arch.key: name for name, variant in self.variants.items()},
            controls={v.arch.key: v.control for v in self.variants.values() if v.control},
            seeds=len(self.design.blocks),
            aliases=self.design.aliases,
        )


def laid_out(
    space: Space, table: CostTable, settings: Settings, limits: Sequence[Limit] = ()
) -> tuple[designs.Design, dict[str, Variant], list[str]]:
    """The design that is asked for with its controls, its variants by name, and the names that limits leave out.

    Raises:
        UsageError: the design cannot do without a variant that is over a limit.
    """
    blocks = [trial_seed(settings.seed, repeat) for repeat in range(settings.seeds or BLOCKS)]
    design = plan_design(space, settings.design or space.design, settings.reference, blocks)
    variants = {name: Variant(name, space.arch(choice), choice) for name, choice in design.variants.items()}
    over = _over(variants.values(), table, limits)
    _check_left_out(design, over)
    variants = {name: variant for name, variant in variants.items() if name not in over}
    design = replace(design, variants={name: design.variants[name] for name in variants})
    requested = [] if settings.controls == "none" else settings.controls.split(",")
    if not can_be_resized(space):
        requested = ["adapter" if word == "width" else word for word in requested]
    further = controls(list(variants.values()), design.baseline, requested, table)
    over |= _over(further, table, limits)
    variants |= {variant.name: variant for variant in further if variant.name not in over}
    return design.with_controls(*(v.name for v in variants.values() if v.control)), variants, list(over)


def _over(variants: Iterable[Variant], table: CostTable, limits: Sequence[Limit]) -> dict[str, str]:
    """By name, how the variants that are over a limit break it."""
    reasons = {}
    for variant in variants:
        costs = table.of(variant.arch, variant.choice)
        for limit in table.broken(costs, limits):
            reasons[variant.name] = (
                f"'{variant.name}' costs {costs[limit.cost]:,.0f} {limit.cost}, over {limit}"
            )
    return reasons


def _check_left_out(design: designs.Design, over: Mapping[str, str]) -> None:
    """Refuse to leave out what all others are compared with, a combination of a factorial, or all but one variant."""
    if design.baseline in over:
        raise UsageError(
            f"--design {design.kind} compares with what a limit refuses: {over[design.baseline]}"
        )
    if over and design.kind == "factorial":
        raise UsageError(f"a factorial needs all its combinations: {next(iter(over.values()))}")
    if over and len(over) == len(design.variants) - 1:
        raise UsageError(f"no variant of the design keeps the limits: {next(iter(over.values()))}")


def plan_design(space: Space, kind: str, reference: str | None, blocks: Sequence[int]) -> designs.Design:
    """The design of that kind over a space's sites.

    Args:
        reference: option that every site takes in the reference (a site without it keeps the baseline's), or one for
            each site with bars between, as archs are printed; each site's first other option when None.
    """
    sites = {site: list(options) for site, options in space.sites.items()}
    baseline = space.choice(space.baseline())
    if baseline is None:
        raise UsageError("a design needs a baseline within the space: let every site offer `none`")
    if kind == "named":
        if not space.variants:
            raise UsageError("--design named needs a space with `variants: {name: option | option, ...}`")
        chosen = {name: {**baseline, **space.named(text)} for name, text in space.variants.items()}
        return designs.named(sites, chosen, baseline=baseline, seeds=blocks)
    if kind == "swap":
        return _renamed(_swap(sites, baseline, blocks), "none", "plain")
    full = {**baseline, **_reference(space, baseline, reference)}
    if kind == "loo":
        return designs.loo(sites, baseline=baseline, reference=full, seeds=blocks)
    if kind == "factorial":
        return designs.factorial(sites, baseline=baseline, reference=full, seeds=blocks)
    return designs.add(sites, baseline=baseline, reference=None if reference is None else full, seeds=blocks)


def _reference(space: Space, baseline: Mapping[str, str], text: str | None) -> Mapping[str, str]:
    """Options of the reference by site, of those sites that it changes or names."""
    if text is not None:
        return space.named(text)
    first = {
        site: next((o for o in options if o != baseline[site]), "") for site, options in space.sites.items()
    }
    return {site: option for site, option in first.items() if option}


def _swap(
    sites: Mapping[str, Sequence[str]], baseline: Mapping[str, str], blocks: Sequence[int]
) -> designs.Design:
    """Every option at once in all sites that offer it: `swap` over a space whose stages are one site."""
    if len(sites) == 1:
        return designs.swap(sites, next(iter(sites)), baseline=baseline, seeds=blocks)
    shared = [o for o in next(iter(sites.values())) if all(o in options for options in sites.values())]
    together = {"every site": shared}
    drawn = designs.swap(
        together, "every site", baseline={"every site": next(iter(baseline.values()))}, seeds=blocks
    )
    variants = {name: dict.fromkeys(sites, row["every site"]) for name, row in drawn.variants.items()}
    return replace(drawn, variants=variants)


def _renamed(design: designs.Design, name: str, other: str) -> designs.Design:
    """The design with one variant called otherwise: the host with `none` everywhere is the plain one."""
    variants = {other if key == name else key: row for key, row in design.variants.items()}
    return replace(design, variants=variants, baseline=other if design.baseline == name else design.baseline)


def controls(
    variants: Sequence[Variant], baseline: str, requested: Sequence[str], table: CostTable
) -> list[Variant]:
    """The control variants asked for; see this file's head for what each answers."""
    rivals = [variant for variant in variants if variant.name != baseline]
    made: list[Variant] = []
    gated = [variant for variant in rivals if any(stage.attention for stage in variant.arch.stages)]
    most = max(gated, key=lambda v: sum(bool(stage.attention) for stage in v.arch.stages), default=None)
    if most is not None and "null" in requested:
        made.append(Variant("null gate", controlled(most.arch, "null"), None, "null gate"))
    if most is not None and "frozen" in requested:
        made.append(Variant(f"frozen {most.name}", controlled(most.arch, "frozen"), None, "frozen gate"))
    if most is not None and "adapter" in requested:
        costliest = max(gated, key=lambda v: table.of(v.arch, v.choice)["macs"])
        made.append(Variant("adapter", adapted(costliest.arch, table), None, "adapter"))
    if "narrow" in requested:
        made.append(_positive_variant(table.space))
    if "width" in requested:
        made += _width_matched(rivals, table)
    return made


def can_be_resized(space: Space) -> bool:
    """Whether the host may have more or fewer channels: not a model of the user's own, nor one of given weights."""
    return not (space.weights or space.host.module)


def positive(space: Space) -> str:
    """Which of `core.controls.POSITIVE` the positive control of a space is."""
    return NARROW if can_be_resized(space) else HALF_IMAGES


def positive_control(space: Space) -> Arch:
    """The plain host with fewer channels or, where it cannot have fewer, on half of the images."""
    return narrowed(space) if can_be_resized(space) else replace(plain(space.host), images="half")


def _positive_variant(space: Space) -> Variant:
    arch = positive_control(space)
    words = f"widths {'-'.join(map(str, arch.host.widths or ()))}" if arch.images == "all" else HALF_IMAGES
    return Variant(f"plain, {words}", arch, None, positive(space))


def narrowed(space: Space) -> Arch:
    """The narrow host: the plain host at the space's control widths, half of each stage's where it names none."""
    host = space.host.filled()
    half = tuple(max(1, host.planes(i) // 2) for i in range(len(host.units or ())))
    return plain(replace(host, widths=space.control_widths or half))


def controlled(arch: Arch, control: str) -> Arch:
    """The arch with every gate replaced by the identity (`null`) or left untrained (`frozen`)."""
    stages = tuple(replace(s, control=control) if s.attention else s for s in arch.stages)  # type: ignore[arg-type]
    return canonical(replace(arch, stages=stages))


def adapted(arch: Arch, table: CostTable) -> Arch:
    """The arch with an adapter in every gate's place, of the width whose MACs come nearest to those of the gate."""
    bare = plain(arch.host)
    zero = table.direct(bare)["macs"]
    stages = []
    for i, stage in enumerate(arch.stages):
        if not stage.attention:
            stages.append(stage)
            continue

        def macs(block: Block, i: int = i, stage: Stage = stage) -> float:
            alone = replace(stage, attention=block, conv=CONV3X3)
            return (
                table.direct(Arch(bare.host, (*bare.stages[:i], alone, *bare.stages[i + 1 :])))["macs"] - zero
            )

        hidden = max(1, round(macs(stage.attention) / macs(Block.of("adapter", hidden=1))))
        stages.append(replace(stage, attention=Block.of("adapter", hidden=hidden), init="default"))
    return canonical(replace(arch, stages=tuple(stages)))


def _width_matched(rivals: Sequence[Variant], table: CostTable) -> list[Variant]:
    """Plain hosts at the MACs of the variants; one serves all that lie near it, none where the host itself does."""
    base = table.baseline["macs"]
    served: list[float] = []
    made: list[Variant] = []
    macs = sorted({table.of(v.arch, v.choice)["macs"] for v in rivals}, reverse=True)
    for target in macs:
        if any(abs(target / other - 1) < NEAR for other in served) or len(made) == MATCHES:
            continue
        served.append(target)
        if target > base:
            host = widened(table.space.host, target, table)
            if host != table.space.host.filled():
                arch = plain(host)
                made.append(
                    Variant(
                        f"plain, widths {'-'.join(map(str, host.widths or ()))}", arch, None, "width-matched"
                    )
                )
    return made


def widened(host: Host, macs: float, table: CostTable) -> Host:
    """The host with every stage wider by one factor, rounded to channels, whose MACs come nearest to `macs`."""
    host = host.filled()
    own = [host.planes(i) for i in range(len(host.units or ()))]

    def scaled(factor: float) -> tuple[Host, float]:
        wide = replace(host, widths=tuple(round(width * factor) for width in own))
        wide = host if wide.widths == tuple(own) else wide
        return wide, table.direct(plain(wide))["macs"]

    low, high = 1.0, 2.0
    while scaled(high)[1] < macs:
        high *= 2
    for _ in range(12):  # MACs grow with the factor; 2^-12 is finer than one channel of any stage
        middle = (low + high) / 2
        low, high = (middle, high) if scaled(middle)[1] < macs else (low, middle)
    return min((scaled(low), scaled(high)), key=lambda pair: abs(pair[1] - macs))[0]


__all__ = ["BLOCKS", "AblationSchedule", "Variant", "controlled", "controls", "plan_design", "widened"]
