"""Sentences and tiles of a design: what is known of each variant, how surely, at what price, what more would take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from attnsearch.core.text import many
from attnsearch.report.archs import cost_name
from attnsearch.report.design_verdicts import Judged
from attnsearch.report.formatting import Card, number
from attnsearch.report.verdict_table import PRICES
from attnsearch.report.verdict_words import NO_VERDICT, WORDS, blocks_wanted, outcome, wanted, word
from attnsearch.statistics import Verdict
from attnsearch.statistics.power import ALPHA

if TYPE_CHECKING:
    from attnsearch.report.tables import Report

NAMED = 3  # names in a sentence before it only counts
LINES = 12  # variants that get a sentence; the table has all
ALL = 100  # points; no accuracy rises by more
UNEQUAL = 0.05  # p of equal noise from which unequal noise is pointed out

# What each design leaves open by its nature.
_UNTOUCHED = {
    "loo": "several sites taken away at once, and any other reference",
    "add": "several sites changed at once, which may add up or cancel",
    "swap": "where an option should stand, as every site has the same one",
    "factorial": "any third option of a site",
    "named": "any architecture that is not named",
}

_CONTROLS = {
    "null gate": (
        "a control: gates in the same places that pass everything on unchanged; it differs from the baseline only "
        "where the hook itself does something"
    ),
    "width-matched": (
        "a control: the plain host made wider until it has a variant's MACs; what the same price buys without a block"
    ),
    "adapter": (
        "a control: two narrow pointwise convolutions in the same places, without any gating, at the MACs of the "
        "costliest gate; what a few more trained parameters do"
    ),
    "narrow host": "the positive control: the plain host with fewer channels, a harm that the study should see",
    "half of the images": (
        "the positive control: the plain host trained on half of the images for as many steps, a harm that the study "
        "should see"
    ),
    "frozen gate": "a control: the same gates with their parameters left as drawn; what training them adds",
}


def lines(report: Report, judged: Judged) -> list[str]:
    """The tally, one sentence per variant and control, and what it takes to know more."""
    analysis = judged.analysis
    listed = judged.variants[:LINES]
    sentences = [
        f"Compared with {analysis.baseline} on {many(analysis.blocks, 'seed')}, in percentage points of "
        f"{report.info.metric.title} with simultaneous 95 % CIs: {tally(judged)}."
    ]
    sentences += [_line(report, judged, verdict) for verdict in listed]
    if len(judged.variants) > len(listed):
        sentences.append(f"{len(judged.variants) - len(listed)} more in the table.")
    sentences += [f"Control, {_line(report, judged, verdict)}" for verdict in judged.controls]
    return [
        main_effects(judged),
        *sentences,
        inflated(judged),
        outlook(report, judged),
        untouched(report),
    ]


def main_effects(judged: Judged) -> str:
    """What a factorial design is run for, its significant effects first; empty for other designs."""
    mains = [effect for effect in judged.effects if " x " not in effect.name]
    if not mains:
        return ""
    mains.sort(key=lambda effect: effect.p_holm)
    listed = [
        f"{effect.name} {number(effect.estimate, 2, True)} ({number(effect.interval[0], 2, True)} to "
        f"{number(effect.interval[1], 2, True)}, p {effect.p_holm:.3f})"
        for effect in mains
    ]
    clear = sum(effect.p_holm <= ALPHA for effect in mains)
    return (
        f"Main effects, each over all settings of the other sites, in points with 95 % intervals and p by Holm: "
        f"{', '.join(listed)}; {clear} of {len(mains)} significant at 5 %."
    )


def tally(judged: Judged) -> str:
    """`gain 1, harm 0, equivalent 0, no evidence 3`; controls are not counted."""
    outcomes = [word(judged.analysis, verdict) for verdict in judged.variants]
    rare = ("identical", NO_VERDICT)
    return ", ".join(
        f"{name} {outcomes.count(name)}" for name in WORDS if name not in rare or name in outcomes
    )


def called(report: Report, judged: Judged, variant: str) -> str:
    """`A3 (cbam r4 | · | se)`, or the name of a control or a reference behind its number."""
    return report.called(replace(judged.rows[variant], name=variant))


def _line(report: Report, judged: Judged, verdict: Verdict) -> str:
    low, high = verdict.simultaneous
    known = math.isfinite(low) and math.isfinite(high)
    interval = f" ({number(low, 2, True)} to {number(high, 2, True)})" if known else ""
    parts = [f"{number(verdict.estimate, 2, True)} pp{interval} on {many(verdict.n, 'seed')}"]
    if verdict.outcome == "no evidence" and math.isfinite(verdict.mde):
        parts.append(
            f"minimum detectable effect {verdict.mde:.2f} pp"
            if verdict.mde < ALL
            else f"with {many(verdict.n, 'seed')} no possible effect is detectable"
        )
    parts += _beside(judged, verdict)
    if price := _price(judged, verdict, report.cost):
        parts.append(price)
    return (
        f"{called(report, judged, verdict.variant)}: {outcome(judged.analysis, verdict)}; {'; '.join(parts)}."
    )


def _beside(judged: Judged, verdict: Verdict) -> list[str]:
    """The differences from a variant's own controls; of a width-matched host, whose it is."""
    parts = []
    pairs = (
        ("the wider baseline of equal MACs", judged.over_matched(verdict)),
        ("its frozen block", judged.over_frozen(verdict)),
    )
    for name, over in pairs:
        if over is not None:
            known = over.low is not None and over.high is not None
            ends = f"{number(over.low or 0, 2, True)} to {number(over.high or 0, 2, True)}"
            interval = f"{ends}, unadjusted 95 % CI" if known else "noise not known"
            parts.append(f"vs {name} {number(over.mean, 2, True)} ({interval})")
    served = [variant for variant, host in judged.matched.items() if host == verdict.variant]
    if served:
        of = ", ".join(served) if len(served) <= NAMED else many(len(served), "variant")
        parts.append(f"has the MACs, within 5 %, of {of}")
    return parts


