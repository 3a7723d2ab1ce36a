"""tiedlib.homework: thirty submissions, ten of them broken, and every attack, really graded; then what one command promises."""

import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("otter")

from homework_batch import ATTACKS, BROKEN, Homework, good, write_attacks, write_batch, zipped

from tiedlib.homework import sandbox
from tiedlib.homework.examine import describe, examine
from tiedlib.homework.grading import STATUSES, grade
from tiedlib.homework.sandbox import Limits, spaces
from tiedlib.homework.submission import Cell, OtherHomework, Submission, Unreadable, read_autograder, read_submission
from tiedlib.lab.command_line import run

LIMITS = ["--seconds", "60", "--cell-seconds", "4", "--memory", "1000", "--disk", "50"]
SMALL = Limits(seconds=60.0, cell_seconds=4.0, memory=1000, disk=50)
LINUX = sys.platform == "linux"


@pytest.fixture(scope="module")
def homework(tmp_path_factory: pytest.TempPathFactory) -> Homework:
    return Homework(tmp_path_factory.mktemp("homework"))


@pytest.fixture(scope="module")
def asked(homework: Homework) -> dict[str, Any]:
    """What its autograder asks."""
    return describe(read_autograder(homework.autograder), SMALL)


class Graded:
    """What one command made of a folder."""

    def __init__(self, homework: Homework, folder: Path) -> None:
        self.folder, self.out = folder, folder.with_name(f"{folder.name}-grades")
        self.began = time.monotonic()
        self.code = run(["homework", "grade", str(homework.autograder), str(folder), "--out", str(self.out), *LIMITS])
        self.seconds = time.monotonic() - self.began

    def result(self, name: str) -> dict[str, Any]:
        return json.loads((self.out / "results" / f"{name}.json").read_text(encoding="utf-8"))

    @property
    def rows(self) -> list[dict[str, str]]:
        with (self.out / "grades.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def row(self, name: str) -> dict[str, str]:
        (row,) = [row for row in self.rows if row["file"].removesuffix(".ipynb").endswith(name)]
        return row


@pytest.fixture(scope="module")
def batch(homework: Homework, tmp_path_factory: pytest.TempPathFactory) -> Graded:
    folder = tmp_path_factory.mktemp("batch") / "handed in"
    write_batch(homework, folder)
    return Graded(homework, folder)


@pytest.fixture(scope="module")
def attacks(homework: Homework, tmp_path_factory: pytest.TempPathFactory) -> Graded:
    folder = tmp_path_factory.mktemp("attacks") / "handed in"
    write_attacks(homework, folder)
    return Graded(homework, folder)


def points(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[q] for q in ("q1", "q2", "q3"))


# Thirty submissions, ten of them broken


def test_thirty_submissions_are_graded_with_one_command_and_nothing_is_lost(batch: Graded) -> None:
    assert batch.code == 0
    names = [row["file"] for row in batch.rows]
    assert len(names) == 30 and names == sorted(path.name for path in batch.folder.iterdir())
    assert all(batch.result(name)["file"] == name for name in names)
    assert {row["status"] for row in batch.rows} <= set(STATUSES) - {"not graded"}


def test_the_sound_ones_beside_broken_ones_get_what_they_deserve(batch: Graded) -> None:
    sound = [row for row in batch.rows if "-" not in row["file"]]
    assert len(sound) == 20
    for row in sound:
        number = int(row["file"][1:3])
        wrong = 0 if number % 3 else 1 + number % 2  # as write_batch made them: x * x is right for 2, and wrong for −3
        assert points(row) == {0: ("2", "1", "3"), 1: ("1", "1", "3"), 2: ("1", "1", "0")}[wrong], row
        assert row["status"] == "graded" and row["reason"] == ""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_gets_a_grade_and_a_reason(batch: Graded, name: str) -> None:
    row = batch.row(f"-{name}")
    if name in ("edited", "uncheck", "bare"):  # the checks are the autograder's: the same as the untouched notebook
        assert points(row) == ("2", "1", "3") and row["status"] == "graded"
    elif name in ("unparsable", "other"):
        assert points(row) == ("0", "0", "0")
        assert row["status"] == {"unparsable": "unreadable", "other": "other homework"}[name]
        assert ("can't be parsed as JSON" if name == "unparsable" else "'dropout'") in row["reason"]
    else:
        _, status, reason = ATTACKS[name]
        assert points(row) == ("2", "1", "0") and row["status"] == status and reason in row["reason"], row


def test_the_network_was_cut_off_or_it_is_said(batch: Graded) -> None:
    said = batch.result("s06-network.ipynb")["protections"]["network"]
    assert said == ("cut off" if "network" in spaces() else "was not cut off: this system does not allow it")


def test_the_same_command_again_grades_nothing_anew(
    batch: Graded, homework: Homework, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (batch.out / "results").iterdir()}
    table = (batch.out / "grades.csv").read_bytes()
    again = Graded(homework, batch.folder)
    assert again.code == 0 and capsys.readouterr().out.count("graded before") == 30
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert (again.out / "grades.csv").read_bytes() == table


# Every attack


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in BROKEN])
def test_an_attack_gets_a_grade_and_a_reason(attacks: Graded, name: str) -> None:
    row, (_, status, reason) = attacks.row(name), ATTACKS[name]
    if name == "killing" and "process" not in spaces():
        pytest.skip("without a process namespace this attack reaches the grader itself; it is not run")
    assert points(row) == ("2", "1", "0"), row
    assert row["status"] == status and reason in row["reason"], row


