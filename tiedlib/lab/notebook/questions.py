"""Questions that readers answer in the page, to see for themselves what they have understood.

    questions.choice(
        "One step of Adam, no bias correction: is it too long or too short?",
        questions.right("Too long.", step > 1, "The root of $1-\\beta_2$ is the smaller one."),
        questions.wrong("Too short.", step < 1, "Both averages start at zero, and the step divides one by the other."),
    )

Whether an answer is right comes from what the cell computed: an answer that the author calls right or wrong and that the
computation calls the other fails the build. Every answer, right or wrong, has an explanation of its own.

What is shown is HTML with everything it needs: no kernel, no network, no file beside it. A choice is radio buttons (boxes,
where several answers are right) whose explanation a style sheet shows; a number needs a script of a few lines, which stands in
the element, and without scripts the answer can be opened. Explanations appear in live regions, so that screen readers say
them. On paper all explanations stand after the answers.
"""

from __future__ import annotations

import hashlib
import html
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiedlib import _arguments as arguments
from tiedlib.lab.notebook import arrivals
from tiedlib.lab.outputs import BUILD_VARIABLE, static

__all__ = ["Answer", "Question", "QuestionError", "choice", "number", "right", "wrong"]

_KEYS = 'data-lm-suppress-shortcuts="true"'  # JupyterLab: keys pressed on this element are the reader's, no commands
_MARKS = re.compile(r"\$([^$]+)\$|`([^`]+)`")


class QuestionError(AssertionError):
    """An answer that its author calls right, or wrong, and that the computation calls the other."""


@dataclass(frozen=True)
class Answer:
    """One answer to choose, and what is said to whoever chooses it. Made by `right` and `wrong`."""

    text: str
    true: bool
    why: str


@dataclass(frozen=True)
class Question:
    """What a reader sees of a question: HTML in a page and in a notebook, plain text in a terminal."""

    text: str
    said: tuple[Answer, ...]  # every answer that has an explanation; of a number, its value as text
    body: str  # the HTML below the question

    def __post_init__(self) -> None:
        arrivals.made(self)

    @property
    def id(self) -> str:
        """The element's id: the same in every build, another one for every question."""
        return _id(self.text)

    def _repr_html_(self) -> str:
        arrivals.shown(self)
        style = "" if os.environ.get(BUILD_VARIABLE) else f"<style>{static('questions.css')}</style>"
        legend = f'<legend><span class="tl-check">Check yourself</span> {_marked(self.text)}</legend>'
        return f'{style}<fieldset class="tl-question" id="{self.id}"{_script(self.body)}>{legend}{self.body}</fieldset>'

    def __repr__(self) -> str:
        return "\n".join([self.text, *(f"  {'right' if a.true else 'wrong'}: {a.text}: {a.why}" for a in self.said)])


@dataclass(frozen=True)
class _Told:
    """A number that is recognised, from low to high, and what is said of it."""

    value: float
    low: float
    high: float
    said: Answer


def right(text: str, truth: Any, why: str) -> Answer:
    """A right answer. truth: True, as the cell has computed it. why: what makes it right.

    Raises QuestionError where truth is False, TypeError and ValueError for what is no truth or no text.
    """
    return _answer(text, truth, why, True)


def wrong(text: str, truth: Any, why: str) -> Answer:
    """A wrong answer. truth: False, as the cell has computed it. why: the misconception behind it, named.

    Raises QuestionError where truth is True, TypeError and ValueError for what is no truth or no text.
    """
    return _answer(text, truth, why, False)


def choice(question: str, *answers: Answer) -> Question:
    """A question with two to five answers, at least one of them right and one wrong; in the order given.

    Text may hold $math$ and `code`. Raises ValueError for another number of answers, for two alike, and where none is right
    or none is wrong; TypeError for what is no Answer.
    """
    _text("question", question)
    if not 2 <= len(answers) <= 5:
        raise ValueError(f"answers holds {len(answers)}; it must be 2 to 5")
    for one in answers:
        if not isinstance(one, Answer):
            raise TypeError(f"answers holds {one!r}; it must hold what right(…) and wrong(…) return")
    texts = [a.text.strip() for a in answers]
    if len(set(texts)) < len(texts):
        raise ValueError(f"answers is {texts}; no two of them may be alike")
    if len({a.true for a in answers}) < 2:
        raise ValueError(f"answers is {texts}; one of them must be right, and one wrong")
    many = sum(a.true for a in answers) > 1
    rows = "".join(_row(_id(question), k, a, many) for k, a in enumerate(answers))
    told = '<p class="tl-many">More than one answer is right.</p>' if many else ""
    done = '<div aria-live="polite"><p class="tl-all">These are all that are right.</p></div>' if many else ""
    return Question(question, tuple(answers), told + rows + done)


def number(
    question: str,
    value: Any,
    why: str,
    wrong: Sequence[tuple[Any, str]],
    *,
    absolute: int | float | None = None,
    relative: int | float | None = None,
    unit: str = "",
) -> Question:
    """A question whose answer is a number: right within absolute, |x − value| ≤ absolute, or relative · |value|.

    value: of Python, NumPy or torch. wrong: values that readers typically reach, each with what has gone wrong; recognised
    within the same tolerance. A reader may write 1234.5, 1,234.5, 0,5, 1e-3 or 2/3. Raises ValueError for a number that is
    not finite, for no tolerance or two, for a tolerance that takes a wrong value for the right one or cannot tell two wrong
    ones apart, and for a missing text; TypeError for what is no number or text.
    """
    _text("question", question)
    _text("why", why)
    _text("unit", unit, empty=True)
    kind, size = _tolerance(absolute, relative)
    values = [("value", value, why), *(("wrong", v, said) for v, said in wrong)]
    found: list[_Told] = []
    for name, given, told in values:
        v = given.item() if hasattr(given, "item") else given
        arguments.number(name, v)
        _text(name, told)
        if v == 0 and kind == "relative":
            raise ValueError(f"relative is {size}; for the {name} 0 the tolerance must be absolute")
        for other in found:
            if other.low <= v <= other.high:
                raise ValueError(
                    f"wrong holds {v}; with the {kind} tolerance {size} it must be told from {other.value}"
                )
        width = size * abs(v) if kind == "relative" else size
        text = f"{_written(float(v), width)}{f' {unit}' if unit else ''}"
        found.append(_Told(float(v), v - width, v + width, Answer(text, name == "value", told)))
    return Question(question, tuple(one.said for one in found), _entry(_id(question), unit, found))


