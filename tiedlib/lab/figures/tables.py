"""Tables for a page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["html_table"]

_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")  # a minus, not a hyphen or an exponent


def html_table(caption: str, heads: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table for a page: its caption, the head of each column, and rows whose first cell names the row. A cell's text is
    str of it, with the sign − before a negative number. Raises ValueError for a row of another length or an empty head."""
    text = [[_NEGATIVE.sub("−", html.escape(str(cell))) for cell in row] for row in rows]
    for row in text:
        if len(row) != len(heads):
            raise ValueError(f"rows holds one of {len(row)} cells, {row}; heads has {len(heads)}")
    if not all(str(head).strip() for head in heads):
        raise ValueError(f"heads is {list(heads)}; every column needs a name that can be read out")
    head = "".join(f'<th scope="col">{html.escape(str(one))}</th>' for one in heads)
    lines = ("".join(f"<td>{cell}</td>" for cell in row[1:]) for row in text)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{line}</tr>' for row, line in zip(text, lines, strict=True))
    return (
        f'<div class="tl-scroll"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
