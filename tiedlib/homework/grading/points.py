"""Points and comments that a person gives, in `points.csv`: read at every run, added to, never overwritten.

A row is a submission, a problem, points, a comment. Rows for the problems that no program grades are made with their points left
empty; a row for any other problem takes the place of the check's points. Spreadsheets may write the file: with semicolons, with a
byte order mark, in UTF-16, with decimal commas.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["COLUMNS", "HandPoints"]

COLUMNS = ("submission", "problem", "points", "comment")
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


@dataclass
class HandPoints:
    """rows: of the file, as the teacher left them. open: the problems that a person grades, and what they are worth."""

    rows: list[dict[str, str]] = field(default_factory=list)
    open: dict[str, int | float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, open_: dict[str, int | float]) -> HandPoints:
        """What stands in the file, nothing where there is none. Raises ValueError with the line for points that are no number, a
        row without a submission or a problem, two rows for one problem, and a head that lacks a column."""
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return cls([], dict(open_))
        coding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8")
        try:
            text = raw.decode(coding)
        except UnicodeDecodeError:
            text = raw.decode("cp1252", errors="replace")  # what a spreadsheet on Windows calls CSV
        head = text.partition("\n")[0]
        separator = max(",;\t", key=head.count)
        lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
        if missing := [name for name in COLUMNS if name not in (lines.fieldnames or [])]:
            raise ValueError(f"{path}, line 1: there is no column {missing[0]!r}; it must have {', '.join(COLUMNS)}")
        rows: list[dict[str, str]] = []
        seen: dict[tuple[str, str], int] = {}
        for line in lines:
            row = {
                key: (value or "").strip()
                for key, value in line.items()
                if isinstance(key, str) and not isinstance(value, list)
            }
            if not any(row.values()):
                continue
            row["submission"] = row["submission"].removeprefix("'")
            where, key = f"{path}, line {lines.line_num}", (row["submission"], row["problem"])
            for name in ("submission", "problem"):
                if not row[name]:
                    raise ValueError(f"{where}: {name} is empty; every row needs one")
            _number(row["points"], where)
            if key in seen:
                raise ValueError(f"{where}: {key[0]} and {key[1]} stand in line {seen[key]} too; one row for each")
            seen[key] = lines.line_num
            rows.append(row)
        return cls(rows, dict(open_))

    def add(self, submissions: Iterable[str]) -> None:
        """Rows for the open problems of submissions that have none."""
        there = {(row["submission"], row["problem"]) for row in self.rows}
        for name in submissions:
            for problem in self.open:
                if (name, problem) not in there:
                    self.rows.append({"submission": name, "problem": problem, "points": "", "comment": ""})

    def applied(self, result: dict[str, Any]) -> dict[str, Any]:
        """A result with these points and comments; its score and maximum count the open problems."""
        questions = {name: dict(one) for name, one in result["questions"].items()}
        for problem, most in self.open.items():
            questions.setdefault(problem, {"points": None, "maximum": most, "message": "", "cases": []})
        for row in self.rows:
            if row["submission"] == result["file"] and row["problem"] in questions:
                one = questions[row["problem"]]
                one["comment"] = row["comment"]
                if row["points"]:
                    one |= {"points": _number(row["points"], ""), "by hand": True}
        score, maximum = (sum(one[key] or 0 for one in questions.values()) for key in ("points", "maximum"))
        return {**result, "questions": questions, "score": round(score, 6), "maximum": round(maximum, 6)}

    def text(self) -> str:
        """The file anew: every row that was there, in its order and with all its columns, and the new ones."""
        more = [key for row in self.rows for key in row if key not in COLUMNS]
        out = io.StringIO()
        writer = csv.DictWriter(out, [*COLUMNS, *dict.fromkeys(more)], lineterminator="\n", restval="")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: f"'{v}" if k == "submission" and v[:1] in "=+-@" else v for k, v in row.items()})
        return out.getvalue()


def _number(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e6:
        raise ValueError(f"{where}: points is {text!r}; it must be a number of at least 0, or empty")
    return value
