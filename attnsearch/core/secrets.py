"""Passwords of storage URLs, kept out of everything that is printed or stored.

A URL can be recognised in a message, but a driver that fails to read one may quote any piece of it. So the passwords
met in a process are remembered, and every piece of them is masked wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

MASK = "***"
SHORTEST = 3  # letters of a piece that is masked as a word by itself
LONG = 6  # letters of a piece that is masked within words too

_pieces: set[str] = set()


def remember(*texts: str) -> None:
    """Note the passwords of the URLs in these texts: a command line's words, values of variables."""
    for text in texts:
        if password := _password(text):
            user = text.partition("://")[2].partition(":")[0]
            known = {"postgresql", "psycopg", *_split(user), *_split(_behind(text))}
            variants = _variants(password)
            pieces = {piece for variant in variants for piece in _split(variant)} - known
            _pieces.update(piece for piece in variants | pieces if len(piece) >= SHORTEST)


def masked(text: str) -> str:
    """The text without any password, or piece of one, that was remembered."""
    for piece in sorted(_pieces, key=len, reverse=True):
        if piece in text:
            whole = re.escape(piece)
            text = re.sub(whole if len(piece) >= LONG else rf"(?<!\w){whole}(?!\w)", MASK, text)
    return text


def without_servers(words: Sequence[str]) -> list[str]:
    """A command line that can be kept: a database server is left to the variable ATTNSEARCH_STORAGE."""
    kept: list[str] = []
    for word in words:
        if kept and kept[-1] == "--storage" and is_server(word):
            kept.pop()
        elif not (word.startswith("--storage=") and is_server(word.partition("=")[2])):
            kept.append(MASK if is_server(word) else masked(word))
    return kept


def is_server(url: str) -> bool:
    """Whether a word is the address of a database server."""
    return re.match(r"\s*postgres\w*(\+\w+)?:/", url, re.IGNORECASE) is not None


def _password(url: str) -> str:
    """Between the first colon and the last @ behind `://`: it may hold any character, those two among them."""
    _, marked, rest = url.partition("://")
    before, at, _ = rest.rpartition("@")
    _, colon, password = before.partition(":")
    query = re.search(r"(?i)[?&](?:password|passwd|pwd)=([^&]*)", rest)
    return password if marked and at and colon else query.group(1) if query else ""


def _behind(url: str) -> str:
    return url.rpartition("@")[2]


def _variants(password: str) -> set[str]:
    """A password as it may be quoted: as it is, decoded, and as Python writes it."""
    forms = {password, unquote(password)}
    return {form for form in forms | {repr(form)[1:-1] for form in forms} if form}


def _split(text: str) -> list[str]:
    return [piece for piece in re.split(r"[\s@/:?#&=%,;'\"]+", text) if piece]
