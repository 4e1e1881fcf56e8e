"""Sentences of a report: what was asked, what is known and how surely, what the study cannot tell.

No sentence says more than the tables' numbers do. A gain is claimed by a verdict alone.
"""

from __future__ import annotations

from attnsearch.core.convergence import NOT_MEASURED
from attnsearch.core.costs import LIMITED
from attnsearch.core.estimate import Estimate
from attnsearch.core.study_info import StudyInfo
from attnsearch.core.text import capital, many
from attnsearch.report import design, finalists, first_sentence, formatting, provenance, warnings
from attnsearch.report.archs import NOT_AUDITED, cost_name, seeds_kind
from attnsearch.report.design_verdicts import Judged
from attnsearch.report.formatting import number, probability, quantity
from attnsearch.report.tables import Report
from attnsearch.statistics.dunnett import LEAST_DEGREES
from attnsearch.statistics.front import ArchResult, Status

NARROW = 0.02  # spread of a cost, over the least, below which it tells next to nothing of architectures


def title(report: Report) -> str:
    return f"Study {report.record.name}"


def answer(report: Report) -> tuple[str, ...]:
    """The first things to know: arch and place, price, certainty, comparison, noise, length of the proxy."""
    if report.withheld:
        return (report.withheld.sentence, *([noise(report)] if report.assessed.sd else []))
    convergence = report.info.run.convergence
    if isinstance(report.judged, Judged):
        leads = (
            report.judged.variants and not report.judged.effects
        )  # a factorial opens with its main effects
        sentences = [
            first_sentence.sentence(report.judged, report.info.metric.title, proxy_length(report))
            if leads
            else "",
            *design.lines(report, report.judged),
            finalists.control_sentence(report.record, report.epochs),
        ]
    else:
        sentences = [
            report.judged or "",
            *([] if report.judged else verdicts(report)),
            best(report),
            compared(report),
            place(report),
            front_sentence(report),
            narrow_cost(report),
            optimism(report),
            undecided(report),
        ]
        sentences.append(noise(report))
    converged = convergence.sentence(report.info.metric.error) if convergence else NOT_MEASURED
    rest = (proxy(report), converged, audited(report.info), next_step(report))
    return tuple(line for line in (*sentences, *rest) if line)


def verdicts(report: Report) -> list[str]:
    """What the last block of seeds says of the finalists."""
    judged = {verdict.variant for verdict in report.final.verdicts} if report.final else set[str]()
    rows = [row for row in report.rows if row.key in judged]
    labels = {row.key: report.called(row) + _at_price(report, row) for row in rows}
    return finalists.sentences(report.final, labels, report.record, report.epochs)


def _at_price(report: Report, row: ArchResult) -> str:
    """`, at 1.006 x the baseline's MACs,`, for the middle of a sentence."""
    return "" if row.ratio is None else f", at {row.ratio:.3f} x the baseline's {cost_name(report.cost)},"


def chosen(report: Report) -> ArchResult | None:
    """The finalist that the verdict is on; without one the arch of least mean error beside the baseline, where search
    values do not compete with fresh means.
    """
    if report.final is not None:
        lead = finalists.headline(report.final).variant
        return next(row for row in report.rows if row.key == lead)
    rows = [row for row in report.rows if not row.baseline and not row.control]
    fresh = [row for row in rows if row.fresh]
    return min(fresh or rows, key=lambda row: row.mean, default=None)


def best(report: Report) -> str:
    """How often the leading arch errs and at what cost; which one leads, where no verdict has said it."""
    row = chosen(report)
    if row is None:
        return "Nothing but the baseline has been trained to the end."
    measured = f"{_error(report, row)}, {_price(report, row)}."
    if report.final is not None:
        return f"A{row.number}: {measured}"
    return f"{capital(compared_with(report, row))}: {report.called(row)}, {measured}"


def place(report: Report) -> str:
    """Where the leading arch stands among the others: another question than the verdict's."""
    row = chosen(report)
    if row is None:
        return ""
    error = report.info.metric.error
    front = f"on the Pareto front (no architecture of equal or lower cost has a lower {error})"
    sure = (
        ""
        if row.p_front is None
        else f", with a probability of {probability(row.p_front)} that it is (P(front))"
    )
    if report.final is None:
        return f"Whether A{row.number} is {front}: {row.status}{sure}."
    return (
        f"The verdict compares A{row.number} with the baseline alone. Whether it is also {front} is a question of its "
        f"own: {row.status}{sure}."
    )


