"""One submission, graded: its cells and the checks of the autograder in a sandbox, and every question's points with a reason.

A cell that is over its time, asks for too much memory or fails is left as it stopped, and the next one follows. A cell that takes
the whole process along is left out, and the others are run anew in a new process, three times at most: who loops for ever in
question 3 keeps the points of questions 1 and 2.

A question is checked where the notebook checks it, and, unless it has all its points by then, once more after the last cell; the
better of the two counts. So a check cell that was edited or deleted changes nothing where a notebook gives each answer a name
of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from tiedlib.homework.grading.kernel import Kernel, Reply
from tiedlib.homework.grading.sandbox import Limits, Sandbox
from tiedlib.homework.grading.submissions import Autograder, Submission

__all__ = ["describe", "examine"]

_AGAIN = 3  # new processes after the first
_FOR_CELLS = 0.7  # of the time; the rest is for the checks
_PARTS = ("passed", "blank", "messages")
_SAYS = {
    "time": "{where} ran for more than {seconds:g} seconds and was stopped",
    "hung": "{where} ran for more than {seconds:g} seconds, could not be interrupted, and was left out",
    "memory": "{where} asked for more memory than the {memory} MB allowed",
    "processes": "{where} started more than the {processes} processes allowed, and was left out",
    "disk": "{where} wrote more than the {disk} MB, ten thousand files or hundred levels allowed, and was left out",
    "crashed": "{where} ended the whole Python process, and was left out",
}


@dataclass
class _State:
    """What is known so far, over all attempts."""

    best: dict[str, dict[str, Any]] = field(default_factory=dict)  # question → answer of `inside.check`
    events: list[tuple[str, str]] = field(default_factory=list)  # kind, sentence
    left_out: set[int | str] = field(default_factory=set)  # cells by number, questions by name
    failed: dict[int, str] = field(default_factory=dict)  # cell → name of the exception
    replaced: set[str] = field(default_factory=set)
    why: dict[str, str] = field(default_factory=dict)  # question → why its check did not end
    protections: dict[str, str] = field(default_factory=dict)
    memory: float = 0.0


def describe(autograder: Autograder, limits: Limits, base: Path | None = None) -> dict[str, Any]:
    """What the autograder asks, learned by grading an empty notebook: question → name, cases with their points, and which
    cases pass without any work. Raises ValueError for tests that do not run, SandboxError where no process could be made."""
    state = _State()
    _attempts(Submission("empty.ipynb"), autograder, limits, state, base, lambda: False, {})
    if missing := [q for q in autograder.questions if q not in state.best]:
        why = state.why.get(missing[0]) or "; ".join(sentence for _, sentence in state.events)
        raise ValueError(f"autograder has a test for {missing[0]} that does not run on an empty notebook: {why}")
    return {q: {**state.best[q]["about"], "blank": state.best[q]["blank"]} for q in autograder.questions}


def examine(
    submission: Submission,
    autograder: Autograder,
    asked: dict[str, Any],
    limits: Limits,
    *,
    base: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Grade one submission: status, reason, score, maximum, questions, seconds, memory in MB, protections.

    asked: from `describe`. Points are counted here, from what the autograder says a case is worth. Raises Stopped when stop()
    is true, SandboxError where no process could be made.
    """
    begin, state = time.monotonic(), _State()
    _attempts(submission, autograder, limits, state, base, stop, asked)
    questions = {q: _points(about, state.best.get(q), state.why.get(q, "")) for q, about in asked.items()}
    forged = [q for q, one in questions.items() if one.pop("forged")]
    events = list(dict.fromkeys(state.events))
    if forged:
        events.insert(0, ("forged", f"the check of {', '.join(forged)} was tampered with and gives no points"))
    notes = [f"cell {cell} stopped with {name}" for cell, name in sorted(state.failed.items())[:5]]
    notes += (
        [f"replaced and put back before the checks: {', '.join(sorted(state.replaced)[:10])}"] if state.replaced else []
    )
    return {
        "status": {"hung": "time"}.get(events[0][0], events[0][0]) if events else "graded",
        "reason": "; ".join([*(sentence for _, sentence in events), *notes]),
        "score": round(sum(one["points"] for one in questions.values()), 6),
        "maximum": round(sum(one["maximum"] for one in questions.values()), 6),
        "questions": questions,
        "seconds": round(time.monotonic() - begin, 1),
        "memory": round(state.memory),
        "protections": state.protections,
    }


def _attempts(
    submission: Submission,
    autograder: Autograder,
    limits: Limits,
    state: _State,
    base: Path | None,
    stop: Callable[[], bool],
    asked: dict[str, Any],
) -> None:
    end = time.monotonic() + limits.seconds
    for _ in range(1 + _AGAIN):
        with Sandbox(limits, base=base) as box:
            state.protections = box.protections
            _lay_out(box.folder, submission, autograder)
            with Kernel(box, autograder.modules, submission.modules, stop) as kernel:
                one = _Attempt(kernel, autograder, limits, state, asked, end)
                whole = one.run(submission)
            state.memory = max(state.memory, box.peak)
        if whole:
            return
        if time.monotonic() > end:
            break
    state.events.append(("crashed", "the notebook could not be run to its end"))


def _lay_out(folder: Path, submission: Submission, autograder: Autograder) -> None:
    """The private folder: the student's files, over them those of the homework, and the notebook."""
    for name, content in {**submission.files, **autograder.files, submission.name: submission.notebook}.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            continue  # a student's file in the way of another, or with a name that this system does not know


