"""The facts of the first screen as cards: which block, where, at what cost, how sure, on what."""

from __future__ import annotations

from attnsearch.core.estimate import Estimate
from attnsearch.core.text import many
from attnsearch.report import design, finalists, provenance, sentences
from attnsearch.report.archs import cost_name
from attnsearch.report.design_verdicts import Judged
from attnsearch.report.formatting import Card, number, probability, quantity
from attnsearch.report.tables import Report
from attnsearch.statistics.front import ArchResult


def cards(report: Report) -> tuple[Card, ...]:
    """The first screen: which block, where, what cost, how sure, against what, how long a proxy."""
    if report.withheld:  # no architecture is named
        return (_proxy_card(report), _setting_card(report))
    if isinstance(report.judged, Judged):
        return (*design.cards(report, report.judged), _proxy_card(report), _setting_card(report))
    row = sentences.chosen(report)
    return (*(_arch_cards(report, row) if row else ()), _proxy_card(report), _setting_card(report))


def _arch_cards(report: Report, row: ArchResult) -> list[Card]:
    given, plain = row.difference, report.baseline
    if given is None or plain is None:
        over = Card("difference from the baseline", "not known", "no seed shared with a finished baseline")
    else:
        interval = "one shared seed: no interval"
        if given.low is not None and given.high is not None:
            interval = f"95 % CI {number(given.low, 2, True)} to {number(given.high, 2, True)}"
        final = (
            "Exploratory, no verdict."
            if report.final is None
            else f"Verdict: {finalists.headline(report.final).outcome}."
        )
        detail = f"{interval}; {many(given.n, 'seed')} shared with {plain.label}. {final}"
        over = Card("difference from the baseline", f"{number(given.mean, 2, True)} pp", detail)
    p = row.p_front
    sure = "P(front) not known" if p is None else f"P(front) {probability(p)}"
    apart = "" if report.final is None else ". The verdict compares with the baseline alone."
    ratio = "" if row.ratio is None else f"{100 * (row.ratio - 1):+.1f} % against the baseline"
    name = sentences.compared_with(report, row) if report.final is None else "architecture of the verdict"
    price = f"{quantity(row.costs[0])} {cost_name(report.cost)}"
    detail = f"in {report.info.space.host or 'the host'}; A{row.number} in tables and plots"
    return [
        Card(name, str(report.strip(row)), detail, report.strip(row), wide=True),
        Card(
            f"validation {report.info.metric.error}",
            sentences.estimate(row.error),
            sentences.which_seeds(row) + _interval_note(row.error),
        ),
        Card("cost", price, ratio),
        over,
        Card("on the Pareto front?", str(row.status), f"{sure}: {row.status.meaning}{apart}"),
    ]


def _interval_note(error: Estimate) -> str:
    """What stands behind the error: nothing, half of its interval, or both ends of it."""
    if error.half is None:
        return ""
    return ", 95 % CI in brackets" if error.is_cut else ", ± half the 95 % CI"


def _proxy_card(report: Report) -> Card:
    data = report.info.images
    where = f"{data.name}; " if data.name else ""
    return Card(
        "training length",
        sentences.proxy_length(report),
        f"{where}{report.audit}",
    )


def _setting_card(report: Report) -> Card:
    """On what, how and where it was trained; the facts at the page's end have the rest."""
    data, recipe = report.info.images, report.info.run.recipe
    sides = "x".join(map(str, data.image)) + " images" if data.image else ""
    names = ("optimizer", "lr", "batch_size") if recipe else ()
    known = {name: getattr(recipe, name) for name in names}
    augment = recipe.augment if recipe else None
    parts = (
        str(report.info.space.host or ""),
        provenance.flat(known).replace("_", " "),
        f"augmentation {provenance.flat(augment) or 'none'}"
        if augment is not None
        else "augmentation the data set's own",
        "; ".join(provenance.devices(report)),
        f"test split {provenance.ledger(report.info.test.openings).split(':')[0]}",
    )
    what = ", ".join(filter(None, (provenance.classes(data.classes).split(" (")[0], sides)))
    return Card("data and training", what or "not recorded", "; ".join(filter(None, parts)), wide=True)