def next_step(report: Report) -> str:
    """What to do with a gain: whether it holds after a long training is not known yet."""
    row, name = chosen(report), report.record.name
    if report.withheld or report.final is None or row is None:
        return ""
    if finalists.headline(report.final).outcome != "gain":
        return ""
    check = (
        ""
        if report.info.audit
        else f"`attnsearch validate {name}` asks whether longer trainings rank alike; "
    )
    return f"Next: {check}`attnsearch train {name} --trial A{row.number} --epochs N` trains A{row.number} in full."


def compared_with(report: Report, row: ArchResult) -> str:
    """What makes it the leading arch."""
    others = [o for o in report.rows if not o.baseline and not o.control and o.fresh == row.fresh]
    error = report.info.metric.error
    if row.fresh and len(others) == 1:
        return "the one architecture repeated on independent seeds"
    if row.fresh:
        return f"lowest mean {error} of the {len(others)} architectures repeated on independent seeds"
    return f"lowest mean {error} of {many(len(others), 'architecture')}, each by the seed that selected it"


def compared(report: Report) -> str:
    """The chosen arch against the baseline, and what the interval allows to say."""
    row, plain = chosen(report), report.baseline
    if plain is None:
        return "The baseline has no finished trial, so no difference can be stated."
    sentence = f"Baseline: {report.called(plain)}, {_error(report, plain)}, {_price(report, plain)}."
    if row is None or report.final is not None:  # then the verdict has said it
        return sentence
    if row.difference is None:
        return f"{sentence} The two have no seed in common, so no difference is stated."
    return f"{sentence} {difference(row, report.info.metric.title)}"


def difference(row: ArchResult, score: str) -> str:
    """The difference of a score on shared seeds and what it allows to say."""
    paired = row.difference
    assert paired is not None
    shared = "the one shared seed" if paired.n == 1 else f"the {paired.n} shared seeds"
    mean = f"On {shared}: {number(paired.mean, 2, True)} percentage points of {score}"
    if paired.low is None or paired.high is None:
        return f"{mean}; one seed gives no interval."
    interval = f"{mean} (95 % CI {number(paired.low, 2, True)} to {number(paired.high, 2, True)})"
    if paired.low <= 0 <= paired.high:
        return f"{interval}. The CI includes zero: no significant difference."
    return f"{interval}. The CI excludes zero, but the architecture was selected out of many: exploratory, no verdict."


def front_sentence(report: Report) -> str:
    counts = {
        word: sum(r.status == word and not r.baseline for r in report.rows)
        for word in (Status.CONFIRMED, Status.UNDECIDED)
    }
    return (
        f"On the front of {report.info.metric.error} against {cost_name(report.cost)} beside the baseline: "
        f"{many(counts[Status.CONFIRMED], 'architecture')} confirmed, {counts[Status.UNDECIDED]} undecided, "
        f"of {len(report.rows)} trained."
    )


def narrow_cost(report: Report) -> str:
    """Where the cost hardly differs between the architectures, and which one does."""
    rows = [row for row in report.rows if not row.control]

    def span(name: str) -> float:
        values = [row.all_costs[name] for row in rows if row.all_costs.get(name)]
        return max(values) / min(values) - 1 if len(values) == len(rows) > 1 else 0.0

    widest = max((name for name in rows[0].all_costs if name in LIMITED), key=span, default=report.cost)
    if span(report.cost) >= NARROW or span(widest) < 2 * NARROW:
        return ""
    return (
        f"{cost_name(report.cost)} differ by {100 * span(report.cost):.2g} % at most, so error alone ranks here; "
        f"{cost_name(widest)} differ by {100 * span(widest):.0f} % (`--cost {widest}` in a run, or the page's axis)."
    )


def proxy_length(report: Report) -> str:
    """`6 epochs of 5,600 images`."""
    images = report.info.training_images
    seen = f" of {images:,} images" if images else ""
    return f"{many(report.epochs, 'epoch')}{seen}"