@dataclass
class _Attempt:
    """One run through the notebook in one process."""

    kernel: Kernel
    autograder: Autograder
    limits: Limits
    state: _State
    asked: dict[str, Any]
    end: float

    def run(self, submission: Submission) -> bool:
        """Cells and checks; False where the process was lost on the way."""
        cells_end = self.end - (1 - _FOR_CELLS) * self.limits.seconds
        for cell in submission.cells:
            if cell.number in self.state.left_out:
                continue
            if (seconds := min(self.limits.cell_seconds, cells_end - time.monotonic())) <= 0:
                self._event(
                    "time", f"{self.limits.seconds:g} seconds were not enough; cells from {cell.number} on did not run"
                )
                break
            self._seed()
            reply = self.kernel.execute(cell.source, seconds)
            self._say(reply, f"cell {cell.number}", seconds)
            if reply.kind == "error":
                self.state.failed[cell.number] = reply.error.partition(":")[0][:40]
            if not reply.alive:
                self.state.left_out.add(cell.number)
                return False
            if not all(self._check(question) for question in cell.checks):
                return False
        return all(self._check(question) for question in self.autograder.questions)

    def _seed(self) -> None:
        """otter's `seed`: the same random numbers in every cell."""
        seed, variable = self.autograder.config.get("seed"), self.autograder.config.get("seed_variable")
        if seed is not None:
            plain = f"__import__('random').seed({int(seed)}); __import__('numpy').random.seed({int(seed)})"
            self.kernel.execute(f"{variable} = {int(seed)}" if variable else plain, self.limits.cell_seconds)

    def _say(self, reply: Reply, where: str, seconds: float) -> None:
        if reply.kind in _SAYS:
            values = {**vars(self.limits), "where": where, "seconds": seconds}
            left = ", and was left out" if reply.kind == "memory" and not reply.alive else ""
            self._event(reply.kind, _SAYS[reply.kind].format(**values) + left)

    def _event(self, kind: str, sentence: str) -> None:
        self.state.events.append((kind, sentence))

    def _check(self, question: str) -> bool:
        """Check one question and keep the better answer; False where the process was lost."""
        if question in self.state.left_out or _full(self.asked.get(question), self.state.best.get(question)):
            return True
        if self.kernel.box.watch() == "ended":  # by something that a cell has left behind: no fault of this question
            return False
        seconds = max(min(self.limits.cell_seconds, self.end - time.monotonic()), 1.0)
        folder = self.kernel.box.shown / token_hex(8)  # there while the check runs, and not before or after
        for name, content in self.autograder.tests.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        (folder / ".secret").write_text(self.autograder.secret, encoding="utf-8") if self.autograder.secret else None
        try:
            reply, found = self.kernel.check(folder / self.autograder.questions[question], seconds)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._keep(question, reply, found)
        self._say(reply, f"the check of {question}", seconds)
        if not reply.alive:
            self.state.left_out.add(question)
        return reply.alive

    def _keep(self, question: str, reply: Reply, found: dict[str, Any]) -> None:
        try:
            self.state.replaced |= set(map(str, found.get("replaced", [])))
            better = sum(map(bool, found["passed"])) >= sum(self.state.best.get(question, {}).get("passed", [0]))
        except (KeyError, TypeError):
            values = {**vars(self.limits), "where": "your code", "seconds": self.limits.cell_seconds}
            what = _SAYS.get(reply.kind, f"the check gave no answer ({reply.error or reply.kind})").format(**values)
            self.state.why[question] = what
            return
        if better:
            self.state.best[question] = found


def _full(about: dict[str, Any] | None, answer: dict[str, Any] | None) -> bool:
    return bool(about and answer and not _points(about, answer, "")["forged"] and all(answer["passed"]))


def _points(about: dict[str, Any], answer: dict[str, Any] | None, why: str) -> dict[str, Any]:
    """Points, maximum and message of a question. An answer that does not fit what was asked, or that passes
    without any work a case which an empty notebook does not pass, gives none."""
    cases = about["cases"]
    maximum = sum(case["points"] for case in cases)
    nothing = {
        "points": 0,
        "maximum": maximum,
        "message": why or "this question was not reached",
        "cases": [],
        "forged": False,
    }
    if answer is None:
        return nothing
    passed, blank, messages = ([*part] if isinstance(part := answer.get(k), list) else [] for k in _PARTS)
    fits = all(len(part) == len(cases) for part in (passed, blank, messages))
    if not fits or any(now is True and not before for now, before in zip(blank, about["blank"], strict=True)):
        return {**nothing, "message": "the check was tampered with", "forged": True}
    good = [one is True for one in passed]
    points = (
        maximum * all(good)
        if about["all_or_nothing"]
        else sum(c["points"] for c, g in zip(cases, good, strict=True) if g)
    )
    named = [
        {"name": c["name"], "hidden": c["hidden"], "passed": g, "message": "" if g else str(m)[:2000]}
        for c, g, m in zip(cases, good, messages, strict=True)
    ]
    said = [one["message"] for one in named if not one["passed"] and not one["hidden"]]
    hidden = sum(1 for one in named if not one["passed"] and one["hidden"])
    said += [f"{hidden} hidden check{'s' * (hidden > 1)} did not pass"] if hidden else []
    message = "\n".join(said) or ("" if all(good) else why)
    return {"points": round(points, 6), "maximum": maximum, "message": message, "cases": named, "forged": False}
