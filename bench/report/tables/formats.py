"""Render a table as Markdown, LaTeX (booktabs), HTML or CSV. FORMATS lists the formats."""

import html
from collections.abc import Callable

import pandas as pd

from bench.report.tables.table import BEST, CONTENDED, TIED, Entry, Table, is_marked

DISTURBED = (
    f"{CONTENDED}: measured under other load, or unsteady; excluded from ratios, limits and fronts, and measured again "
    "by the next run."
)
LEGEND = {
    BEST: "Bold: the best.",
    TIED: "*: not significantly worse than the best (max-T test over examples and seeds; at most 5% of tables wrongly "
    "omit the mark from a cell that is as good).",
}
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}


def markdown(table: Table) -> str:
    """Render a pipe table with its notes."""
    body = _styled(table, lambda text, standing: {BEST: f"**{text}**", TIED: f"{text}*"}.get(standing, text))
    body = body.map(lambda text: text.replace("|", r"\|"))
    notes = "\n".join(notes_with_legend(table))
    return f"{body.to_markdown(index=False, disable_numparse=True, colalign=_sides(table))}\n\n{notes}\n"


def latex(table: Table) -> str:
    """Render a LaTeX `table` float that needs the package booktabs."""
    styled = _styled(table, lambda text, standing: _latex_entry(_latex(text), standing))
    columns = "".join("l" if name in table.words else "r" for name in styled)
    head = " & ".join(_latex(str(name)) for name in styled)
    rows = "\n".join(f"{' & '.join(row)} \\\\" for row in styled.to_numpy().tolist())
    notes = " ".join(_latex(note) for note in notes_with_legend(table))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}. {notes}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def web(table: Table) -> str:
    """Render an HTML `table` element with a caption and its notes."""
    styled = _styled(table, lambda text, standing: _web_entry(_web_text(text), standing))
    sides = ["left" if name in table.words else "right" for name in styled]
    head = "".join(
        f'<th scope="col" style="text-align:{side}">{html.escape(str(name))}</th>'
        for name, side in zip(styled, sides, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f'<td style="text-align:{side}">{entry}</td>' for entry, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in styled.to_numpy().tolist()
    )
    lines = ["<table>", f"<caption>{html.escape(table.title)}</caption>", f"<thead><tr>{head}</tr></thead>"]
    notes = [f"<p>{_web_text(note)}</p>" for note in notes_with_legend(table)]
    return "\n".join([*lines, "<tbody>", rows, "</tbody>", "</table>", *notes]) + "\n"


def comma(table: Table) -> str:
    """Render CSV without notes. Marked scores are followed by their standing, `best` or `tied`."""
    return _styled(table, lambda text, standing: f"{text} {standing}".strip()).to_csv(index=False)


FORMATS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "latex": latex, "html": web, "csv": comma}


def notes_with_legend(table: Table) -> list[str]:
    """Return the notes of a table, after a legend of the marks it uses."""
    marks = {entry.standing for entry in table.body.to_numpy().flatten() if isinstance(entry, Entry)}
    legend = " ".join(text for mark, text in LEGEND.items() if mark in marks)
    disturbed = [DISTURBED] if table.body.map(is_marked).to_numpy().any() else []
    return [*([legend] if legend else []), *disturbed, *table.notes]


def _styled(table: Table, style: Callable[[str, str], str]) -> pd.DataFrame:
    """Format every entry of a table from its text and its standing."""
    return table.body.astype(object).map(
        lambda entry: style(str(entry), entry.standing if isinstance(entry, Entry) else "")
    )


def _sides(table: Table) -> list[str]:
    """Return the alignment of each column."""
    return ["left" if name in table.words else "right" for name in table.body]


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text).replace("+-", r"$\pm$")


def _latex_entry(text: str, standing: str) -> str:
    return {BEST: f"\\textbf{{{text}}}", TIED: f"{text}$^*$"}.get(standing, text)


def _web_text(text: str) -> str:
    return html.escape(text).replace("+-", "&plusmn;")


def _web_entry(text: str, standing: str) -> str:
    return {BEST: f"<b>{text}</b>", TIED: f"{text}<sup>*</sup>"}.get(standing, text)