def _price(judged: Judged, verdict: Verdict, cost: str) -> str:
    """The cost over the baseline's, and the costliest of the counted ones where that is another."""
    prices = judged.prices(verdict)
    counted = [name for name in dict.fromkeys((cost, "macs", *PRICES)) if name in prices]
    if not counted:
        return ""
    costliest = max(counted, key=lambda name: prices[name])
    ratio = f"{prices[cost]:.3f} x the {cost_name(cost)}" if cost in prices else ""
    if costliest == cost or f"{prices[costliest]:.3f}" == f"{prices.get(cost, 0):.3f}":
        return ratio
    most = f"at most {prices[costliest]:.3f} x, in {cost_name(costliest)}"
    return f"{ratio}, {most}" if ratio else most


def outlook(report: Report, judged: Judged) -> str:
    """What the table says would decide, in hours, for the variant that takes the fewest seed blocks."""
    from statistics import median

    analysis = judged.analysis
    open_ones = [v for v in judged.variants if v.outcome == "no evidence"]
    counts = [(count, v) for v in open_ones if (count := blocks_wanted(analysis, v)) is not None]
    if not counts or analysis.blocks < 2:
        return ""
    needed, nearest = min(counts, key=lambda pair: pair[0])
    if needed <= analysis.blocks:
        return ""
    seconds = median(trial.seconds for trial in report.record.trials if trial.state == "complete")
    trainings = (needed - analysis.blocks) * (len(analysis.verdicts) + 1)
    effect = (
        f"the margin of {nearest.margin:.2f} points" if nearest.margin else f"{wanted(nearest):.2f} points"
    )
    truth = "" if nearest.margin else ", assuming the observed effect is true"
    return (
        f"Closest to a decision: {called(report, judged, nearest.variant)}. "
        f"Detecting {effect}{truth} takes {needed:,} seeds in total, "
        f"{trainings:,} more runs or about {_hours(trainings * seconds)} of one worker: the same command with "
        f"`--seeds {needed} --resume`."
    )


def inflated(judged: Judged) -> str:
    """Where a difference found is smaller than what the design finds reliably: luck helped to find it."""
    small = [
        f"{v.variant} ({number(v.estimate, 2, True)} points)"
        for v in judged.variants
        if v.outcome in ("gain", "harm") and abs(v.estimate) < v.mde
    ]
    if not small:
        return ""
    return (
        f"Below the minimum detectable effect, so likely overestimated: {', '.join(small[:LINES])}. "
        "Of effects so small only overestimates reach significance."
    )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{max(1, round(seconds / 60))} minutes"


def untouched(report: Report) -> str:
    """What of the question the design does not ask: combinations by its nature, options that no variant has."""
    sites = report.info.space.sites
    kind = report.info.design_kind
    tried: dict[str, set[str]] = {}
    for trial in report.record.trials:
        for site, option in trial.sites.items():
            tried.setdefault(site, set()).add(option)
    left = {
        site: (len(set(options) - tried[site]), len(options))
        for site, options in sites.items()
        if site in tried
    }
    if len(set(left.values())) == 1:  # one number says it for all sites
        left = {"each site": next(iter(left.values()))}
    never = [f"{few:,} of the {all_:,} options of {site}" for site, (few, all_) in left.items() if few]
    parts = (*filter(None, [_UNTOUCHED.get(kind, "")]), *never)
    left_out = f" Not asked by this design: {'; '.join(parts)}." if parts else ""
    return _asked(report, tried) + left_out


