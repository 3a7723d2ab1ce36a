"""The build of a course: nothing of a solution or a secret reaches a student, and the same input gives the same bytes."""

import base64
import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.homework.masters import MASTERS, NAMES, homework
from tiedlib.homework import course
from tiedlib.homework.grading.results import grade
from tiedlib.homework.grading.sandbox import Limits

SECRET = "autumn 2031: not this one, §7 (ours)"
CHAPTERS = [
    "training_loop",
    "regularization",
    "dropout",
    "optimizers",
    "initialization",
    "tying",
    "gumbel_softmax",
    "vae",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("course") / "homework"
    assert (
        course.build(MASTERS, out, secret=SECRET, edition="2031-autumn", verify=False, report=lambda line: None)
        == NAMES
    )
    return out


def text(path: Path) -> str:
    """All of a notebook, metadata and outputs too, with its characters as they are read."""
    return json.dumps(json.loads(path.read_text(encoding="utf-8")), ensure_ascii=False)


def test_every_core_chapter_has_its_homework() -> None:
    assert sorted(CHAPTERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_a_solution_reaches_a_student(built: Path, name: str) -> None:
    student = text(built / "student" / f"{name}.ipynb")
    lines = course.solution_lines(MASTERS / f"{name}.ipynb")
    assert len(lines) > 10
    assert [line for line in lines if json.dumps(line, ensure_ascii=False)[1:-1] in student] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_student_gets_public_checks_and_no_hidden_ones(built: Path, name: str) -> None:
    notebook = json.loads((built / "student" / f"{name}.ipynb").read_text(encoding="utf-8"))
    tests: dict[str, Any] = notebook["metadata"]["otter"]["tests"]
    assert set(tests) == set(homework(name).graded), "each graded problem has a check that students can run"
    assert all("secret" not in str(test) for test in tests.values())
    assert SECRET not in text(built / "student" / f"{name}.ipynb")
    assert all(not cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.parametrize("name", NAMES)
def test_the_autograder_draws_from_the_course_s_secret(built: Path, name: str) -> None:
    with zipfile.ZipFile(built / "autograder" / f"{name}.zip") as archive:
        tests = {path: archive.read(path).decode() for path in archive.namelist() if path.startswith("tests/")}
        assert {Path(path).stem for path in tests} == set(homework(name).graded)
        assert json.loads(archive.read("otter_config.json"))["assignment_name"] == name
        assert {"run_autograder", "setup.sh", "environment.yml"} <= set(archive.namelist()), "what Gradescope wants"
    whole = "\n".join(tests.values())
    own = course._own(SECRET, name)
    assert whole.count(own) >= 3 and course.PLACEHOLDER not in whole and SECRET not in whole
    assert not any(course._own(SECRET, other) in whole for other in NAMES if other != name), "one secret a homework"
    with zipfile.ZipFile(built / "autograder" / f"{name}.zip") as archive:
        by_hand = json.loads(archive.read("open.json"))
    assert by_hand == {p.name: p.points for p in course.problems(MASTERS / f"{name}.ipynb") if p.manual}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_secret_reaches_a_student(built: Path, name: str) -> None:
    student = text(built / "student" / f"{name}.ipynb")
    for form in (SECRET, course._own(SECRET, name), json.dumps(SECRET)[1:-1]):
        assert form not in student
    blob = re.search(r"grader = begin\('\w+', tests='(.+?)'\)", json.loads(student)["cells"] and cell_of(student))
    first = cell_of(student)
    assert "def need_tiedlib(" in first and first.index("need_tiedlib(ADDRESS, EXTRA)") < first.index("import begin")
    assert "otter.Notebook(" not in student
    files = json.loads(zlib.decompress(base64.b85decode(blob[1].encode().decode("unicode_escape"))))
    assert {Path(file).stem for file in files} == set(homework(name).graded)
    for file in files.values():
        assert SECRET not in file and course._own(SECRET, name) not in file and "hidden=True" not in file


def cell_of(student: str) -> str:
    """The source of the cell that makes the checks."""
    return next(s for cell in json.loads(student)["cells"] if "begin(" in (s := "".join(cell["source"])))


@pytest.mark.parametrize("name", NAMES)
def test_a_homework_has_the_shape_of_one(name: str) -> None:
    found = course.problems(MASTERS / f"{name}.ipynb")
    assert 5 <= len(found) <= 8
    assert [p.name for p in found] == [f"q{n}" for n in range(1, len(found) + 1)]
    assert [p.manual for p in found][-1:] == [True], "the last is the open experiment"
    assert "Points" in homework(name).solutions[found[-1].name][-1], "the open experiment has a rubric"
    for question in homework(name).graded:
        assert homework(name).tests[question]
        assert homework(name).complaints(question) == [], "the solution is right"


def test_the_guide_has_every_homework_and_every_problem(built: Path) -> None:
    guide = (built / "guide.md").read_text(encoding="utf-8")
    weeks = yaml.safe_load((MASTERS / "course.yml").read_text(encoding="utf-8"))
    assert list(weeks) == CHAPTERS, "one homework a week, in the order of the book"
    for name, week in weeks.items():
        assert [p["name"] for p in week["problems"]] == [p.name for p in course.problems(MASTERS / f"{name}.ipynb")]
        assert week["title"] in guide and all(f"\n- {goal}\n" in guide for goal in week["objectives"])
        assert all(goal.startswith("can ") for goal in week["objectives"])
    assert "2031-autumn" in guide


def test_the_same_input_gives_the_same_bytes_and_another_secret_other_graders_alone(
    built: Path, tmp_path: Path
) -> None:
    one = tmp_path / "masters"
    one.mkdir()
    (one / "optimizers.ipynb").write_bytes((MASTERS / "optimizers.ipynb").read_bytes())
    for out, secret in (("a", SECRET), ("b", "another secret of a course")):
        course.build(one, tmp_path / out, secret=secret, verify=False, report=lambda line: None)
    for kind in ("student/optimizers.ipynb", "autograder/optimizers.zip", "solutions/optimizers.ipynb"):
        assert (tmp_path / "a" / kind).read_bytes() == (built / kind).read_bytes()
    assert (tmp_path / "b/student/optimizers.ipynb").read_bytes() == (built / "student/optimizers.ipynb").read_bytes()
    assert (tmp_path / "b/autograder/optimizers.zip").read_bytes() != (built / "autograder/optimizers.zip").read_bytes()
    edition = json.loads((tmp_path / "a/edition.json").read_text(encoding="utf-8"))
    assert (
        edition["files"]["student/optimizers.ipynb"]
        == json.loads((built / "edition.json").read_text(encoding="utf-8"))["files"]["student/optimizers.ipynb"]
    )
    assert SECRET not in json.dumps(edition)


def test_a_secret_that_is_made_is_kept_and_used_again(tmp_path: Path) -> None:
    (tmp_path / "masters").mkdir()
    (tmp_path / "masters/optimizers.ipynb").write_bytes((MASTERS / "optimizers.ipynb").read_bytes())
    kept = []
    for _ in range(2):
        course.build(tmp_path / "masters", tmp_path / "out", verify=False, report=lambda line: None)
        kept.append(
            (
                (tmp_path / "out/secret.txt").read_text(encoding="utf-8"),
                (tmp_path / "out/autograder/optimizers.zip").read_bytes(),
            )
        )
    assert kept[0] == kept[1] and len(kept[0][0].strip()) == 32
    assert (tmp_path / "out/secret.txt").stat().st_mode & 0o077 == 0


def test_a_wheel_travels_in_the_autograder(tmp_path: Path) -> None:
    (tmp_path / "masters").mkdir()
    (tmp_path / "masters/optimizers.ipynb").write_bytes((MASTERS / "optimizers.ipynb").read_bytes())
    wheel = tmp_path / "tiedlib-9.9-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    course.build(tmp_path / "masters", tmp_path / "out", wheel=wheel, verify=False, report=lambda line: None)
    with zipfile.ZipFile(tmp_path / "out/autograder/optimizers.zip") as archive:
        assert archive.read(f"files/{wheel.name}") == b"a wheel"
        assert f"/autograder/source/files/{wheel.name}[homework]" in archive.read("environment.yml").decode()


def test_what_a_notebook_keeps_beside_its_cells_stays_with_the_master(tmp_path: Path) -> None:
    (tmp_path / "masters").mkdir()
    master = json.loads((MASTERS / "optimizers.ipynb").read_text(encoding="utf-8"))
    for cell in master["cells"]:
        cell["metadata"]["draft"] = "the solution is velocity = mu * m + grad"
    (tmp_path / "masters/optimizers.ipynb").write_text(json.dumps(master), encoding="utf-8")
    course.build(tmp_path / "masters", tmp_path / "out", verify=False, report=lambda line: None)
    assert "the solution is" not in text(tmp_path / "out/student/optimizers.ipynb")


def test_bad_input_is_refused_and_leaves_what_was_built(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="masters is"):
        course.build(tmp_path, tmp_path / "out")
    for secret in (
        "short",
        "a 'quote' that breaks the test",
        'or "this"',
        "a line\nand another",
        "a back\\slash in it",
        "",
    ):
        with pytest.raises(ValueError, match="secret has"):
            course.build(MASTERS, tmp_path / "out", secret=secret)
    (tmp_path / "masters").mkdir()
    (tmp_path / "masters/broken.ipynb").write_text("{", encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old.txt").write_text("stays", encoding="utf-8")
    with pytest.raises(ValueError):
        course.build(tmp_path / "masters", tmp_path / "out", verify=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old.txt"]
    assert not list(tmp_path.glob(".homework-*"))


@pytest.fixture(scope="module")
def graded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Solution and untouched student version of every homework, each graded as a submission is."""
    found = {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp(name)
        for kind in ("solutions", "student"):
            (folder / f"{kind}.ipynb").write_bytes((built / kind / f"{name}.ipynb").read_bytes())
        results = grade(
            built / "autograder" / f"{name}.zip",
            folder,
            folder / "grades",
            jobs=1,
            limits=Limits(),
            report=lambda line: None,
        )
        found |= {(name, Path(r["file"]).stem): r for r in results}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_gets_full_marks_and_the_untouched_notebook_none(
    graded: dict[tuple[str, str], dict[str, Any]], name: str
) -> None:
    by_program = sum(p.points for p in course.problems(MASTERS / f"{name}.ipynb") if not p.manual)
    best, none = graded[name, "solutions"], graded[name, "student"]
    assert (best["status"], best["score"]) == ("graded", by_program)
    assert (none["status"], none["score"]) == ("graded", 0)
    assert all(not question["points"] for question in none["questions"].values())
    whole = sum(p.points for p in course.problems(MASTERS / f"{name}.ipynb"))
    assert best["maximum"] == none["maximum"] == whole, "what the notebook says that it is worth"
