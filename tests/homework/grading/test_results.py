"""tiedlib.homework: thirty submissions, ten of them broken, and every attack, really graded; then what one command promises."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.places import ROOT

pytest.importorskip("otter")

from tests.homework.grading.batch import ATTACKS, BROKEN, Homework, good, write_attacks, write_batch
from tiedlib.homework.grading.results import STATUSES, grade
from tiedlib.homework.grading.sandbox import _lives, spaces
from tiedlib.lab.commands.main import run

LIMITS = ["--seconds", "60", "--cell-seconds", "8", "--memory", "1000", "--disk", "50"]
LINUX = sys.platform == "linux"


def _ours() -> set[psutil.Process]:
    """What this process has started and still runs: a server of an earlier test may be among it."""
    return {p for p in psutil.Process().children(recursive=True) if _lives(p)}


class Graded:
    """What one command made of a folder."""

    def __init__(self, homework: Homework, folder: Path) -> None:
        self.folder, self.out = folder, folder.with_name(f"{folder.name}-grades")
        before = _ours()
        self.code = run(["homework", "grade", str(homework.autograder), str(folder), "--out", str(self.out), *LIMITS])
        self.left = _ours() - before

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
    "a folder": "the folder holds no notebook",
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
    assert not batch.left | attacks.left
    assert not (batch.out / ".private").exists() and not list(batch.out.glob(".*.part"))


# The same as otter's own


# Secrets, seeds


# A system that gives less


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
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
    return [p for p in every if _lives(p)]


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
    said = two.communicate(timeout=600)[0]
    assert two.returncode == 130 and "goes on with what is missing" in said
    assert not left.exists() and not (tmp_path / "out/.private").exists(), "private folders are left"
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out/results").glob("*.json")} == kept
    (tmp_path / "handed in/s2.ipynb").write_text("{", encoding="utf-8")  # handed in again
    three = started("--cell-seconds", "50")
    said = three.communicate(timeout=600)[0]
    assert three.returncode == 0 and "s2.ipynb: 0 of 6, unreadable" in said and "s3.ipynb: 6 of 6" in said
    assert len((tmp_path / "out/grades.csv").read_text(encoding="utf-8").splitlines()) == 5


# Bad input


def test_without_otter_it_says_what_to_install(
    homework: Homework, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "otter" else find(name, *rest))
    with pytest.raises(ValueError, match=r"no module otter .* pip install '\.\[homework\]'"):
        grade(homework.autograder, tmp_path, tmp_path / "out")
