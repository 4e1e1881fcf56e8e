"""The main table for a paper: booktabs, numbers as in every other format."""

from __future__ import annotations

import re

from attnsearch.report import sentences
from attnsearch.report.formatting import Table
from attnsearch.report.tables import Report

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "−": r"$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "·": r"$\cdot$",
    '"': r"\textquotedbl{}",
}


def render(report: Report) -> str:
    """One table per question that the study answers; needs `booktabs`."""
    return "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n" + "\n".join(
        table_of(table.narrow(), sentences.title(report), report.audit) for table in report.main()
    )


def table_of(table: Table, title: str, audit: str) -> str:
    """A `table` float: bold rows are those that the table calls strong, said in the caption."""
    caption = f"{title}: {table.title} ({audit})." + "".join(
        f" {note[0].upper()}{note[1:]}." for note in table.notes
    )
    spec = "".join("r" if column.numeric else "l" for column in table.columns)
    head = " & ".join(escape(column.title) for column in table.columns)
    kinds = [column.kind for column in table.columns]
    # The name and the first number that has an interval.
    bold = {kinds.index("text"), kinds.index("estimate")}
    body = []
    for index in range(len(table.rows)):
        cells = [escape(cell) for cell in table.texts(index)]
        if index in table.strong:
            cells = [f"\\textbf{{{cell}}}" if i in bold else cell for i, cell in enumerate(cells)]
        body.append("  " + " & ".join(cells) + r" \\")
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering\footnotesize",
            f"  \\caption{{{escape(caption)}}}",
            f"  \\label{{tab:{re.sub('[^a-z0-9]', '-', table.name.lower())}}}",
            f"  \\begin{{tabular}}{{{spec}}}",
            r"  \toprule",
            f"  {head} \\\\",
            r"  \midrule",
            *body,
            r"  \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Text that LaTeX prints as it is; characters that pdfTeX has no glyph for become `?`.

    Quoted words are set as code, and a minus before a number as a minus instead of a hyphen.
    """
    out = "".join(_ESCAPES.get(char, char) for char in re.sub(r"\s+", " ", text))
    out = re.sub(r"`([^`]*)`", r"\\texttt{\1}", out)
    out = re.sub(r"(?<![\w-])-(?=\d)", "$-$", out)
    return "".join(char if char.isprintable() and ord(char) < 0x250 else "?" for char in out)