def _answer(text: str, truth: Any, why: str, called: bool) -> Answer:
    _text("text", text)
    _text("why", why)
    value = truth.item() if hasattr(truth, "item") else truth  # NumPy's and torch's booleans
    if not isinstance(value, bool):
        raise TypeError(f"truth is {truth!r}; it must be True or False")
    if value != called:
        raise QuestionError(
            f"the answer {text!r} is called {'right' if called else 'wrong'}; the computation says {value}"
        )
    return Answer(text, called, why)


def _text(name: str, value: Any, empty: bool = False) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; it must be text")
    if not (empty or value.strip()):
        raise ValueError(f"{name} is {value!r}; it must not be empty")


def _tolerance(absolute: int | float | None, relative: int | float | None) -> tuple[str, float]:
    given = {name: size for name, size in (("absolute", absolute), ("relative", relative)) if size is not None}
    if len(given) != 1:
        raise ValueError(f"absolute is {absolute}, relative is {relative}; one of the two must be given")
    ((kind, size),) = given.items()
    arguments.number(kind, size, "at least 0 and finite" if kind == "absolute" else "positive and finite")
    return kind, float(size)


def _id(question: str) -> str:
    return f"question-{hashlib.sha256(question.encode()).hexdigest()[:10]}"


def _written(value: float, width: float) -> str:
    """The value, to one digit more than its tolerance asks for."""
    digits = max(0, 1 - math.floor(math.log10(width))) if width else 15
    text = f"{value:.3g}" if digits > 7 and width else f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text).replace("-", "−")


def _marked(text: str) -> str:
    """Text with $math$ and `code` as HTML; math in the form that Sphinx gives it, which the page and JupyterLab typeset."""

    def mark(match: re.Match[str]) -> str:
        tex, code = match.groups()
        if tex is not None:
            return f'<span class="math notranslate nohighlight">\\({tex}\\)</span>'
        return f'<code class="literal notranslate">{code}</code>'

    return _MARKS.sub(mark, html.escape(text, quote=False))


def _why(answer: Answer, attributes: str = "", before: str = "", letter: str = "") -> str:
    kind, word = ("tl-yes", "Right.") if answer.true else ("tl-no", "No.")
    return f'<p class="tl-why {kind}"{attributes}><b{letter}>{word}</b> {before}{_marked(answer.why)}</p>'


def _row(name: str, k: int, answer: Answer, many: bool) -> str:
    """One answer: its button, its label, and the explanation that appears when it is chosen."""
    kind, at, letter = "checkbox" if many else "radio", f"{name}-{k + 1}", f' data-letter="{"ABCDE"[k]}"'
    button = f'<input type="{kind}" name="{name}" id="{at}" autocomplete="off" {_KEYS}>'
    label = f'<label for="{at}"{letter}>{_marked(answer.text)}</label>'
    said = f'<div aria-live="polite">{_why(answer, letter=letter)}</div>'
    return f'<div class="tl-answer {"tl-true" if answer.true else "tl-false"}">{button}{label}{said}</div>'


def _entry(name: str, unit: str, found: Sequence[_Told]) -> str:
    """The field for a number, a button, the answer to be opened, and every explanation with the range that it is for."""
    label = f"Your answer, in {html.escape(unit)}" if unit else "Your answer"
    field = f'<input type="text" inputmode="decimal" id="{name}-number" autocomplete="off" spellcheck="false" {_KEYS}>'
    button = f'<button type="button" onclick="this.closest(\'fieldset\').onchange()" {_KEYS}>Check</button>'
    row = f'<div class="tl-entry"><label for="{name}-number">{label}</label>{field}{button}</div>'
    opened = f"<details><summary {_KEYS}>Show the answer</summary></details>"
    each = "".join(
        _why(one.said, f' data-low="{one.low!r}" data-high="{one.high!r}"', f"{one.said.text}: ") for one in found
    )
    other = '<p class="tl-why tl-no tl-other"><b>No.</b> It is another number. Try again, or open the answer.</p>'
    unread = '<p class="tl-why tl-unread">This is no number. Write 1234.5, 0.5, 1e-3 or 2/3.</p>'
    return f'{row}{opened}<div class="tl-said" aria-live="polite">{each}{other}{unread}</div>'


def _script(body: str) -> str:
    """The attributes that make a number's field answer: the script itself, which needs no other file."""
    if "tl-entry" not in body:
        return ""
    on = {
        "onchange": static("question.js"),
        "oninput": "for (const said of this.querySelectorAll('.tl-on')) said.classList.remove('tl-on')",
        "onkeydown": "if (event.key === 'Enter' && event.target.type === 'text') this.onchange()",  # JupyterLab stops Enter's own
    }
    return "".join(f' {name}="{html.escape(script)}"' for name, script in on.items())