def test_a_process_that_ends_early_costs_its_own_question_only(attacks: Graded) -> None:
    row = attacks.row("early")
    assert points(row) == ("0", "1", "3") and row["status"] == "crashed"


def test_a_name_that_is_used_again_later_costs_nothing(attacks: Graded) -> None:
    assert points(attacks.row("again")) == ("2", "1", "3")


def test_files_beside_the_notebook_do_not_stand_in_for_modules(attacks: Graded) -> None:
    assert points(attacks.row("shadow.zip")) == ("2", "1", "3")


UNREADABLE = {
    "empty": "is empty", "blank": "is empty", "=formula": "is empty", "binary": "can't be parsed", "list.json": "no list of cells",
    "deep": "can't be parsed", "essay.docx": "ending in .docx", "two.zip": "2 notebooks (a.ipynb, b.ipynb)",
    "none.zip": "no notebook", "no.zip": "the zip is damaged", "slip.zip": "outside its folder", "bomb.zip": "more than 200 MB",
    "a folder": "this is no file",
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_notebook_says_so(attacks: Graded, name: str) -> None:
    row = attacks.row(name)
    assert row["status"] == "unreadable" and UNREADABLE[name] in row["reason"] and row["score"] == "0"


def test_a_file_name_is_no_formula(attacks: Graded) -> None:
    assert "'=formula.ipynb" in (attacks.out / "grades.csv").read_text(encoding="utf-8").splitlines()[1]


def test_every_file_has_a_row(attacks: Graded) -> None:
    assert attacks.code == 0
    assert [row["file"].removeprefix("'") for row in attacks.rows] == sorted(p.name for p in attacks.folder.iterdir())


def test_nothing_is_left_behind(batch: Graded, attacks: Graded) -> None:
    assert not [
        p
        for p in psutil.Process().children(recursive=True)
        if p.status() != psutil.STATUS_ZOMBIE and "ipykernel" in str(p.cmdline())
    ]
    assert not (batch.out / ".private").exists() and not list(batch.out.glob(".*.part"))


# The same as otter's own


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


# Secrets, seeds


def test_a_secret_reaches_the_checks_and_no_cell(tmp_path: Path) -> None:
    searching = """import os, random
drawn = random.random()
words = list(os.environ.values())
for folder in (os.getcwd(), os.path.dirname(os.getcwd()), "/tmp"):
    for here, _, names in os.walk(folder):
        for name in names:
            try: words.append(open(os.path.join(here, name), errors="replace").read(10**6))
            except OSError: pass
leaked = any("hunter" + "2" in word for word in words)
total = sum(k for k in range(5))
"""
    test = "OK_FORMAT = True\ntest = {{'name': '{name}', 'points': 1, 'suites': [{{'cases': [{{'code': {code!r}, 'hidden': False}}], 'type': 'doctest'}}]}}\n"
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


# A system that gives less


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


# Stopped in the middle


@pytest.fixture
def started(homework: Homework, tmp_path: Path) -> Iterator[Any]:
    """The command as a process of its own, on four submissions of which the third never ends."""
    folder = tmp_path / "handed in"
    folder.mkdir()
    for k in range(4):
        (folder / f"s{k}.ipynb").write_text(
            good(homework) if k != 2 else json.dumps(homework.notebook(q3="while True: pass")), encoding="utf-8"
        )
    command = [
        sys.executable,
        "-m",
        "tiedlib",
        "homework",
        "grade",
        str(homework.autograder),
        str(folder),
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    processes: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, "--jobs", "1", *flags],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def _until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return
    raise AssertionError(f"it ended before it said {word}")


def _kernels(folder: Path) -> list[psutil.Process]:
    every = [
        p
        for p in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(p.info["cmdline"] or []) and "ipykernel_launcher" in p.info["cmdline"]
    ]
    return [p for p in every if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_grader_that_is_stopped_goes_on(started: Any, tmp_path: Path) -> None:
    one = started("--cell-seconds", "50")
    _until(one, "s1.ipynb")
    time.sleep(4)  # the endless one is running
    one.kill()
    one.wait()
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/results").glob("*.json")}
    assert set(kept) == {"s0.ipynb.json", "s1.ipynb.json"} and not (tmp_path / "out/grades.csv").exists()
    left = Path((tmp_path / "out/.private").read_text(encoding="utf-8"))
    if LINUX:
        time.sleep(1)
        assert left.is_dir() and not _kernels(left), "a killed grader leaves processes behind"
    two = started("--cell-seconds", "50")
    _until(two, "s1.ipynb: 6 of 6, graded, graded before")
    time.sleep(4)
    two.send_signal(signal.SIGINT)
    said = two.communicate(timeout=60)[0]
    assert two.returncode == 130 and "goes on with what is missing" in said
    assert not left.exists() and not (tmp_path / "out/.private").exists(), "private folders are left"
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/results").glob("*.json")} == kept
    (tmp_path / "handed in/s2.ipynb").write_text("{", encoding="utf-8")  # handed in again
    three = started("--cell-seconds", "50")
    said = three.communicate(timeout=120)[0]
    assert three.returncode == 0 and "s2.ipynb: 0 of 6, unreadable" in said and "s3.ipynb: 6 of 6" in said
    assert len((tmp_path / "out/grades.csv").read_text(encoding="utf-8").splitlines()) == 5


# Bad input


def test_arguments_that_cannot_be(homework: Homework, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "no.zip").write_bytes(b"no zip")
    (tmp_path / "none.zip").write_bytes(zipped({"otter_config.json": "{}"}))
    (tmp_path / "r.zip").write_bytes(zipped({"otter_config.json": '{"lang": "r"}', "tests/q1.py": "x"}))
    (tmp_path / "in").mkdir()
    cases = {
        (str(tmp_path / "no.zip"), str(tmp_path / "in")): "must be a zip that otter assign made",
        (str(tmp_path / "none.zip"), str(tmp_path / "in")): "there is no test in it",
        (str(tmp_path / "r.zip"), str(tmp_path / "in")): "its language is 'r'",
        (str(tmp_path / "missing.zip"), str(tmp_path / "in")): "must be a zip that otter assign made",
        (str(homework.autograder), str(tmp_path / "missing")): "must be a folder",
        (str(homework.autograder), str(tmp_path / "in"), "--jobs", "0"): "jobs is 0; it must be at least 1",
        (
            str(homework.autograder),
            str(tmp_path / "in"),
            "--seconds",
            "nan",
        ): "seconds is nan; it must be positive and finite",
        (str(homework.autograder), str(tmp_path / "in"), "--memory", "-1"): "memory is -1; it must be at least 1",
        (str(homework.autograder), str(tmp_path / "in"), "--disk", "x"): "invalid int value",
    }
    for arguments, said in cases.items():
        assert run(["homework", "grade", *arguments, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error


def test_without_otter_it_says_what_to_install(
    homework: Homework, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "otter" else find(name, *rest))
    with pytest.raises(ValueError, match=r"no module otter .* pip install '\.\[homework\]'"):
        grade(homework.autograder, tmp_path, tmp_path / "out")


def test_tests_that_do_not_run_are_the_teacher_s_to_mend(tmp_path: Path) -> None:
    (tmp_path / "autograder.zip").write_bytes(zipped({"tests/q1.py": "1 / 0", "otter_config.json": "{}"}))
    with pytest.raises(ValueError, match="autograder has a test for q1 that does not run .*ZeroDivisionError"):
        describe(read_autograder(tmp_path / "autograder.zip"), SMALL)


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


def test_the_answer_of_a_student_s_process_is_not_believed(homework: Homework) -> None:
    """Whatever it is: never more points than the autograder has, never an exception."""
    from tiedlib.homework.examine import _points

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
