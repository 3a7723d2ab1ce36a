"""The build of a course: from the master notebooks, what students, graders and teachers get.

    student/<name>.ipynb      no solutions, no hidden checks; opens in Colab and JupyterLab
    autograder/<name>.zip     checks, hidden ones too: Gradescope takes it, and so does `tiedlib homework grade`
    solutions/<name>.ipynb    for the teacher
    guide.md                  the teacher's guide
    edition.json              versions and hashes, and the fingerprint of the secret that the hidden checks draw from
    secret.txt                that secret, where it was not given: whoever has it can make the same autograder again

otter-grader's `assign` does the splitting. Files are written anew in a folder beside the old one, and take its place when all
is there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import tiedlib
from tiedlib.homework.start import packed

__all__ = ["PLACEHOLDER", "Problem", "build", "problems", "solution_lines"]

PLACEHOLDER = "COURSE SECRET"  # in the hidden test cells of a master
_MARK = re.compile(r"# (BEGIN|END) (ASSIGNMENT|QUESTION|SOLUTION|PROMPT|TESTS)")
_KEPT = "secret.txt"
_MAKES = re.compile(r"import otter\s+grader = otter\.Notebook\([^)]*\)")  # what the first cell of a master ends with


@dataclass(frozen=True)
class Problem:
    """A question of a master. points: what it is worth; manual: a person grades it."""

    name: str
    title: str
    points: float
    manual: bool


def build(
    masters: Path,
    out: Path,
    *,
    secret: str | None = None,
    edition: str = "",
    wheel: Path | None = None,
    verify: bool = True,
    report: Callable[[str], None] = print,
) -> list[str]:
    """Build every master of the folder into out; returns their names.

    secret: what the hidden checks draw their numbers from; without one, that of out/secret.txt, else a new random one.
    edition: a name for what is frozen, such as 2027-spring. wheel: the library, put into the autograder, which installs it.
    verify: run every solution, which must get all points. Raises ValueError for a folder without masters, or a bad secret.
    """
    found = sorted(path for path in masters.glob("*.ipynb"))
    if not found:
        raise ValueError(f"masters is {masters}; it must be a folder with master notebooks (.ipynb)")
    secret, made = _secret(secret, out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".homework-") as folder:
        new = Path(folder, "new")
        for part in ("student", "autograder", "solutions"):
            (new / part).mkdir(parents=True)
        for master in found:
            _assign(master, new, _own(secret, master.stem), wheel, verify)
            report(f"{master.stem}: {_sum(problems(master))}")
        _guide(masters, new, edition)
        if made:
            (new / _KEPT).write_text(secret + "\n", encoding="utf-8")
            (new / _KEPT).chmod(0o600)
        _write_edition(new, edition, secret, found)
        old = Path(folder, "old")
        if out.exists():
            out.rename(old)
        new.rename(out)
    return [master.stem for master in found]


def problems(master: Path) -> list[Problem]:
    """The questions of a master, in order."""
    cells = json.loads(master.read_text(encoding="utf-8"))["cells"]
    found, settings = [], None
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "raw" and source.startswith("# BEGIN QUESTION"):
            settings = yaml.safe_load(source.partition("\n")[2])
        elif settings is not None and cell["cell_type"] == "markdown":
            title = source.strip().splitlines()[0].lstrip("# ").partition(". ")
            found.append(
                Problem(settings["name"], title[2] or title[0], float(settings["points"]), bool(settings.get("manual")))
            )
            settings = None
    return found


def solution_lines(master: Path, longer: int = 20) -> list[str]:
    """The lines of a master's solutions that have more than `longer` characters, without otter's marks."""
    found, inside, block = [], False, False
    for cell in json.loads(master.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "raw" and (mark := _MARK.match(source)) and mark[2] == "SOLUTION":
            inside = mark[1] == "BEGIN"
        elif inside and cell["cell_type"] == "markdown":
            found += [line.strip() for line in source.splitlines()]
        elif inside and cell["cell_type"] == "code":
            for line in source.splitlines():
                if "# BEGIN SOLUTION" in line or "# END SOLUTION" in line:
                    block = "BEGIN" in line
                elif block or re.search(r"# ?SOLUTION", line):
                    found.append(re.sub(r"\s*# ?SOLUTION( NO PROMPT)?$", "", line).strip())
    return [line for line in found if len(line) > longer]


def _secret(secret: str | None, out: Path) -> tuple[str, bool]:
    """The secret, and whether it is to be kept beside what is built."""
    kept = out / _KEPT
    if secret is None:
        return (kept.read_text(encoding="utf-8").strip() if kept.exists() else secrets.token_hex(16)), True
    if len(secret) < 12 or not secret.isprintable() or set(secret) & set("\"'\\"):
        raise ValueError(
            f"secret has {len(secret)} characters; it must have at least 12, without quotes, backslashes and line breaks"
        )
    return secret, False


def _own(secret: str, homework: str) -> str:
    """The secret of one homework: who learns it knows nothing of the other weeks."""
    return hmac.new(secret.encode(), homework.encode(), hashlib.sha256).hexdigest()[:32]


def _assign(master: Path, out: Path, secret: str, wheel: Path | None, verify: bool) -> None:
    """One homework: otter's assign over a copy of the master that holds the course's secret."""
    from otter.assign import main as assign

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, master.name)
        notebook = json.loads(master.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"]).replace(PLACEHOLDER, secret)
            cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "tags"}
        if wheel is not None:
            shutil.copy(wheel, folder)
            notebook["cells"][0]["source"] += (
                f"\nautograder_files: [{wheel.name}]\nrequirements: ['/autograder/source/files/{wheel.name}[homework]']"
            )
        copy.write_text(json.dumps(notebook), encoding="utf-8")
        assign(str(copy), str(Path(folder, "dist")), no_pdfs=True, no_run_tests=not verify)
        dist = Path(folder, "dist")
        (made,) = (dist / "autograder").glob("*.zip")
        by_hand = {p.name: p.points for p in problems(master) if p.manual}
        _repack(made, out / "autograder" / f"{master.stem}.zip", {"open.json": json.dumps(by_hand)})
        _begin(dist / "student" / master.name)
        _renumber(dist / "student" / master.name, out / "student" / master.name)
        _renumber(dist / "autograder" / master.name, out / "solutions" / master.name)


def _begin(student: Path) -> None:
    """Otter's cell that makes the grader knows the notebook by its name alone; ours knows the checks."""
    notebook = json.loads(student.read_text(encoding="utf-8"))
    tests = notebook["metadata"].get("otter", {}).get("tests", {})
    files = {f"{name}.py": _test_file(test) for name, test in tests.items()}
    ours = f"from tiedlib.homework.start import begin\n\ngrader = begin({student.stem!r}, tests={packed(files)!r})"
    for cell in notebook["cells"]:  # the first one, after what installs the library
        cell["source"] = _MAKES.sub(lambda _: ours, "".join(cell["source"]))
    student.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")


