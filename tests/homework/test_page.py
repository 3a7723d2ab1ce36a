"""tiedlib.homework.page: the page of the built book lists every homework, and its notebook lies beside the pages."""

import json
import os
import re

import pytest

from tests.homework.masters import NAMES
from tests.places import ROOT

BOOK = ROOT / "_build" / "html"


@pytest.fixture(scope="module")
def page() -> str:
    path = BOOK / "book" / "homework.html"
    if not path.is_file():
        if os.environ.get("CI") == "true":
            pytest.fail("the book is not built: make book")
        pytest.skip("the book is not built: make book")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_homework_is_listed_and_can_be_taken_along(page: str, name: str) -> None:
    assert re.search(rf'href="[^"]*homework/{name}\.ipynb"', page), "no link to the student's notebook"
    student = json.loads((BOOK / "homework" / f"{name}.ipynb").read_text(encoding="utf-8"))
    code = "".join("".join(cell["source"]) for cell in student["cells"])
    assert "check" in code and "BEGIN SOLUTION" not in code, "the student's version, not the master"
