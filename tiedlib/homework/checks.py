"""Checks that teach: what a student wrote is compared with a reference, and a wrong answer is told which mistake it is.

A check holds the right answer, in its own words, and the wrong ones that are met most: each `Mistake` is the program that
somebody with that misconception would have written. Where the student's numbers are those of a mistake, the check names it;
where they are nobody's, it shows input, answer and difference.

All raise `Wrong`, whose text is for the student. Comparisons are relative to the largest magnitude of the reference.
"""

from __future__ import annotations

import hashlib
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from tiedlib.homework.guard import Forbidden, forbidden

__all__ = [
    "Mistake",
    "Wrong",
    "check_choice",
    "check_function",
    "check_number",
    "check_returns",
    "check_that",
    "numbers",
]


class Wrong(AssertionError):  # noqa: N818 - it is a verdict, not an error of the program
    """An answer that is not right. str() is a sentence for the student."""


@dataclass(frozen=True)
class Mistake:
    """A misconception. wrong: what it makes of the same arguments. says: what to tell; a callable gets (answer, right one)."""

    wrong: Callable[..., Any]
    says: str | Callable[[Any, Any], str]

    def words(self, got: Any, expected: Any) -> str:
        return self.says if isinstance(self.says, str) else self.says(got, expected)


def numbers(secret: str | None, what: str) -> torch.Generator:
    """The source of a check's numbers: the same for all in public checks (secret None), a course's own in hidden ones."""
    digest = hashlib.sha256(f"{secret}\n{what}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def check_function(
    name: str,
    answer: Any,
    reference: Callable[..., Any],
    cases: Iterable[tuple[Any, ...]],
    *,
    mistakes: Sequence[Mistake] = (),
    forbid: Sequence[Any] = (),
    rtol: float = 1e-5,
    show: bool = True,
    in_place: bool = False,
) -> None:
    """answer(*case) = reference(*case) for every case, or the mistake that it is.

    mistakes are tried in order, each must explain all cases. forbid: functions, classes and modules that may not be
    called (see `guard`). show: whether a message may hold a case's numbers (a hidden check has show=False). in_place: whether the
    arguments may be changed. Numbers, tensors, and tuples, lists and dicts of them can be compared.
    """
    if not callable(answer):
        what = "is not defined yet" if answer is None or answer is ... else f"is {_short(answer)}, not a function"
        raise Wrong(f"{name} {what}: run the cell that defines it")
    cases = [tuple(case) for case in cases]
    got = [_call(name, answer, case, forbid, show, in_place) for case in cases]
    right = [reference(*deepcopy(case)) for case in cases]
    if all(_same(g, r, rtol) for g, r in zip(got, right, strict=True)):
        return
    for mistake in mistakes:
        wrong = [_quiet(mistake.wrong, case) for case in cases]
        if all(_same(g, w, rtol) for g, w in zip(got, wrong, strict=True)):
            first = next(i for i in range(len(cases)) if not _same(got[i], right[i], rtol))
            raise Wrong(f"{name}: {mistake.words(got[first], right[first])}")
    worst = next(i for i in range(len(cases)) if not _same(got[i], right[i], rtol))
    _explain(name, cases[worst], got[worst], right[worst], show)


def check_returns(name: str, answer: Any, example: tuple[Any, ...], count: int) -> None:
    """For a function whose result is fed back into it: answer(*example) is a tuple of count values, before all else is tried."""
    if not callable(answer):
        check_function(name, answer, lambda: None, [])
    got = _call(name, answer, example, (), True, True)
    if not isinstance(got, (tuple, list)) or len(got) != count or any(part is None or part is ... for part in got):
        raise Wrong(f"{name} returns {_short(got)}; it must return {count} values, in a tuple")


def check_number(
    name: str,
    answer: Any,
    expected: float,
    *,
    rtol: float = 1e-3,
    mistakes: Sequence[tuple[float, str]] = (),
    show: bool = True,
) -> None:
    """The number `expected`, within rtol of its size; mistakes: pairs of a wrong number and what to say to it."""
    value = answer.item() if isinstance(answer, Tensor) and answer.numel() == 1 else answer
    if answer is None or answer is ...:
        raise Wrong(f"{name} has no value yet")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Wrong(f"{name} is {_short(answer)}; it must be a number")
    if not math.isfinite(value):
        raise Wrong(f"{name} is {value}; a finite number is wanted")
    if abs(value - expected) <= rtol * abs(expected):
        return
    for wrong, says in mistakes:
        if abs(value - wrong) <= rtol * max(abs(wrong), 1e-30):
            raise Wrong(f"{name}: {says}")
    raise Wrong(f"{name} is {value:.6g}, which is not right" + (f" ({_apart(value, expected)})" if show else ""))


def check_choice(name: str, answer: Any, right: str, says: Mapping[str, str], *, show: bool = True) -> None:
    """One of the keys of says, the right one; for another, what says holds against it. show=False: only whether it is one. It is
    then said to be recorded, and not to be right."""
    if answer is None or answer is ... or answer == "":
        raise Wrong(f"{name} has no answer yet; it is one of {', '.join(sorted(says))}")
    if not isinstance(answer, str) or answer.strip() not in says:
        raise Wrong(f"{name} is {_short(answer)}; it must be one of {', '.join(sorted(says))}")
    if show and answer.strip() != right:
        raise Wrong(f"{name}: {says[answer.strip()]}")
    if not show:  # otter goes on to say that all has passed
        print(
            f"{name} = {answer.strip()!r} is recorded. Whether it is right is not checked here: you learn it after grading."
        )


def check_that(true: bool, says: str) -> None:
    """The condition, or what to say where it does not hold."""
    if not true:
        raise Wrong(says)


