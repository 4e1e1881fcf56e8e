"""Words that have no honest use here: each has a term of the field in its place."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
RETIRED = re.compile(
    r"\b(agenda|aside|owed|hollow|redealt|redealable|foretold|foretell|foretells|undersold|stillborn|holders|glance"
    r"|dearer|dearest|deal(t)? anew)\b",
    re.I,
)
SUFFIXES = {".py", ".md", ".yaml", ".toml", ".j2", ".js", ".css"}
# A list of changes may name what was; results are what runs printed and the licence is not ours to word: not read.
FREE = {"CHANGELOG.md", "tests/test_words.py", "tests/test_findings.py"}  # the tests list them


def test_no_word_of_the_old_dialect_is_left():
    folders = ("attnsearch", "tests", "benchmarks", "search_spaces")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*.*"))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in files
        if path.suffix in SUFFIXES and str(path.relative_to(ROOT)) not in FREE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in RETIRED.finditer(line)
    ]
    assert found == []
