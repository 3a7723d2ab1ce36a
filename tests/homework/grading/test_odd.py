"""Submissions as they really come: odd names, a folder for each student, two downloads, cells that leave the process in another
state, checks that fail with the secret in their hands. One command grades them all."""

import copy
import csv
import json
import os
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("otter")

from tests.homework.grading.batch import ANSWERS, Homework
from tiedlib.homework.grading.results import file_name, shown
from tiedlib.lab.commands.main import run

LIMITS = ["--seconds", "60", "--cell-seconds", "8", "--memory", "1500", "--disk", "50"]
SECRET = "a sentence that only the teacher knows"
LONG = "x" * 230 + ".ipynb"
LEAKS = {
    "streams": "import sys\nsys.stdout = None",
    "torch": "import torch\ntorch.set_grad_enabled(False)\ntorch.set_default_device('meta')\ntorch.set_default_dtype(torch.float64)",
    "python": "import gc, os, sys, warnings\nwarnings.simplefilter('error')\nos.environ.clear()\nos.chdir('/')\n"
    "sys.setrecursionlimit(150)\nsys.stderr = 3\ngc.disable()",
}
NASTY = f"""

@test_case(points=1, hidden=True)
def test_secret_in_an_error(env):
    raise KeyError({SECRET!r}, dict(secret={SECRET!r}))


@test_case(points=1, hidden=True)
def test_secret_in_a_call(env):
    def inner(answer, secret):
        raise ValueError("your answer failed with " + secret + repr(secret) + secret.upper()[:0])
    inner(env.get("total"), {SECRET!r})
"""


@pytest.fixture(scope="module")
def graded(homework: Homework, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of results."""
    folder = tmp_path_factory.mktemp("odd")
    autograder = folder / "tiny.zip"
    with zipfile.ZipFile(homework.autograder) as old, zipfile.ZipFile(autograder, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name == "tests/q2.py":
                text = with_nasty(text.decode()).encode()
            new.writestr(name, text)
        new.writestr("open.json", json.dumps({"essay": 5}))
    handed_in = folder / "handed in"
    handed_in.mkdir()
    good = json.dumps(homework.notebook())
    (handed_in / LONG).write_text(good, encoding="utf-8")
    (handed_in / "-rf 'é\n= two.ipynb").write_text(good, encoding="utf-8")
    moodle = handed_in / "Ada Lovelace_1815_assignsubmission_file_" / "below"
    moodle.mkdir(parents=True)
    (moodle / "tiny (1).ipynb").write_text(good, encoding="utf-8")
    (moodle / "notes.ipynb").write_text(json.dumps(other(homework)), encoding="utf-8")
    os.utime(moodle / "tiny (1).ipynb", (1, 1))  # the older of the two; the other belongs to another homework
    (handed_in / "George Boole_1864_assignsubmission_onlinetext_").mkdir()
    (handed_in / "__MACOSX").mkdir()
    for name, cell in LEAKS.items():
        (handed_in / f"leak {name}.ipynb").write_text(json.dumps(leaking(homework, cell)), encoding="utf-8")
    out = folder / "grades"
    assert run(["homework", "grade", str(autograder), str(handed_in), "--out", str(out), *LIMITS]) == 0
    return out


def with_nasty(test: str) -> str:
    """The check of q2 with functions in the place of doctests, and two hidden ones that fail with the secret."""
    assert "total == 10" in test
    head = "from otter.test_files import test_case\n\nOK_FORMAT = False\nname = 'q2'\npoints = None\n"
    good = "\n\n@test_case(points=1, hidden=False)\ndef test_total(env):\n    assert env['total'] == 10\n"
    return head + good + NASTY


def other(homework: Homework):
    notebook = homework.notebook()
    notebook["metadata"].setdefault("otter", {})["assignment_name"] = "another"
    return notebook


def leaking(homework: Homework, cell: str):
    """A scratch cell before the first answer."""
    notebook = copy.deepcopy(homework.notebook())
    scratch = {
        "cell_type": "code",
        "execution_count": None,
        "id": "scratch",
        "metadata": {},
        "outputs": [],
        "source": cell,
    }
    first = next(k for k, c in enumerate(notebook["cells"]) if ANSWERS["q1"] in "".join(c["source"]))
    notebook["cells"].insert(first, scratch)
    return notebook


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "grades.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"].lstrip("'"): row for row in csv.DictReader(file)}


def test_no_name_stops_or_spoils_anothers_grade(graded):
    found = rows(graded)
    assert len(found) == 7
    for name in (LONG, "-rf 'é\n= two.ipynb"):
        row = found[shown(name)]
        assert (row["status"], row["q1"], row["q3"]) == ("graded", "2", "3"), row
        assert (graded / "results" / f"{file_name(name)}.json").is_file()


def test_a_students_folder_is_one_submission(graded):
    found = rows(graded)
    ada, boole = (
        found["Ada Lovelace_1815_assignsubmission_file_"],
        found["George Boole_1864_assignsubmission_onlinetext_"],
    )
    assert (ada["status"], ada["q1"], ada["q3"]) == ("graded", "2", "3")
    assert boole["status"] == "unreadable" and "the folder holds no notebook" in boole["reason"]


@pytest.mark.parametrize("name", LEAKS)
def test_what_a_scratch_cell_leaves_takes_no_points(graded, name):
    row = rows(graded)[f"leak {name}.ipynb"]
    assert (row["status"], row["q1"], row["q3"]) == ("graded", "2", "3"), row


def test_the_secret_is_in_no_file_of_the_results(graded):
    found = [path for path in graded.rglob("*") if path.is_file()]
    assert len(found) >= 8
    for path in found:
        text = path.read_bytes()
        for form in (SECRET, json.dumps(SECRET)[1:-1], SECRET.encode().hex(), repr(SECRET)):
            assert form.encode() not in text, path


def test_open_problems_count_in_every_maximum(graded):
    for name, row in rows(graded).items():
        assert row["maximum"] == "13", name  # 2 + 3 (one and two hidden) + 3, and 5 by hand
        assert row["essay"] == ""
    with (graded / "points.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 7


def test_a_folder_without_a_readable_submission_is_an_error(homework, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for content in (None, "no notebook"):
        if content:
            (tmp_path / "in" / "essay.ipynb").write_text(content, encoding="utf-8")
        code = run(
            [
                "homework",
                "grade",
                str(homework.autograder),
                str(tmp_path / "in"),
                "--out",
                str(tmp_path / "out"),
                *LIMITS,
            ]
        )
        assert code != 0 and "holds no notebook of this homework that can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["plain.ipynb", LONG, "a\nb.ipynb", "CON?.ipynb", "\udcff.ipynb", "..", "é.ipynb", "x" * 255]
)
def test_a_results_name_is_one_that_every_file_system_takes(name):
    safe = file_name(name)
    assert len(safe.encode()) <= 200 and safe.isprintable() and not set(safe) & set('<>:"/\\|?*')
    assert (safe == name) == (name in ("plain.ipynb", "é.ipynb", ".."))
    assert file_name(name + " ") != safe
