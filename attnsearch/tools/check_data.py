"""Is a data set fit to train on? Every bad file, classes and splits, copies across splits; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnsearch.data import Data, open_data

BAD = "left out: "  # begins the warning for a picture that could not be read, see `data.open_data`


@dataclass(frozen=True)
class DataCheck:
    """What was found: `bad` holds a sentence for each file that cannot be used, `warnings` what else to know."""

    data: Data
    bad: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "data": self.data.name,
            "image": list(self.data.image),
            "counts": {split: dict(counts) for split, counts in self.data.counts.items()},
            "bad": list(self.bad),
            "warnings": list(self.warnings),
            "ignored": self.data.ignored,
            "note": self.data.note,
        }


def check_data(name: str, options: Mapping[str, Any]) -> DataCheck:
    """Read every image of a data set, as a study would.

    Args:
        options: of `data.open_data`.

    Raises:
        DataError: no images, or classes that cannot be split.
    """
    data = open_data(name, **{**options, "on_bad_image": "skip"})
    bad = tuple(warning.removeprefix(BAD) for warning in data.warnings if warning.startswith(BAD))
    rest = tuple(warning for warning in data.warnings if not warning.startswith(BAD))
    return DataCheck(data, bad, rest)


__all__ = ["DataCheck", "check_data"]
