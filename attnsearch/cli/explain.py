"""`attnsearch explain TERM`: what a word of the reports means."""

from __future__ import annotations

from typing import Annotated

import typer

from attnsearch.cli.common import Json, show_json, show_text


def explain(
    term: Annotated[str | None, typer.Argument(help="A term; all of them when left out.")] = None,
    json: Json = False,
) -> None:
    """Explain a term of the reports, such as P(front)."""
    from attnsearch.report import glossary

    terms = glossary.GLOSSARY if term is None else {term: glossary.explain(term)}
    if json:
        show_json(terms)
        return
    for name, meaning in sorted(terms.items(), key=lambda pair: pair[0].lower()):
        show_text(f"{name}: {meaning}.", hanging=2)
