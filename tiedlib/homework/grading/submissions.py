"""What students hand in and what it is graded with, read by somebody who trusts no byte of the first.

A submission is a notebook or the zip that `grader.export()` makes. Only its code, the name of its homework and the files beside it
are used; which checks there are, what they are worth and what they say comes from the autograder that `otter assign` made.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tiedlib.homework.grading.hidden import words

__all__ = ["Autograder", "Cell", "OtherHomework", "Submission", "Unreadable", "read_autograder", "read_submission"]

LARGEST = 200 * 2**20  # bytes of a submission, packed or unpacked
_MANY = 1000  # files in a zip
_SECRET = "secret.txt"


class Unreadable(ValueError):  # noqa: N818 - a verdict on a submission
    """There is no notebook to grade; str() is a sentence for the student."""


class OtherHomework(ValueError):  # noqa: N818
    """The notebook belongs to another homework; str() is a sentence for the student."""


@dataclass(frozen=True)
class Cell:
    """Code of a student, its place in the notebook (from 1, all cells counted), and the questions to check after it."""

    number: int
    source: str
    checks: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """name: of the notebook's file; files: those beside it, by their path."""

    name: str
    cells: tuple[Cell, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    notebook: bytes = b"{}"

    @property
    def modules(self) -> list[str]:
        """The packages that the cells import: to import torch takes seconds, which are no cell's fault."""
        return sorted({name.partition(".")[0] for cell in self.cells for name in _imported(cell.source)})


@dataclass(frozen=True)
class Autograder:
    """digest: of the zip and the secret; tests, files: those folders, by file name; secret: for the checks."""

    digest: str
    tests: dict[str, bytes]
    files: dict[str, bytes]
    config: dict[str, Any]
    secret: str = ""
    open: dict[str, int | float] = field(default_factory=dict)  # problems that a person grades, and what they are worth

    @property
    def hidden_words(self) -> list[str]:
        """What nobody but the teacher may read in a result: the secret, and the texts that checks are given."""
        tests = [content.decode(errors="replace") for name, content in self.tests.items() if name.endswith(".py")]
        return sorted({word for test in tests for word in words(test, self.secret)}, key=len, reverse=True)

    @property
    def questions(self) -> dict[str, str]:
        """Question → its test file, sorted."""
        return {
            PurePosixPath(name).stem: name for name in sorted(self.tests) if name.endswith(".py") and "/" not in name
        }

    @property
    def modules(self) -> list[str]:
        """The modules that the tests import, and the packages above them."""
        text = "\n".join(
            content.decode(errors="replace") for name, content in self.tests.items() if name.endswith(".py")
        )
        found = _imported(text)
        above = [name.partition(".")[0] for name in found]
        return sorted(
            set(found) | set(above) | ({"torch.nn.functional", "torch.testing"} if "torch" in above else set())
        )


def _imported(text: str) -> list[str]:
    return re.findall(r"(?:^|[\s;])(?:import|from)\s+([A-Za-z_][\w.]*)", text)


def read_autograder(path: Path) -> Autograder:
    """Read the zip that `otter assign` made for Gradescope. The secret is its file secret.txt, in tests/ or beside it, or
    else the environment's TIEDLIB_HOMEWORK_SECRET. Raises ValueError, with the path, for anything else."""
    try:
        raw = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            content = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        config = json.loads(content.get("otter_config.json", b"{}"))
        by_hand = json.loads(content.pop("open.json", b"{}"))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"autograder is {path}; it must be a zip that otter assign made ({error})") from None
    below = {
        folder: {
            name.removeprefix(f"{folder}/"): text for name, text in content.items() if name.startswith(f"{folder}/")
        }
        for folder in ("tests", "files")
    }
    secrets = [part.pop(_SECRET).decode() for part in (below["tests"], below["files"], content) if _SECRET in part]
    secret = (secrets[0].strip() if secrets else "") or os.environ.get("TIEDLIB_HOMEWORK_SECRET", "")
    digest = hashlib.sha256(raw + secret.encode()).hexdigest()
    found = Autograder(digest, below["tests"], below["files"], config, secret, by_hand)
    if not found.questions:
        raise ValueError(f"autograder is {path}; it must be a zip that otter assign made (there is no test in it)")
    if config.get("lang", "python") != "python":
        raise ValueError(
            f"autograder is {path}; its language is {config['lang']!r}, and only python can be graded here"
        )
    return found