def _call(
    name: str, answer: Callable[..., Any], case: tuple[Any, ...], forbid: Sequence[Any], show: bool, in_place: bool
) -> Any:
    """The student's answer for one case, with their errors put into words."""
    given = deepcopy(case)
    try:
        with forbidden(*forbid, within=answer):
            result = answer(*given)
    except Forbidden as error:
        raise Wrong(f"{name}: {error}") from None
    except Exception as error:
        own = [
            f for f in traceback.extract_tb(error.__traceback__) if "ipykernel" in f.filename or f.filename[:1] == "<"
        ]
        line = f" (line {own[-1].lineno} of the cell: {own[-1].line})" if own else ""
        inputs = f" for {_short(case)}" if show else ""
        raise Wrong(f"{name} raised {type(error).__name__}: {error}{line}{inputs}") from None
    if result is None or result is ...:
        raise Wrong(f"{name} returns nothing yet: write what it must `return`")
    if not _plain(result):
        raise Wrong(f"{name} returns a class of its own; return plain tensors and numbers")
    if not in_place and not _untouched(given, case):
        raise Wrong(f"{name} changes its arguments in place; make new tensors (x = x + y, not x += y) instead")
    return result


def _quiet(wrong: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    """What a mistake makes of a case; where it can't be computed, nothing that an answer could equal."""
    try:
        return wrong(*deepcopy(case))
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError):
        return object()


def _untouched(given: Any, case: Any) -> bool:
    """Bit for bit what it was."""
    if isinstance(case, Tensor):
        return given.shape == case.shape and bool(((given == case) | (given.isnan() & case.isnan())).all())
    if isinstance(case, (tuple, list)):
        return len(given) == len(case) and all(map(_untouched, given, case))
    if isinstance(case, Mapping):
        return given.keys() == case.keys() and all(_untouched(given[key], case[key]) for key in case)
    return True


def _plain(value: Any) -> bool:
    """No subclass of Tensor, which could call itself equal to anything."""
    if isinstance(value, (tuple, list)):
        return all(map(_plain, value))
    if isinstance(value, Mapping):
        return all(map(_plain, value.values()))
    return not isinstance(value, Tensor) or type(value) in (Tensor, torch.nn.Parameter)


def _same(got: Any, want: Any, rtol: float) -> bool:
    """Equal in structure and, within rtol of the largest magnitude, in numbers."""
    if isinstance(want, Mapping):
        return (
            isinstance(got, Mapping) and got.keys() == want.keys() and all(_same(got[k], want[k], rtol) for k in want)
        )
    if isinstance(want, (tuple, list)):
        return (
            isinstance(got, (tuple, list))
            and len(got) == len(want)
            and all(_same(g, w, rtol) for g, w in zip(got, want, strict=True))
        )
    if isinstance(want, (Tensor, int, float)) and not isinstance(want, bool):
        return _close(got, want, rtol)
    return bool(type(got) is type(want) and got == want) or (callable(want) and callable(got))


def _close(got: Any, want: Tensor | int | float, rtol: float) -> bool:
    if not isinstance(got, (Tensor, int, float)) or isinstance(want, Tensor) > isinstance(got, Tensor):
        return False
    a, b = torch.as_tensor(got).detach(), torch.as_tensor(want).detach()
    a, b = a.double(), b.double()
    if not torch.equal(a.isnan(), b.isnan()) or not torch.equal(a.isinf(), b.isinf()):  # of other shapes, never equal
        return False
    finite = b.isfinite()
    scale = b[finite].abs().max().item() if finite.any() else 0.0
    return bool(((a - b)[finite].abs() <= rtol * scale + 1e-12).all() and torch.equal(a[b.isinf()], b[b.isinf()]))


def _explain(name: str, case: tuple[Any, ...], got: Any, right: Any, show: bool) -> NoReturn:
    """What can be said of an answer that is no known mistake: its kind, its shape, and in a public check its numbers."""
    if isinstance(right, Tensor):
        if not isinstance(got, Tensor):
            raise Wrong(f"{name} returns {_short(got)}; it must be a tensor of shape {tuple(right.shape)}")
        if got.shape != right.shape:
            raise Wrong(f"{name} returns shape {tuple(got.shape)}; it must be {tuple(right.shape)}")
        if bool(got.isnan().any()) and not bool(right.isnan().any()):
            raise Wrong(f"{name} returns NaN" + (f" for {_short(case)}" if show else " for a case of the hidden check"))
    if isinstance(right, (tuple, list)) and not (isinstance(got, (tuple, list)) and len(got) == len(right)):
        raise Wrong(f"{name} returns {_short(got)}; it must be {len(right)} values, in a tuple")
    if show:
        raise Wrong(f"{name} is not right yet. For {_short(case)} it gives {_short(got)}; right is {_short(right)}")
    raise Wrong(f"{name} is right on the public numbers, perhaps, but not on the hidden ones: does it hold in general?")


def _apart(value: float, expected: float) -> str:
    if value == 0 or expected == 0:
        return "one of the two is zero"
    ratio = value / expected
    return "the sign is wrong" if ratio < 0 else f"it is {ratio:.3g} times the right one"


def _short(value: Any) -> str:
    """A value in one line, as a student reads it."""
    if isinstance(value, Tensor):
        if value.numel() > 6:
            return f"a tensor of shape {tuple(value.shape)} starting {_short(value.detach().flatten()[:3])[:-1]}, …]"
        return (
            str([float(f"{x:.4g}") for x in value.detach().flatten().tolist()])
            if value.dim()
            else f"{value.item():.5g}"
        )
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(_short(v) for v in value) + ")"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in value.items()) + "}"
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
