"""Words of what users read."""

from __future__ import annotations

import unicodedata


def capital(text: str) -> str:
    """The text with a capital letter first; the rest of it as it is."""
    return text[:1].upper() + text[1:]


def many(count: int, word: str) -> str:
    """`1 arch`, `1,200 archs`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def format_value(value: object) -> str:
    """One readable word for an option's value: 3-5-7-9 for a tuple, yes/no for a truth value."""
    if isinstance(value, tuple):
        return "-".join(str(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def printable(text: str) -> str:
    r"""Text that every terminal, file and database takes: line breaks, control codes and bytes that are no text
    are written out, as in `caf\udce9`.
    """
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
        else c
        for c in text
    )
