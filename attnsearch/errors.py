"""The errors that a caller may catch, under the name that scripts import them by."""

from attnsearch.core.errors import (
    AttnsearchError,
    BlockError,
    CostError,
    DataError,
    EnvironmentFault,
    Interrupted,
    NoResultError,
    SpaceError,
    UsageError,
)

__all__ = [
    "AttnsearchError",
    "BlockError",
    "CostError",
    "DataError",
    "EnvironmentFault",
    "Interrupted",
    "NoResultError",
    "SpaceError",
    "UsageError",
]
