"""A study read by SQL, on any database that Optuna keeps it in.

Optuna makes a distribution object of every parameter of every trial: a study of ten thousand trainings takes 15 s and
1.3 GB so. Read here is only what is known: one layout of Optuna's tables, and sites that are categories. Of all else
nothing is decided: `read.read_record` reads it by Optuna, or gives the reason why not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from attnsearch.core.metrics import ClassCounts
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import Epoch, State, TrialResult

Execute = Callable[[str, Mapping[str, Any]], Iterable[Any]]  # SQL with :named values -> rows

CURVES = "::curves"  # ends the name of a study that mirrors another one's curves
OURS = "fingerprint"  # an attribute that every study of attnsearch has, once it has its companion
LAYOUT = "v3.2.0.a"  # Optuna's revision of its tables
# All else still runs.
STATES: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed"}
_ENDLESS = {"INF_POS": math.inf, "INF_NEG": -math.inf}

_MARKED = "SELECT study_name FROM studies JOIN study_user_attributes USING (study_id) WHERE key = :key"
_TRIALS = """
SELECT trials.trial_id, number, state, value, value_type FROM trials
LEFT JOIN trial_values ON trial_values.trial_id = trials.trial_id AND objective = 0
WHERE study_id = :study ORDER BY trials.trial_id
"""
_ATTRIBUTES = """
SELECT trial_id, key, value_json FROM trial_user_attributes JOIN trials USING (trial_id)
WHERE study_id = :study ORDER BY trial_id, key
"""
_PLACES = """
SELECT trial_id, param_name, param_value FROM trial_params JOIN trials USING (trial_id)
WHERE study_id = :study ORDER BY trial_id, param_id
"""
_DISTRIBUTIONS = """
SELECT DISTINCT param_name, distribution_json FROM trial_params JOIN trials USING (trial_id) WHERE study_id = :study
"""


def is_known_layout(execute: Execute) -> bool:
    """Whether the tables are laid out as this file reads them."""
    return [tuple(row) for row in execute("SELECT version_num FROM alembic_version", {})] == [(LAYOUT,)]


def read_study(execute: Execute, name: str | None) -> StudyRecord:
    """A study of attnsearch, the latest one when `name` is None.

    Args:
        execute: runs SQL within one transaction, so that all tables are read as they stand at one moment.

    Raises:
        LookupError, TypeError, ValueError: no such study, or not one that can be read so.
    """
    numbers: list[tuple[str, int]] = list(execute("SELECT study_name, study_id FROM studies", {}))
    by_age = [study for study, _ in sorted(numbers, key=lambda entry: entry[1])]
    studies = our_studies(by_age, marked_studies(execute))
    name = studies[-1] if name is None else name
    if name not in studies:
        raise LookupError(name)
    of = {"study": dict(numbers)[name]}
    rows = execute("SELECT key, value_json FROM study_user_attributes WHERE study_id = :study", of)
    attributes = {key: json.loads(value) for key, value in rows}
    return StudyRecord(name, attributes, tuple(_trials(execute, of)))


def marked_studies(execute: Execute) -> set[str]:
    """Names of studies that carry attnsearch's attribute."""
    return {name for (name,) in execute(_MARKED, {"key": OURS})}


def our_studies(names: Collection[str], marked: Collection[str]) -> list[str]:
    """Of all studies of a database, those that attnsearch made: they have our attribute, or a companion."""
    whole = set(names)
    return [n for n in names if not n.endswith(CURVES) and (n in marked or n + CURVES in whole)]


def to_row(
    number: int, state: str, error: float | None, attrs: Mapping[str, Any], sites: Mapping[str, str]
) -> TrialResult:
    """One trial as Optuna keeps it, with its state's name, first value, user attributes and parameters, as a row."""
    return TrialResult(
        key=attrs.get("key", ""),
        arch=attrs.get("arch", ""),
        seed=attrs.get("seed", 0),
        epochs=attrs.get("epochs", 0),
        state=STATES.get(state, "running"),
        number=number,
        spec=json.loads(attrs.get("spec", "{}")),
        error=error if state == "COMPLETE" else None,
        costs={key.removeprefix("cost:"): value for key, value in attrs.items() if key.startswith("cost:")},
        curve=tuple(Epoch(*entry) for entry in json.loads(attrs.get("curve", "[]"))),
        reason=attrs.get("reason", ""),
        role=attrs.get("role", "search"),
        protected=attrs.get("protected", False),
        attempt=attrs.get("attempt", 0),
        seconds=attrs.get("seconds", 0.0),
        device=attrs.get("device", ""),
        versions=_versions(attrs.get("versions", "{}")),
        sites=dict(sites),
        lost=attrs.get("lost", False),
        released=attrs.get("released", False),
        audited=bool(attrs.get("audited")),
        parts=attrs.get("batch_parts", 1),
        counts=ClassCounts.from_json(attrs["counts"]) if "counts" in attrs else None,
    )


@lru_cache(maxsize=64)
def _versions(text: str) -> Mapping[str, str]:
    """One object for all trials that the same packages trained."""
    return dict(json.loads(text))


def _trials(execute: Execute, of: Mapping[str, Any]) -> Iterator[TrialResult]:
    """Rows by number: three lists that are sorted by trial are walked through together."""
    attributes = groupby(execute(_ATTRIBUTES, of), key=lambda row: row[0])
    sites = _sites(execute, of)
    of_next: tuple[int, Iterable[Sequence[Any]]] | None = next(attributes, None)
    for trial, number, state, value, kind in execute(_TRIALS, of):
        attrs: dict[str, Any] = {}
        if of_next is not None and of_next[0] == trial:
            attrs = _parsed(of_next[1])
            of_next = next(attributes, None)
        yield to_row(number, state, _ENDLESS.get(kind, value), attrs, sites.get(trial, {}))


def _parsed(rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """A trial's attributes; parsed as one list, which takes a third of the time of one by one."""
    keys, texts = zip(*((key, text) for _, key, text in rows), strict=True)
    return dict(zip(keys, json.loads(f"[{','.join(texts)}]"), strict=True))


def _sites(execute: Execute, of: Mapping[str, Any]) -> dict[int, dict[str, str]]:
    """Chosen options by trial and site; Optuna keeps an option's place among those of a categorical parameter."""
    options: dict[str, list[str]] = {}
    for site, distribution in execute(_DISTRIBUTIONS, of):
        if options.setdefault(site, choices := json.loads(distribution)["attributes"]["choices"]) != choices:
            raise ValueError(f"the options of {site} have changed")
    return {
        trial: {site: options[site][int(place)] for _, site, place in places}
        for trial, places in groupby(execute(_PLACES, of), key=lambda row: row[0])
    }
