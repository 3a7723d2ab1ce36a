"""tiedlib.homework.grading.examine: points as otter gives them, a secret that reaches the checks only, answers that are not believed."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("otter")

from tests.homework.grading.batch import SMALL, Homework, zipped
from tiedlib.homework.grading import sandbox
from tiedlib.homework.grading.examine import _points, describe, examine
from tiedlib.homework.grading.submissions import Cell, Submission, read_autograder, read_submission


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pandas, used by otter
def test_points_are_those_that_otter_gives(homework: Homework, asked: dict[str, Any], tmp_path: Path) -> None:
    import otter

    wrong = homework.notebook(q1="def double(x):\n    return x * x", q3="def mean(xs): return 1 / 0")
    (tmp_path / "wrong.ipynb").write_text(json.dumps(wrong), encoding="utf-8")
    theirs = otter.api.grade_submission(str(tmp_path / "wrong.ipynb"), str(homework.autograder), quiet=True)
    read = read_autograder(homework.autograder)
    ours = examine(read_submission(tmp_path / "wrong.ipynb", read), read, asked, SMALL)
    assert {q: one["points"] for q, one in ours["questions"].items()} == {
        q: theirs.results[q].score for q in ("q1", "q2", "q3")
    }
    assert ours["score"] == theirs.total == 2 and ours["maximum"] == theirs.possible == 6
    messages = {q: one["message"] for q, one in ours["questions"].items()}
    assert messages["q1"] == "1 hidden check did not pass" and messages["q2"] == ""
    assert "the mean of 1, 2, 6 is 3" in messages["q3"] and "ZeroDivisionError" in messages["q3"]


def test_a_secret_reaches_the_checks_and_no_cell(tmp_path: Path) -> None:
    searching = """import os, random
drawn = random.random()
leaked = any("hunter" + "2" in word for word in os.environ.values())
for folder in (os.getcwd(), os.path.dirname(os.getcwd()), "/tmp"):
    for here, below, names in os.walk(folder):
        if here.count("/") - folder.count("/") >= 3: below.clear()  # a machine's own files lie there too, many of them
        for name in names:
            try: leaked |= "hunter" + "2" in open(os.path.join(here, name), errors="replace").read(1000)
            except OSError: pass
total = sum(k for k in range(5))
"""
    test = (
        "OK_FORMAT = True\ntest = {{'name': '{name}', 'points': 1, 'suites': [{{'cases': [{{'code': {code!r}}}]}}]}}\n"
    )
    checks = {
        "q1": ">>> import os\n>>> assert os.environ['TIEDLIB_HOMEWORK_SECRET'] == 'hunter2'\n>>> assert total == 10",
        "q2": ">>> assert leaked is False",
        "q3": f">>> assert drawn == {random.Random(42).random()!r}",
    }
    files: dict[str, str | bytes] = {
        f"tests/{name}.py": test.format(name=name, code=code) for name, code in checks.items()
    }
    files |= {"tests/secret.txt": "hunter2\n", "otter_config.json": json.dumps({"seed": 42})}
    (tmp_path / "autograder.zip").write_bytes(zipped(files))
    read = read_autograder(tmp_path / "autograder.zip")
    cells = (Cell(1, searching, ("q1",)), Cell(2, searching, ()))  # also after a check has run
    found = examine(Submission("x.ipynb", cells), read, describe(read, SMALL), SMALL)
    assert {q: one["points"] for q, one in found["questions"].items()} == {"q1": 1, "q2": 1, "q3": 1}, found


def test_without_namespaces_it_grades_and_says_what_is_missing(
    homework: Homework, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "spaces", lambda: ())
    read = read_autograder(homework.autograder)
    cells = [
        Cell(k, code, (f"q{k}",))
        for k, code in enumerate(("double = lambda x: 2 * x", "total = 10", "while True: pass"), 1)
    ]
    found = examine(Submission("x.ipynb", tuple(cells)), read, asked, SMALL)
    assert found["score"] == 3 and found["status"] == "time" and "cell 3" in found["reason"]
    assert found["protections"]["network"] == "was not cut off: this system does not allow it"


def test_tests_that_do_not_run_are_the_teacher_s_to_mend(tmp_path: Path) -> None:
    (tmp_path / "autograder.zip").write_bytes(zipped({"tests/q1.py": "1 / 0", "otter_config.json": "{}"}))
    with pytest.raises(ValueError, match=r"autograder has a test for q1 that does not run .*ZeroDivisionError"):
        describe(read_autograder(tmp_path / "autograder.zip"), SMALL)


def test_the_answer_of_a_student_s_process_is_not_believed(homework: Homework) -> None:
    """Whatever it is: never more points than the autograder has, never an exception."""
    about = {
        "cases": [{"name": "a", "points": 2, "hidden": False}, {"name": "b", "points": 1, "hidden": True}],
        "all_or_nothing": False,
        "blank": [False, False],
    }
    fair = {"passed": [True, False], "blank": [False, False], "messages": ["", "no"]}
    assert _points(about, fair, "")["points"] == 2
    assert _points({**about, "all_or_nothing": True}, fair, "")["points"] == 0
    odd: list[Any] = [None, [], [True], "TT", [1, 1], [math.nan, "x"], {"a": 1}, [[True], [True]], [True] * 3]
    for key in fair:
        for value in odd:
            found = _points(about, {**fair, key: value}, "")
            assert 0 <= found["points"] <= 2 and found["maximum"] == 3
    assert _points(about, {**fair, "blank": [True, False]}, "")["forged"]
