"""What a user can cause, as a tree; each class carries the exit code of the command line.

AttnsearchError                     2
  UsageError      a flag or a name   2
    SpaceError    a space file       2
  BlockError      a block's options  2
  CostError       a model's cost     2
  DataError       images             3
  EnvironmentFault storage, device   4
  NoResultError   nothing usable     5
  Interrupted     a signal         128 + its number

Each has one message that says what is wrong and what would be right. Anything else that escapes is our bug and
keeps its traceback (exit 1).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AttnsearchError(Exception):
    """A mistake that its user can mend; the message is all they need."""

    exit_code = 2


class UsageError(AttnsearchError):
    """A flag, a name or a combination that the command does not know."""


class SpaceError(UsageError):
    """A space file that does not state a question; all problems of the file at once."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            message = f"{source}: {self.problems[0]}"
        else:
            message = "\n  ".join([f"{source}: {len(self.problems)} problems", *self.problems])
        super().__init__(message)


class BlockError(AttnsearchError):
    """Options that a block cannot be built with at this width."""


class CostError(AttnsearchError):
    """A model whose cost cannot be stated: work that no rule covers, or a shape that it does not take."""


class DataError(AttnsearchError):
    """Images that cannot be found, read or split."""

    exit_code = 3


class EnvironmentFault(AttnsearchError):
    """Storage, device, disk or a missing extra."""

    exit_code = 4


class NoResultError(AttnsearchError):
    """The study ended, or stands, without one usable trial."""

    exit_code = 5


class Interrupted(AttnsearchError):
    """A signal ended the run; everything finished is kept and `--resume` goes on."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Exhausted(Exception):
    """Every feasible arch has been proposed; the coordinator ends the search."""


def unknown(what: str, word: object, known: Iterable[object]) -> str:
    """`"Unknown block 'sse'. Did you mean 'se'? Known: cbam, se"`."""
    words = [str(entry) for entry in known]
    return f"Unknown {what} '{word}'.{did_you_mean(str(word), words)} Known: {', '.join(words) or 'none'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" Did you mean 'se'?"` for a word that is near, or that begins with this one; else an empty string."""
    words = list(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6) or [
        w for w in words if w.startswith(word + "_")
    ]
    return f" Did you mean '{near[0]}'?" if near else ""
