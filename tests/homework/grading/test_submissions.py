"""tiedlib.homework.grading.submissions: whatever the bytes, a submission or a verdict that a student understands."""

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("otter")

from tests.homework.grading.batch import Homework, good, zipped
from tiedlib.homework.grading.submissions import OtherHomework, Unreadable, read_autograder, read_submission


def write(folder: Path, *cells: object) -> Path:
    path = folder / "x.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}}), encoding="utf-8")
    return path


def test_what_is_checked_after_a_cell_is_what_the_cell_asks_for(homework: Homework, tmp_path: Path) -> None:
    code = {"cell_type": "code", "metadata": {}}
    path = write(
        tmp_path,
        {**code, "source": ["x = 1\n", "grader.check('q2'); other.check(\"q1\")"]},
        {**code, "source": "grader.check(q3)\ngrader.check('no such question')\ncheck('q1')"},
        {"cell_type": "markdown", "source": "grader.check('q1')"},
        {**code, "source": "%magic\ngrader.check('q1')"},
        {**code, "source": "y", "metadata": {"otter": {"tests": ["q3"]}}},
        {**code, "source": "z", "metadata": {"tags": ["otter_ignore"]}},
    )
    cells = read_submission(path, read_autograder(homework.autograder)).cells
    assert [(cell.number, cell.checks) for cell in cells] == [(1, ("q1", "q2")), (2, ()), (4, ()), (5, ("q3",))]
    assert cells[0].source == "x = 1\ngrader.check('q2'); other.check(\"q1\")"


def test_the_secret_comes_from_the_zip_or_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = {"tests/q1.py": "OK_FORMAT = True"}
    digests = set()
    for k, (files, secret) in enumerate(
        [({}, "ours"), ({"tests/secret.txt": "a\n"}, "a"), ({"files/secret.txt": "b"}, "b")]
    ):
        monkeypatch.setenv("TIEDLIB_HOMEWORK_SECRET", "ours")
        path = tmp_path / f"{k}.zip"
        path.write_bytes(zipped({**test, **files}))
        read = read_autograder(path)
        assert read.secret == secret and not {"secret.txt"} & {*read.files, *read.tests}
        digests.add(read.digest)
    monkeypatch.delenv("TIEDLIB_HOMEWORK_SECRET")
    assert read_autograder(tmp_path / "0.zip").secret == ""
    assert len({*digests, read_autograder(tmp_path / "0.zip").digest}) == 4, "another secret is another homework"


def test_reading_never_fails_in_another_way(homework: Homework, tmp_path: Path) -> None:
    """Whatever the bytes: a submission, or one of two verdicts."""
    read, rng, whole = read_autograder(homework.autograder), random.Random(0), good(homework).encode()
    packed = zipped({"a.ipynb": whole, "b.txt": b"x" * 1000})
    for k in range(300):
        raw = bytearray(whole if k % 2 else packed)
        for _ in range(rng.randrange(1, 20)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        path = tmp_path / ("x.ipynb" if k % 2 else "x.zip")
        path.write_bytes(raw[: rng.randrange(1, len(raw) + 1)] if k % 3 else raw)
        try:
            found = read_submission(path, read)
        except (Unreadable, OtherHomework) as verdict:
            assert len(str(verdict)) > 20
        else:
            assert all(isinstance(cell.source, str) for cell in found.cells)


@pytest.mark.parametrize(
    "name", ["../x.ipynb", "a/../../x.ipynb", "/x.ipynb", "..\\x.ipynb", "C:\\x.ipynb", "\\x.ipynb"]
)
def test_no_file_of_a_zip_lies_outside_its_folder(homework: Homework, tmp_path: Path, name: str) -> None:
    (tmp_path / "x.zip").write_bytes(zipped({name: good(homework), "b.txt": "x"}))
    with pytest.raises(Unreadable, match="outside its folder"):
        read_submission(tmp_path / "x.zip", read_autograder(homework.autograder))
