"""The command `tiedlib homework`: `build` makes a course from its masters, `grade` grades a folder of submissions."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

from tiedlib.homework.grading.sandbox import Limits

__all__ = ["flags"]


def flags(parser: argparse.ArgumentParser) -> None:
    """Add the actions to the parser of `tiedlib homework`; the flags of limits are the fields of `Limits`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    what = "grade a folder of submissions; the same command again goes on where it stopped"
    grade = actions.add_parser("grade", help=what, description=what, allow_abbrev=False)
    grade.add_argument("autograder", type=Path, metavar="AUTOGRADER", help="the zip that otter assign made")
    grade.add_argument("submissions", type=Path, metavar="FOLDER", help="the notebooks or zips that were handed in")
    grade.add_argument("--out", type=Path, default=Path("grades"), metavar="DIR", help="for results (default: grades)")
    grade.add_argument("--jobs", type=int, default=2, metavar="INT", help="submissions at a time (default: 2)")
    for one in fields(Limits):
        number = int if one.type == "int" else float
        what = f"{one.metadata['help']} (default: {one.default})"
        grade.add_argument(
            f"--{one.name.replace('_', '-')}",
            dest=one.name,
            type=number,
            default=one.default,
            metavar=str(one.type).upper(),
            help=what,
        )
    grade.set_defaults(do=_grade)
    what = "from master notebooks: student versions, autograders, solutions, the teacher's guide"
    build = actions.add_parser("build", help=what, description=what, allow_abbrev=False)
    what = "the master notebooks (default: those of a checkout)"
    build.add_argument("--masters", type=Path, default=Path("book/homework"), metavar="DIR", help=what)
    what = "for what is built (default: _build/homework)"
    build.add_argument("--out", type=Path, default=Path("_build/homework"), metavar="DIR", help=what)
    what = "what the hidden checks draw their numbers from (default: one is made, and kept in DIR/secret.txt)"
    build.add_argument("--secret", metavar="TEXT", help=what)
    build.add_argument("--edition", default="", metavar="NAME", help="a name for what is frozen, such as 2031-autumn")
    what = "the library, for an autograder that has no address to install it from"
    build.add_argument("--wheel", type=Path, metavar="FILE", help=what)
    build.add_argument("--no-verify", action="store_true", help="do not run the solutions")
    build.set_defaults(do=_build)


def _build(options: argparse.Namespace) -> int:
    from tiedlib.homework.course import build

    names = build(
        options.masters,
        options.out,
        secret=options.secret,
        edition=options.edition,
        wheel=options.wheel,
        verify=not options.no_verify,
        report=lambda line: print(line, flush=True),
    )
    print(f"{len(names)} homeworks in {options.out}: student, autograder, solutions, guide.md")
    return 0


def _grade(options: argparse.Namespace) -> int:
    from tiedlib.homework.grading.results import grade

    limits = Limits(**{one.name: getattr(options, one.name) for one in fields(Limits)})
    found = grade(
        options.autograder,
        options.submissions,
        options.out,
        jobs=options.jobs,
        limits=limits,
        report=lambda line: print(line, flush=True),
    )
    print(f"\n{_table(found)}")
    for name, done in next((one["protections"] for one in found if one["protections"]), {}).items():
        if "not" in done:
            print(f"{name} {done}")
    print(f"{options.out / 'grades.csv'}  {options.out / 'results'}")
    return 1 if any(one["status"] == "not graded" for one in found) else 0


def _table(found: list[dict[str, Any]]) -> str:
    """A line for each submission, and how many ended in which way."""
    width = max([len(one["file"]) for one in found] + [10])
    lines = [f"{one['file']:{width}}  {one['score']:>6g} of {one['maximum']:g}  {one['status']}" for one in found]
    counts = Counter(one["status"] for one in found)
    return "\n".join([*lines, "", ", ".join(f"{count} {status}" for status, count in counts.most_common())])
