"""Text on its way to a terminal, a pipe or a file: ASCII where need be, uncoloured where wanted, never a crash."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console

_ASCII = {
    "±": "+/-",
    "×": "x",
    "–": "-",
    "−": "-",
    "≤": "<=",
    "≥": ">=",
    "·": "*",
    "…": "...",
    "—": "-",
    "━": "=",
    "╌": "-",
    "│": "|",
    "└": "+",
    "─": "-",
    "Δ": "D",
}
_PIPE = 200  # a pipe has no width; rows stay whole there, for grep


def ascii_of(text: str) -> str:
    """The same text for a terminal that shows ASCII only; what has no likeness becomes `?`."""
    text = "".join(_ASCII.get(char, char) for char in text)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.encode("ascii", "replace").decode("ascii")


def clean(text: str) -> str:
    """Text without control characters: a study's strings must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def shows_unicode(out: IO[str]) -> bool:
    """Whether the stream's encoding has the signs that tables use."""
    try:
        "".join(_ASCII).encode(getattr(out, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def make_console(file: IO[str] | None = None, width: int | None = None) -> Console:
    """A rich console on `file`, stdout when None; no ANSI at all under NO_COLOR or TERM=dumb."""
    from rich.console import Console

    out = file or sys.stdout
    # rich drops only the colours under NO_COLOR, and keeps bold; without a colour system it sends no style.
    colours = None if os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown") else "auto"
    return Console(
        file=out,
        width=width if width or out.isatty() else _PIPE,
        color_system=cast(Any, colours),
        highlight=False,
        markup=False,
    )


class _Patient:
    """A text stream that outlives its reader: once the pipe is closed, what is written goes nowhere."""

    def __init__(self, inner: IO[str]) -> None:
        self._inner = inner
        self._ascii = _wants_ascii() or not shows_unicode(inner)
        if reconfigure := getattr(inner, "reconfigure", None):
            reconfigure(errors="replace")

    @property
    def encoding(self) -> str:
        return "ascii" if self._ascii else getattr(self._inner, "encoding", None) or "utf-8"

    def write(self, text: str | bytes) -> int:
        # click distrusts a stream that calls itself ASCII: it wraps it anew and hands over UTF-8 bytes.
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        with self._muted_when_closed():
            self._inner.write(ascii_of(shown) if self._ascii else shown)
        return len(text)

    def flush(self) -> None:
        with self._muted_when_closed():
            self._inner.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextlib.contextmanager
    def _muted_when_closed(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._inner.fileno())


@contextlib.contextmanager
def patient_streams() -> Iterator[None]:
    """Streams out that neither a closed pipe nor a poor encoding can break, while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(Any, _Patient(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _wants_ascii() -> bool:
    """Whether the user asked for the C locale; Python itself turns that one into UTF-8 (PEP 538, 540)."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LANG") or ""
    return locale.upper() in ("C", "POSIX")
