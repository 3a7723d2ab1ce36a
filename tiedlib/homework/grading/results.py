"""Grade a folder of submissions: a process each, one JSON file and one row of `grades.csv` for every one of them.

Nothing is lost: a result is written whole or not at all as soon as it is there, and the same command goes on with what is
missing after Ctrl-C, a crash or a power cut. A result is known by the bytes of the submission, the autograder and the
limits, so that a changed one is graded anew. `grades.csv` is the same for the same submissions: time and
memory, which vary, stand in the JSON files only.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib.util
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiedlib._arguments import whole
from tiedlib.homework.grading.examine import describe, examine
from tiedlib.homework.grading.hidden import without
from tiedlib.homework.grading.kernel import Stopped
from tiedlib.homework.grading.points import HandPoints
from tiedlib.homework.grading.sandbox import Limits, spaces
from tiedlib.homework.grading.submissions import (
    LARGEST,
    Autograder,
    OtherHomework,
    Unreadable,
    handed_in,
    read_autograder,
    read_submission,
)
from tiedlib.homework.grading.surroundings import remove, temporary
from tiedlib.lab.files import locked, write_atomic
from tiedlib.lab.interrupts import ctrl_c

__all__ = ["STATUSES", "grade"]

VERSION = 2  # raised when the same submission would be graded differently
STATUSES = {
    "graded": "all cells were run and checked",
    "time": "some code ran for too long and was stopped; everything else was graded",
    "memory": "some code asked for too much memory; everything else was graded",
    "processes": "some code started too many processes; everything else was graded",
    "disk": "some code wrote too much to the disk; everything else was graded",
    "crashed": "some code ended the whole Python process; what could be run without it was graded",
    "forged": "a check was tampered with; its question gives no points",
    "unreadable": "there was no notebook to grade",
    "other homework": "the notebook belongs to another homework",
    "not graded": "the grader itself failed here; the same command tries again",
}
_NEEDS = ("otter", "ipykernel", "jupyter_client", "zmq")


def grade(
    autograder: Path,
    submissions: Path,
    out: Path,
    *,
    jobs: int = 2,
    limits: Limits | None = None,
    report: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Grade every file of the folder `submissions`, and write `out/grades.csv` and `out/results/<file>.json`.

    autograder  the zip that `otter assign` made
    submissions a folder with a notebook, a zip or a folder for each student
    jobs        submissions at a time
    report      gets a line for each submission

    `out/points.csv` belongs to the teacher: points for the problems that a person grades, points in the place of a check's, and
    comments. It is read at each run, gets rows for what is new, and loses none.

    Returns the results in the order of the files' names. Raises ValueError or TypeError for arguments that cannot be, a folder
    without one readable submission and a points.csv with a wrong line,
    CheckpointError where another process grades into `out`, KeyboardInterrupt after Ctrl-C, when what is finished is kept.
    """
    limits = _checked(submissions, jobs, limits)
    read = read_autograder(autograder)
    with locked(out), ctrl_c() as stop, _private(out) as base:
        files = sorted(
            (p for p in submissions.iterdir() if not p.name.startswith((".", "__"))), key=lambda p: os.fsencode(p.name)
        )
        points = HandPoints.read(out / "points.csv", read.open)
        report(
            f"{len(files)} submissions; " + ", ".join(spaces())
            if spaces()
            else f"{len(files)} submissions; no namespaces here"
        )
        asked = _asked(read, limits, out, base)
        one = _Grader(read, asked, limits, out / "results", base, stop.is_set)
        results = _all(one, files, jobs, report)
        finished = [results[path.name] for path in files if path.name in results]
        if stop.is_set() or len(finished) < len(files):
            raise KeyboardInterrupt(f"stopped; the same command goes on with what is missing in {out}")
        if not any(one["status"] not in ("unreadable", "other homework") for one in finished):
            raise ValueError(f"submissions is {submissions}; it holds no notebook of this homework that can be read")
        points.add(one["file"] for one in finished)
        finished = [points.applied(one) for one in finished]
        write_atomic(out / "points.csv", points.text().encode())
        write_atomic(out / "grades.csv", _csv(finished, [*asked, *read.open]).encode())
    return finished


def _checked(submissions: Path, jobs: int, limits: Limits | None) -> Limits:
    whole("jobs", jobs)
    if not submissions.is_dir():
        raise ValueError(f"submissions is {submissions}; it must be a folder")
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise ValueError(f"there is no module {missing[0]} to grade with: in a checkout, pip install '.[homework]'")
    return limits or Limits()


@contextlib.contextmanager
def _private(out: Path) -> Any:
    """A folder for the submissions' private folders; one that a killed grader has left behind is removed first."""
    note = out / ".private"
    with contextlib.suppress(OSError):
        left = Path(note.read_text(encoding="utf-8"))
        ours = not hasattr(os, "getuid") or left.lstat().st_uid == os.getuid()
        if left.name.startswith("tiedlib-grade-") and left.parent == Path(temporary()) and ours:
            remove(left)
    base = Path(tempfile.mkdtemp(prefix="tiedlib-grade-", dir=temporary()))
    try:
        write_atomic(note, str(base).encode())
        yield base
    finally:
        remove(base)
        note.unlink(missing_ok=True)


