"""Words that a user may choose from, one table each: flags, checks, help and messages are read from them.

What each word makes stands in the room that makes it, under the same names (`sample`, `study.ablation`, `data`).
"""

from __future__ import annotations

from collections.abc import Iterable

SAMPLERS = {
    "auto": "by the size of the space and the number of trials",
    "exhaustive": "every arch once, in random order",
    "pool": "expected hypervolume improvement by a Gaussian process, over archs whose cost is known",
    "tpe": "Optuna's TPE, sites modelled jointly",
    "nsga2": "Optuna's NSGA-II",
    "random": "uniform, no arch twice",
    "gp": "Optuna's Gaussian process",
}
PRUNERS = {
    "par": "stop what promises less than a new arch would (Pareto at rung)",
    "none": "stop nothing",
    "moasha": "keep the best third at each rung, by non-dominated layers",
    "one-epoch": "the same, after the first epoch alone",
}
DESIGNS = {
    "search": "no ablation: a sampler chooses",
    "loo": "the reference, and the reference without one site",
    "add": "the baseline, and the baseline with one site",
    "swap": "the options of one site",
    "factorial": "all combinations of two options per site, or a fraction of them",
    "named": "the archs that the space names under `variants`",
}
CONTROLS = {
    "null": "the gates replaced by the identity",
    "width": "the plain host, widened to the MACs of a variant",
    "adapter": "pointwise convolutions without a gate, at the costliest gate's MACs; in place of width with weights or "
    "a model of your own",
    "frozen": "the gates as drawn, untrained",
    "narrow": "the plain host with fewer channels, or on half of the images where it cannot have fewer: a harm that "
    "the study should be able to see",
    "none": "no controls",
}
FREEZE = {
    "none": "train the whole network",
    "stem": "leave the stem as it is",
    "host": "train blocks and head alone",
}
CLASS_WEIGHTS = {
    "none": "every image counts alike",
    "balanced": "every class counts alike",
}
ENGINES = {"local": "processes of this machine", "ray": "the nodes of a Ray cluster"}
RESIZES = {
    "crop": "the shorter side to the size, then the centre",
    "stretch": "both sides to the size",
    "pad": "the longer side to the size, black beside it",
}
BAD_IMAGES = {"fail": "refuse the data set", "skip": "leave them out and count them"}


def listed(words: Iterable[str]) -> str:
    """`auto, exhaustive or random`."""
    *first, last = words
    return f"{', '.join(first)} or {last}"