def read_submission(path: Path, autograder: Autograder) -> Submission:
    """Read a notebook, a zip with one, or a student's folder with either. Raises Unreadable or OtherHomework."""
    if path.is_dir() and not path.is_symlink():
        return _of_folder(path, autograder)
    try:
        if not path.is_file() or path.is_symlink():
            raise Unreadable("this is no file; hand in the notebook itself or the zip that its last cell makes")
        if path.stat().st_size > LARGEST:
            raise Unreadable(
                f"the file is larger than {LARGEST >> 20} MB; hand in the notebook without data and outputs"
            )
        raw = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"the file could not be read: {error.strerror}") from None
    if not raw.strip():
        raise Unreadable("the file is empty; download your notebook again and hand it in anew")
    files: dict[str, bytes] = {}
    name = path.name
    if path.suffix.lower() == ".zip":
        name, raw, files = _unpack(raw)
    elif path.suffix.lower() != ".ipynb":
        raise Unreadable(f"a file ending in {path.suffix or 'nothing'} is no notebook; hand in .ipynb or .zip")
    notebook = _parse(raw)
    wanted, got = autograder.config.get("assignment_name"), _at(notebook, "metadata", "otter", "assignment_name")
    if wanted and got and got != wanted:  # a notebook that has lost its metadata is graded by its answers
        raise OtherHomework(f"this notebook belongs to the homework {str(got)[:60]!r}, and {wanted!r} is graded here")
    return Submission(PurePosixPath(name).name, tuple(_cells(notebook, autograder.questions)), files, raw)


def handed_in(folder: Path) -> list[Path]:
    """The notebooks and zips of a student's folder (Moodle makes one for each), in folders below it too, the newest last."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in (".ipynb", ".zip")
        and path.is_file()
        and not path.is_symlink()
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def _of_folder(folder: Path, autograder: Autograder) -> Submission:
    """The newest notebook of this homework in a student's folder."""
    reasons: list[ValueError] = []
    for path in reversed(handed_in(folder)):
        try:
            return read_submission(path, autograder)
        except (Unreadable, OtherHomework) as error:
            reasons.append(error)
    if reasons:
        raise reasons[0]
    raise Unreadable("the folder holds no notebook; hand in the notebook itself or the zip that its last cell makes")


def _unpack(raw: bytes) -> tuple[str, bytes, dict[str, bytes]]:
    """The notebook's name, its content, and the other files. Hidden ones are left out: programs read them as settings."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            for entry in entries:
                path = PurePosixPath(entry.filename.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or ":" in entry.filename or "\0" in entry.filename:
                    raise Unreadable(f"the zip holds a file that would lie outside its folder: {entry.filename[:60]!r}")
            if sum(entry.file_size for entry in entries) > LARGEST or len(entries) > _MANY:
                raise Unreadable(
                    f"the zip holds more than {LARGEST >> 20} MB or {_MANY} files; hand in the notebook alone"
                )
            wanted = [e for e in entries if not any(p.startswith((".", "__")) for p in PurePosixPath(e.filename).parts)]
            files = {str(PurePosixPath(e.filename.replace("\\", "/"))): archive.read(e) for e in wanted}
    except Unreadable:
        raise
    except Exception as error:  # broken bytes are met with a dozen kinds of exception
        raise Unreadable(f"the zip is damaged ({type(error).__name__}); make it again and hand it in anew") from None
    notebooks = sorted(name for name in files if name.lower().endswith(".ipynb"))
    if len(notebooks) != 1:
        what = "no notebook" if not notebooks else f"{len(notebooks)} notebooks ({', '.join(notebooks)[:100]})"
        raise Unreadable(f"the zip holds {what}; it must hold one")
    return notebooks[0], files.pop(notebooks[0]), files


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        notebook = json.loads(raw)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise Unreadable(f"the file is no notebook: it can't be parsed as JSON ({where}); download it again") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise Unreadable(
            "the file is JSON but no notebook of format 4: it has no list of cells; save it in Jupyter again"
        )
    return notebook


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _cells(notebook: dict[str, Any], questions: Iterable[str]) -> Iterable[Cell]:
    for number, cell in enumerate(notebook["cells"], 1):
        tags = _at(cell, "metadata", "tags")
        ignored = _at(cell, "metadata", "otter", "ignore") or (isinstance(tags, list) and "otter_ignore" in tags)
        if _at(cell, "cell_type") != "code" or ignored:
            continue
        lines = cell.get("source", "")
        source = "".join(map(str, lines)) if isinstance(lines, list) else str(lines)
        named = _at(cell, "metadata", "otter", "tests")
        asked = [*_asked(source), *(named if isinstance(named, list) else [])]
        yield Cell(number, source, tuple(q for q in questions if q in asked))


def _asked(source: str) -> list[Any]:
    """The questions of every `grader.check("question")` in a cell."""
    try:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    checks = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "check" and c.args]
    return [
        first.value for c in checks if isinstance(first := c.args[0], ast.Constant) and isinstance(first.value, str)
    ]
