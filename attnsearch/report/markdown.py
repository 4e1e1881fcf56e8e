"""Tables and sentences in GitHub's Markdown."""

from __future__ import annotations

import re

from attnsearch.report import provenance, sentences, warnings
from attnsearch.report.formatting import Table
from attnsearch.report.tables import Report


def render(report: Report) -> str:
    """What was asked, what is known, the main table, and what it cannot tell."""
    parts = [
        f"# {escape(sentences.title(report))}",
        *(f"**Warning.** {escape(line)}" for line in warnings.warnings(report)),
        "\n".join(f"- {escape(line)}" for line in sentences.answer(report)),
        *(table_of(table.narrow(), report.audit) for table in report.main()),
        "## Limitations",
        "\n".join(f"- {escape(line)}" for line in sentences.caveats(report)),
        "## Setup and reproducibility",
        "\n".join(f"- **{escape(name)}**: {escape(value)}" for name, value in provenance.facts(report)),
    ]
    return "\n\n".join(parts) + "\n"


def table_of(table: Table, audit: str) -> str:
    """A pipe table under its title, with its notes."""
    head = "| " + " | ".join(escape(column.title) for column in table.columns) + " |"
    rule = "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|"
    lead = [f"{escape(line)}  " for line in table.lead]  # two blanks: a line of its own
    lines = [
        f"## {escape(table.title)}" + (f" ({escape(audit)})" if audit else ""),
        "",
        *lead,
        *([""] if lead else []),
        head,
        rule,
    ]
    for index in range(len(table.rows)):
        cells = [escape(cell) for cell in table.texts(index)]
        if index in table.strong:
            name = next(i for i, column in enumerate(table.columns) if not column.numeric)
            cells[name] = f"**{cells[name]}**"
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {escape(note)}" for note in table.notes)]
    return "\n".join(lines).rstrip()


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, one line."""
    text = re.sub(r"\s+", " ", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)
