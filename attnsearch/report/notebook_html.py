"""A study in a notebook: its answer and main tables as HTML that a cell shows, its pictures by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnsearch.core.errors import UsageError, unknown
from attnsearch.report import sentences, warnings
from attnsearch.report.picture import PAPER, SCREEN
from attnsearch.report.plots import PICTURES
from attnsearch.report.tables import Report

if TYPE_CHECKING:
    from attnsearch.report.formatting import Table
    from attnsearch.report.picture import Picture

MEDIA = {"screen": SCREEN, **PAPER}


def html(report: Report) -> str:
    """Question, warnings, answer and main tables; every word of the study is escaped."""
    from markupsafe import Markup

    lines = [*warnings.warnings(report), *sentences.answer(report)]
    return "".join(
        [
            Markup("<h3>{}</h3><p><em>{}</em></p>").format(
                sentences.title(report), report.info.space.question or ""
            ),
            Markup("<ul>{}</ul>").format(
                Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
            ),
            *(_table(table.narrow()) for table in report.main()),
        ]
    )


def _table(table: Table) -> str:
    from markupsafe import Markup

    def row(texts: list[str], cell: str) -> Markup:
        return Markup("<tr>{}</tr>").format(Markup("").join(Markup(cell).format(text) for text in texts))

    head = row([column.title for column in table.columns], "<th>{}</th>")
    body = Markup("").join(row(table.texts(i), "<td>{}</td>") for i in range(len(table.rows)))
    return Markup("<table><caption>{}</caption><thead>{}</thead><tbody>{}</tbody></table>").format(
        table.title, head, body
    )


def picture(report: Report, name: str, width: str = "screen") -> Picture:
    """The picture of this name, for a screen, or for a paper's column (`single`) or page (`double`).

    Raises:
        UsageError: no such picture or width, or the study has no numbers for it.
    """
    if name not in PICTURES:
        raise UsageError(unknown("picture", name, PICTURES))
    if width not in MEDIA:
        raise UsageError(unknown("width", width, MEDIA))
    drawn = PICTURES[name](report, MEDIA[width])
    if drawn is None:
        raise UsageError(f"study '{report.record.name}' has no numbers for the picture '{name}' yet")
    return drawn


__all__ = ["html", "picture"]
