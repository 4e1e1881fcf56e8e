"""The only writing to Optuna's tables: what its own calls would write, many rows in one transaction.

`set_trial_user_attr`, `set_trial_param` and `set_trial_intermediate_value` take a transaction and a read before it for
each row, 20 ms of a trial's 50 (measured on SQLite). A test holds the two to be the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from sqlalchemy import delete, insert

from attnsearch.store.outages import server_call


def write_batch(
    storage: Any,
    trial_id: int,
    attributes: Mapping[str, Any],
    params: Mapping[str, tuple[BaseDistribution, Any]],
) -> None:
    """Write user attributes and new parameters of a trial in one transaction, as Optuna's own calls would.

    Args:
        storage: an `RDBStorage` in Optuna's cache, as `optuna.storages.get_storage` gives it.
        params: distribution and value by name.
    """
    attribute_rows = [
        {"trial_id": trial_id, "key": key, "value_json": json.dumps(v)} for key, v in attributes.items()
    ]
    param_rows = [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": distribution.to_internal_repr(value),
            "distribution_json": distribution_to_json(distribution),
        }
        for name, (distribution, value) in params.items()
    ]
    attribute_table, param_table = models.TrialUserAttributeModel, models.TrialParamModel

    def call(again: bool) -> None:
        with storage._backend.engine.begin() as connection:
            # A run that died in the midst of closing a trial has left some of them.
            stale = attribute_table.trial_id == trial_id, attribute_table.key.in_(list(attributes))
            connection.execute(delete(attribute_table).where(*stale))
            if again:  # they may be there: whether the first attempt was committed is not known
                there = param_table.trial_id == trial_id, param_table.param_name.in_(list(params))
                connection.execute(delete(param_table).where(*there))
            if attribute_rows:
                connection.execute(insert(attribute_table), attribute_rows)
            if param_rows:
                connection.execute(insert(param_table), param_rows)

    server_call(storage)(call)


def write_lines(
    storage: Any, lines: Sequence[tuple[int, int, float]], attributes: Sequence[tuple[int, str, Any]]
) -> None:
    """Write new intermediate values, (trial, step, value), and new user attributes, (trial, key, value)."""
    value_table, attribute_table = models.TrialIntermediateValueModel, models.TrialUserAttributeModel
    value_rows = []
    for trial, step, value in lines:
        stored, kind = value_table.intermediate_value_to_stored_repr(value)
        value_rows.append(
            {"trial_id": trial, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}
        )
    attribute_rows = [
        {"trial_id": trial, "key": key, "value_json": json.dumps(v)} for trial, key, v in attributes
    ]

    def call(again: bool) -> None:
        with storage._backend.engine.begin() as connection:
            for trial, step, _ in (
                lines if again else ()
            ):  # whether the first attempt was committed is not known
                there = value_table.trial_id == trial, value_table.step == step
                connection.execute(delete(value_table).where(*there))
            for trial, key, _ in attributes if again else ():
                there = attribute_table.trial_id == trial, attribute_table.key == key
                connection.execute(delete(attribute_table).where(*there))
            if value_rows:
                connection.execute(insert(value_table), value_rows)
            if attribute_rows:
                connection.execute(insert(attribute_table), attribute_rows)

    server_call(storage)(call)