def _asked(autograder: Autograder, limits: Limits, out: Path, base: Path) -> dict[str, Any]:
    """What the autograder asks; kept, because it costs the time of a submission to learn it."""
    path = out / "autograder.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["digest"] == autograder.digest:
            return dict(kept["asked"])
    asked = describe(autograder, limits, base)
    write_atomic(path, _json({"digest": autograder.digest, "asked": asked}))
    return asked


class _Grader:
    """Grades one file, or finds that it is graded."""

    def __init__(
        self,
        autograder: Autograder,
        asked: dict[str, Any],
        limits: Limits,
        results: Path,
        base: Path,
        stop: Callable[[], bool],
    ) -> None:
        self.autograder, self.asked, self.limits, self.results = autograder, asked, limits, results
        self.base, self.stop = base, stop

    def __call__(self, path: Path) -> tuple[dict[str, Any], bool]:
        """The result, and whether it was there already. Raises Stopped after Ctrl-C."""
        if self.stop():
            raise Stopped
        file, key = self.results / f"{file_name(path.name)}.json", self._key(path)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            there = json.loads(file.read_text(encoding="utf-8"))
            if there["key"] == key and there["status"] != "not graded":
                return there, True
        result = without({"file": shown(path.name), "key": key, **self._examine(path)}, self.autograder.hidden_words)
        write_atomic(file, _json(result))
        return result, False

    def _key(self, path: Path) -> str:
        with contextlib.suppress(OSError):
            if not path.is_symlink():
                files = handed_in(path) if path.is_dir() else [path]
                content = [
                    hashlib.sha256(one.read_bytes()).hexdigest() for one in files if one.stat().st_size <= LARGEST
                ]
                parts = [VERSION, path.suffix.lower(), content, self.autograder.digest, asdict(self.limits)]
                return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return "none"

    def _examine(self, path: Path) -> dict[str, Any]:
        try:
            submission = read_submission(path, self.autograder)
            return examine(submission, self.autograder, self.asked, self.limits, base=self.base, stop=self.stop)
        except Stopped:
            raise
        except Unreadable as error:
            return self._nothing("unreadable", str(error))
        except OtherHomework as error:
            return self._nothing("other homework", str(error))
        except Exception as error:  # of ours: it must not stop the other submissions
            return self._nothing("not graded", f"{type(error).__name__}: {error}"[:500])

    def _nothing(self, status: str, reason: str) -> dict[str, Any]:
        maxima = {q: sum(case["points"] for case in about["cases"]) for q, about in self.asked.items()}
        questions = {q: {"points": 0, "maximum": most, "message": reason, "cases": []} for q, most in maxima.items()}
        common = {"status": status, "reason": reason, "score": 0, "maximum": round(sum(maxima.values()), 6)}
        return {**common, "questions": questions, "seconds": 0.0, "memory": 0, "protections": {}}


def _all(one: _Grader, files: Iterable[Path], jobs: int, report: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Grade the files, `jobs` at a time; after Ctrl-C those that are finished."""
    results: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting_for = {pool.submit(one, path): path for path in files}
        waiting: set[Future[tuple[dict[str, Any], bool]]] = set(waiting_for)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                with contextlib.suppress(Stopped):
                    result, before = future.result()
                    results[waiting_for[future].name] = result
                    took = "graded before" if before else f"{result['seconds']:.1f} s"
                    report(
                        f"{result['file']}: {result['score']:g} of {result['maximum']:g}, {result['status']}, {took}"
                    )
    return results


def shown(name: str) -> str:
    """A file's name as text: what is no UTF-8, and what would break a line, is written out."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def file_name(name: str) -> str:
    """A name for the result of this submission that every file system takes, and another for every submission."""
    if len(os.fsencode(name)) <= 150 and name == shown(name) and not set(name) & set('<>:"/\\|?*'):
        return name
    plain = re.sub(r"[^\w.() -]", "_", shown(name)).encode()[:100].decode(errors="ignore")
    return f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def _points(value: int | float | None) -> str:
    """Empty where nobody has given points yet."""
    return "" if value is None else f"{value:g}"


def _csv(results: Iterable[dict[str, Any]], questions: list[str]) -> str:
    """A row for every submission. A text that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "status", "score", "maximum", *questions, "reason"])
    for result in results:
        points = [_points(result["questions"].get(q, {}).get("points")) for q in questions]
        row = [
            result["file"],
            result["status"],
            f"{result['score']:g}",
            f"{result['maximum']:g}",
            *points,
            result["reason"],
        ]
        writer.writerow([f"'{cell}" if cell[:1] in "=+-@\t\r" and cell else cell for cell in row])
    return text.getvalue()
