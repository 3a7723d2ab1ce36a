"""What every chapter's notebook calls: the library's source in place, and data with a fallback that is said."""

from __future__ import annotations

import html
import inspect
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from IPython.display import HTML, Markdown, display

from tiedlib.lab.data import Corpus, DataError, load_corpus
from tiedlib.lab.figures.tables import html_table

__all__ = ["corpus_or", "source", "table"]


def source(*objects: Any) -> None:
    """Show the source of classes or functions of the library as it is installed: never a second copy in a notebook."""
    for one in objects:
        code = textwrap.dedent(inspect.getsource(one)).rstrip()
        _show(Markdown(f"From `{one.__module__}`:\n\n```python\n{code}\n```"))


def table(caption: str, heads: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    """Show what cells of a chapter have computed; see `tiedlib.lab.figures.tables.html_table`."""
    _show(HTML(html_table(caption, heads, rows)))


def corpus_or(name: str, fallback: str, **options: Any) -> tuple[Corpus, bool]:
    """The corpus `name`, or where it cannot be had `fallback` under a banner that says so; and whether it is the real one.

    options go to both. A chapter's assertions about the real data are skipped, by name, where the second value is False.
    """
    try:
        return load_corpus(name, **options), True
    except DataError as error:
        _show(
            HTML(
                '<div class="admonition warning" role="note"><p class="admonition-title">Not the real data</p>'
                f"<p>{html.escape(name)} could not be had here, so this page was made with “{html.escape(fallback)}”; what is said "
                f"about the real data is not checked. {html.escape(str(error))}</p></div>"
            )
        )
        return load_corpus(fallback, **options), False


def _show(what: Any) -> None:
    display(what)
