"""Importances find what was planted, and are what a walk over the whole space gives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from attnsearch.core.errors import NoResultError
from attnsearch.core.study_info import StudyRecord
from attnsearch.core.trial import TrialResult
from attnsearch.report.importances import TREES, fanova, importances

SITES = {"s1": ["none", "se", "cbam", "eca"], "s2": ["none", "se"], "s3": ["none", "se", "gct"]}


def searched(trials: int) -> StudyRecord:
    """`se` in the second stage is 3 points better; nothing else matters."""
    rng = np.random.default_rng(0)
    sites = {site: ["none", "se", "cbam"] for site in ("s1", "s2", "s3")}
    rows = []
    for number in range(trials):
        choice = {site: str(rng.choice(options)) for site, options in sites.items()}
        error = 20 - 3 * (choice["s2"] == "se") + rng.normal(0, 0.1)
        rows.append(
            TrialResult(str(choice), str(choice), 0, 1, "complete", number, error=error, sites=choice)
        )
    return StudyRecord(name="s", trials=tuple(rows), attrs={"sites": sites})


def test_the_site_that_matters_comes_first():
    found = importances(searched(80))
    assert found[0].site == "s2"
    assert found[0].ped_anova > 0.8
    assert found[0].fanova > 0.95
    assert sum(entry.fanova for entry in found) == pytest.approx(1)


def test_fanova_is_the_variance_of_means_over_all_archs():
    rng = np.random.default_rng(1)
    choices = [{site: str(rng.choice(options)) for site, options in SITES.items()} for _ in range(60)]
    errors = np.array([(c["s1"] == "se") * (2.0 + (c["s2"] == "none")) + rng.normal(0, 0.3) for c in choices])
    seen = np.array([[SITES[site].index(choice[site]) for site in SITES] for choice in choices], np.float32)
    forest = RandomForestRegressor(TREES, random_state=5).fit(seen, errors)
    every = np.array(list(itertools.product(*(range(len(names)) for names in SITES.values()))), np.float32)
    shares = []
    for grown in forest.estimators_:
        error = grown.predict(every).reshape(4, 2, 3)
        means = [error.mean(axis=others) for others in ((1, 2), (0, 2), (0, 1))]
        shares.append([mean.var() / error.var() for mean in means])
    expected = np.mean(shares, axis=0)
    found = fanova(SITES, choices, errors, seed=5)
    np.testing.assert_allclose(list(found.values()), expected / expected.sum(), rtol=1e-6)


def test_too_little_is_refused():
    with pytest.raises(NoResultError, match="need 20 finished trials, the study has 5"):
        importances(searched(5))
