"""Claims: what the notes say, executed, with a verdict.

The notes this book grew from contain errors. Each of their statements is an entry of the register,
`book/claims/<chapter>.yml`; a cell (or a test) proves it and states its verdict. A verdict that differs from the
register raises, and so fails the build:

    with claim("tied-gradient-sum") as c:
        difference = ...
        assert difference < 1e-10
        c.verdict("holds", f"largest difference {difference:.1e}")

In a notebook a card appears: what the notes say, verdict, correction, evidence.
"""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from types import TracebackType
from typing import Any

from tiedlib.lab.outputs import CLAIM, VERDICTS
from tiedlib.lab.register import Claim, register

__all__ = ["Card", "ClaimError", "Proof", "claim", "waiting"]


class ClaimError(AssertionError):
    """A claim without a verdict, with evidence missing, or with a verdict that is not the register's."""


@dataclass(frozen=True)
class Card:
    """What a reader sees of one claim. Rich in a page and in a notebook, plain in a terminal."""

    claim: Claim
    evidence: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        data = {**asdict(self.claim), "evidence": self.evidence}
        return {CLAIM: data, "text/html": self._html(), "text/plain": repr(self)}

    def __repr__(self) -> str:
        c = self.claim
        parts = [("the notes say", c.statement), ("verdict", VERDICTS[c.verdict]), ("correction", c.correction)]
        parts += [("evidence", self.evidence), ("waits for", c.waits)]
        return f"[{c.id}]\n" + "\n".join(f"  {name}: {text}" for name, text in parts if text)

    def _html(self) -> str:
        c = self.claim
        rows = [
            ("The notes say", c.statement),
            ("Correction", c.correction),
            ("Evidence", self.evidence),
            ("Waits for", c.waits),
        ]
        body = "".join(f"<dt><b>{name}</b></dt><dd>{html.escape(text)}</dd>" for name, text in rows if text)
        title = f"<b>{VERDICTS[c.verdict]}</b> · <code>{html.escape(c.id)}</code> · {html.escape(c.source)}"
        return f'<div style="border-left:4px solid #888;padding:.2em 1em;margin:.5em 0">{title}<dl>{body}</dl></div>'


@dataclass
class Proof:
    """The object inside `with claim(…) as c`; `c.verdict(…)` is called once, last."""

    claim: Claim
    card: Card | None = field(default=None, init=False)

    def verdict(self, verdict: str, evidence: str) -> None:
        """State the verdict and its evidence: a number, an equation or a run, as text made from what was computed.

        Raises ClaimError if the verdict is unknown, given twice, without evidence, or not the register's.
        """
        c = self.claim
        if verdict not in VERDICTS:
            raise ClaimError(f"claim {c.id!r}: verdict {verdict!r}; it must be one of {', '.join(VERDICTS)}")
        if self.card is not None:
            raise ClaimError(f"claim {c.id!r}: a second verdict {verdict!r}; one claim has one verdict")
        if not evidence.strip():
            raise ClaimError(f"claim {c.id!r}: no evidence; say what was computed")
        if verdict != c.verdict:
            raise ClaimError(
                f"claim {c.id!r}: the proof says {verdict!r}, book/claims/{c.chapter}.yml says {c.verdict!r}; one of them is wrong"
            )
        if c.waits:
            raise ClaimError(
                f"claim {c.id!r} has a verdict now, yet book/claims/{c.chapter}.yml says it waits for {c.waits!r}"
            )
        self.card = Card(c, " ".join(evidence.split()))

    def skip(self, reason: str) -> None:
        """Say why this build does not run the proof (the real data cannot be had here). The card shows the register's
        verdict, and that it was not checked in this build. Raises ClaimError after a verdict, or without a reason."""
        if self.card is not None or not reason.strip():
            raise ClaimError(
                f"claim {self.claim.id!r}: skip(reason) stands in place of the verdict, with a reason; got {reason!r}"
            )
        self.card = Card(self.claim, f"not checked in this build: {reason}")

    def __enter__(self) -> Proof:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        if self.card is None:
            raise ClaimError(f"claim {self.claim.id!r}: the proof ended without a verdict; call c.verdict(…)")
        _display(self.card)


def claim(id: str) -> Proof:
    """The proof of one claim of the register, to be used in a `with` statement.

    Raises ValueError for an id that the register does not hold, with the nearest one that it does.
    """
    claims = register()
    if id not in claims:
        near = get_close_matches(id, claims, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"id is {id!r}; it must be an id in book/claims{hint}")
    return Proof(claims[id])


def waiting(chapter: str) -> None:
    """Show the chapter's claims that wait for a longer run or another chapter."""
    for c in register().values():
        if c.chapter == chapter and c.waits:
            _display(Card(c))


def _display(card: Card) -> None:
    """Show the card where there is a notebook; a test or a script needs no output."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return
    if get_ipython() is not None:
        display(card)