def _test_file(test: Any) -> str:
    """A test in a notebook's metadata as the file that otter reads."""
    return test if isinstance(test, str) else "".join(test) if isinstance(test, list) else f"test = {test!r}\n"


def _renumber(source: Path, target: Path) -> None:
    """The same notebook with ids that are the same in every build: otter draws those of the cells that it adds."""
    notebook = json.loads(source.read_text(encoding="utf-8"))
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"{source.stem}-{number}"
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _repack(source: Path, target: Path, more: dict[str, str]) -> None:
    """The same archive and more files, in one order and with one date, so that the same input gives the same bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in sorted([*old.namelist(), *more]):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = (0o755 if name in ("run_autograder", "setup.sh") else 0o644) << 16
            new.writestr(info, more[name] if name in more else old.read(name), zipfile.ZIP_DEFLATED)


def _sum(found: Iterable[Problem]) -> str:
    found = list(found)
    manual = sum(p.points for p in found if p.manual)
    return f"{len(found)} problems, {sum(p.points for p in found):g} points, {manual:g} of them by hand"


def _guide(masters: Path, out: Path, edition: str) -> None:
    """The pages of the guide in the masters' folder, and the tables that the masters and course.yml give."""
    course = masters / "course.yml"
    if not course.exists():
        return
    weeks: dict[str, Any] = yaml.safe_load(course.read_text(encoding="utf-8"))
    parts = [
        f"# Teacher's guide{f', edition {edition}' if edition else ''}",
        _page(masters / "guide.md"),
    ]
    parts.append("## The course, week by week")
    for number, (name, week) in enumerate(weeks.items(), start=1):
        found = {p.name: p for p in problems(masters / f"{name}.ipynb")}
        rows = [
            f"| {p['name']} | {p['what']} | {found[p['name']].points:g} | {p['minutes']} | {p['grading_minutes']} |"
            for p in week["problems"]
        ]
        parts.append(
            f"### Week {number}: {week['title']}\n\n"
            f"Notebook `{name}.ipynb`: {_sum(found.values())}. A student needs about {week['minutes']} minutes, "
            f"a grader {sum(p['grading_minutes'] for p in week['problems'])} minutes a submission for what no program grades.\n\n"
            f"*Before it:* {'; '.join(week['prerequisites'])}.\n\n*After it a student can*\n\n"
            + "".join(f"- {goal}\n" for goal in week["objectives"])
            + "\n| problem | what it is | points | student's minutes | grader's minutes |\n| --- | --- | --- | --- | --- |\n"
            + "\n".join(rows)
        )
    parts.append(re.sub(r"^#", "##", _page(masters / "grading.md"), flags=re.MULTILINE))
    (out / "guide.md").write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")


def _page(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _write_edition(out: Path, edition: str, secret: str, masters: list[Path]) -> None:
    """What an edition is made of: with the same library, otter and secret the same bytes come again."""
    kept = {
        "edition": edition,
        "tiedlib": tiedlib.__version__,
        "otter-grader": metadata.version("otter-grader"),
        "secret (sha256, first 12)": hashlib.sha256(secret.encode()).hexdigest()[:12],
        "masters": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in masters},
        "files": {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(out.rglob("*"))
            if path.is_file() and path.name != _KEPT
        },
    }
    (out / "edition.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