def undecided(report: Report) -> str:
    """Which archs more seeds would decide, and how many of the next ten trainings each would get."""
    wanted = sorted((row for row in report.rows if row.next_seeds), key=lambda row: -row.next_seeds)
    if not wanted:
        return ""
    archs = ", ".join(f"A{row.number} ({many(row.next_seeds, 'seed')})" for row in wanted)
    total = sum(row.next_seeds for row in wanted)
    return f"To decide the front, the next {total} runs would best be of {archs}."


def optimism(report: Report) -> str:
    """How much the search flattered, over the archs that have both kinds of seeds."""
    gaps = [row.optimism for row in report.rows if row.optimism is not None and not row.baseline]
    if not gaps:
        return ""
    mean = sum(gaps) / len(gaps)
    word = "lower" if mean > 0 else "higher"
    return (
        f"Selection bias: {report.info.metric.error}s in the search were {abs(mean):.2f} percentage points {word} than "
        f"on independent seeds (mean over {many(len(gaps), 'architecture')})."
    )


def noise(report: Report) -> str:
    sd = report.assessed.sd
    if sd is None:
        return f"{_unknown_noise(report.assessed.degrees)}, so there are no intervals."
    return (
        f"Standard deviation between seeds: {sd:.2f} percentage points (pooled, "
        f"{many(report.assessed.degrees, 'degree')} of freedom)."
    )


def _unknown_noise(degrees: int) -> str:
    if not degrees:
        return "No architecture has two seeds: the noise between seeds is unknown"
    if degrees < LEAST_DEGREES:
        return f"The noise between seeds has {many(degrees, 'degree')} of freedom, under {LEAST_DEGREES}"
    return "Repeated runs do not vary, so nothing is known of the noise between seeds"


def proxy(report: Report) -> str:
    data = report.info.images
    where = f" of {data.name}" if data.name else ""
    return (
        f"Trained for {proxy_length(report)}{where}: {report.audit}. "
        "Slowly converging blocks may rank higher after full training."
    )


def audited(info: StudyInfo) -> str:
    """What the audit of the proxy found, beside its verdict."""
    audit = info.audit.values if info.audit else {}
    if "partial_interval" not in audit:
        return ""
    low, high = audit["partial_interval"]
    alone = " It does not beat ranking by cost alone." if low <= 0 else ""
    return (
        f"Validation on {audit['archs']} architectures trained in full: rank correlation given cost "
        f"{audit['partial_tau']:.2f} (95 % interval {low:.2f} to {high:.2f}); the best of the short training's"
        f" top three of similar cost "
        f"loses {audit['regret_3']:.2f} percentage points.{alone}"
    )


def caveats(report: Report) -> tuple[str, ...]:
    """What the study cannot tell."""
    lines = [
        "Another data set, image size, backbone or recipe may rank the architectures differently.",
        f"Training for {many(report.epochs, 'epoch')} favours what converges fast over what is best in the end."
        + (" `attnsearch validate` compares the two." if report.audit == NOT_AUDITED else ""),
        "Counted costs are not time: latency differs at equal MACs. `attnsearch latency` measures it.",
    ]
    if any(not row.fresh and not row.baseline for row in report.rows):
        lines.append(
            "Rows marked `selection` rest on the seeds used for selection and are optimistically biased."
        )
    if not warnings.wide_by_images(report):  # else it stands before the answer
        lines += [line for line in [warnings.images(report)] if line]
    for what, values in (("device", provenance.devices(report)), ("version", provenance.versions(report))):
        if len(values) > 1:
            lines.append(f"Trials ran on more than one {what}: {'; '.join(values)}.")
    if report.counts.running:
        lines.append(
            f"The study is not finished: {many(report.counts.running, 'trial')} running when this was written."
        )
    return tuple(lines)


def estimate(value: Estimate, unit: str = " %") -> str:
    return f"{formatting.estimate(value)}{unit}"


def _error(report: Report, row: ArchResult) -> str:
    return f"{report.info.metric.error} {estimate(row.error)} on {which_seeds(row)}"


def which_seeds(row: ArchResult) -> str:
    kind = "" if row.baseline and not row.fresh else f"{seeds_kind(row)} "
    return many(row.error.n, f"{kind}seed")


def _price(report: Report, row: ArchResult) -> str:
    price = f"{quantity(row.costs[0])} {cost_name(report.cost)}"
    return (
        price
        if row.ratio is None or row.baseline
        else f"{price} ({100 * (row.ratio - 1):+.1f} % against the baseline)"
    )
