"""tiedlib.homework.command: one line and exit code 2 for what cannot be."""

from pathlib import Path

import pytest

pytest.importorskip("otter")

from tests.homework.grading.batch import Homework, zipped
from tiedlib.lab.commands.main import run


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
