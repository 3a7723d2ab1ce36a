"""The words that a cell's output and the page have in common: MIME types, the verdicts on a claim, the variable that says that a
book is being built, and the folder of the page's own scripts and styles."""

from __future__ import annotations

from pathlib import Path

__all__ = ["AGREE", "BUILD_VARIABLE", "CLAIM", "CORRECTIONS", "FIGURE", "PLOTLY", "STATIC", "VERDICTS", "static"]

FIGURE = "application/vnd.tiedlib.figure+json"
CLAIM = "application/vnd.tiedlib.claim+json"
AGREE = "application/vnd.tiedlib.agree+json"
PLOTLY = "application/vnd.plotly.v1+json"

VERDICTS = {"holds": "holds", "caveat": "holds, with a caveat", "wrong": "wrong", "undecided": "not decided yet"}
CORRECTIONS = {
    "holds": "Note",
    "caveat": "Caveat",
    "wrong": "Correction",
    "undecided": "Note",
}  # what a card calls the text that goes with a verdict

BUILD_VARIABLE = "TIEDLIB_PAGE"
"""Set to "1" in the kernels of a build: `explore` then computes its states instead of showing widgets."""

STATIC = Path(__file__).resolve().parent / "page" / "static"


def static(name: str) -> str:
    """The text of one of the page's own scripts or styles, such as "questions.css"."""
    return (STATIC / name).read_text(encoding="utf-8")