def _asked(report: Report, tried: Mapping[str, set[str]]) -> str:
    """Which options stood where, and that nothing was compared but each with the baseline."""
    plain = report.baseline
    own = plain.sites if plain else {}
    options = list(
        dict.fromkeys(o for site, held in tried.items() for o in sorted(held) if o != own.get(site))
    )
    sites = [site for site, held in tried.items() if held - {own.get(site)}]
    what = ", ".join(options) if len(options) <= NAMED else many(len(options), "option")
    asked = f"Of the question this design tried {what} in {', '.join(sites)}. " if options else ""
    return (
        f"{asked}Each variant was compared with the baseline, not with each other: a gain "
        "beside `no evidence` is no significant difference between the two."
    )


def warnings(judged: Judged) -> list[str]:
    """Where the noise of the variants differs so that one pooled sd does not fit all."""
    analysis = judged.analysis
    noisy = [note for note in analysis.notes if "times as noisy" in note]
    p = analysis.p_equal_noise
    if p is None or p > UNEQUAL:
        tested = "too few seeds to test it" if p is None else f"p of equal noise {p:.2f}"
        return [f"{note} It may be chance ({tested})." for note in noisy]
    if noisy:
        return noisy
    return [
        f"Seeds scatter some variants more than others: the largest residual sd is {analysis.sd_ratio:.1f} times the "
        f"smallest (Brown and Forsythe's p {p:.3f}). One sd for all makes the intervals of the "
        "noisy ones too narrow."
    ]


def cards(report: Report, judged: Judged) -> list[Card]:
    """The verdicts, the highest estimate among the variants, what could be seen, and the design's size."""
    analysis, variants = judged.analysis, judged.variants
    controls = f"; {many(len(judged.controls), 'control')} in the table" if judged.controls else ""
    against = f"{many(len(variants), 'variant')} against {analysis.baseline}{controls}"
    visible = [verdict.mde for verdict in variants if math.isfinite(verdict.mde)]
    seen = f"{max(visible):.2f} points" if visible else "not known"
    noise = (
        f"residual standard deviation {analysis.sd:.2f} pp"
        if math.isfinite(analysis.sd)
        else "noise not known"
    )
    return [
        Card("verdicts", tally(judged), against, wide=True),
        *_top(report, judged, variants),
        Card("minimum detectable effect", seen, "true effects of this size are found with 80 % power"),
        Card("seeds", str(analysis.blocks), f"every variant trained once on each; {noise}"),
    ]


def _top(report: Report, judged: Judged, variants: Sequence[Verdict]) -> list[Card]:
    if not variants:
        return []
    top = variants[0]
    low, high = top.simultaneous
    interval = f"{number(low, 2, True)} to {number(high, 2, True)}" if math.isfinite(low) else "no interval"
    price = _price(judged, top, report.cost)
    cost_said = f"; {price}" if price else ""
    return [
        Card(
            "largest estimated gain over the baseline",
            f"{number(top.estimate, 2, True)} points",
            f"{called(report, judged, top.variant)}: {outcome(judged.analysis, top)}{cost_said}",
        ),
        Card("its simultaneous 95 % CI", interval, "holds for all variants and controls together"),
    ]


def _shared(report: Report) -> str:
    split = report.info.recipe.resplit
    own = "; every block has its own split into training and validation images" if split else ""
    return (
        "layers that they share begin alike, and the images come in the same order with the same augmentation"
        + own
    )


def words(report: Report, judged: Judged) -> list[tuple[str, str]]:
    """What only the page of a design has to explain, with this study's own names."""
    sites = ", ".join(report.info.space.sites.keys())
    host = report.info.space.host or "the network"
    present = {row.control for row in judged.rows.values() if row.control}
    return [
        ("backbone", f"the network that blocks are inserted into, here {host}"),
        (
            "stage",
            f"a place in the backbone where one of several options stands{f', here {sites}' if sites else ''}",
        ),
        (
            "variant",
            f"one architecture of the ablation, named by what it changes; the baseline is {judged.analysis.baseline}",
        ),
        ("seed", f"every variant is trained once on each seed; of one seed: {_shared(report)}"),
        (
            "residual standard deviation",
            "scatter of runs of one variant once the means of variants and seeds are removed",
        ),
        (
            "simultaneous interval",
            "of 100 studies, 95 have all of their intervals right at once (Dunnett)",
        ),
        (
            "minimum detectable effect",
            "a true difference so large is found in 4 of 5 studies of this size and noise (80 % power); smaller ones "
            "are missed more often",
        ),
        (
            "margin",
            "the difference below which you said that it would not matter (`--margin`); without one nothing can be "
            "called equivalent",
        ),
        *((name, meaning) for name, meaning in _CONTROLS.items() if name in present),
    ]
