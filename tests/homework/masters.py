"""A master notebook as the tests need it: its solutions run once, then any answer is put in their place and checked."""

import json
import re
from functools import cache
from typing import Any

import yaml

from tests.places import ROOT

MASTERS = ROOT / "book" / "homework"
NAMES = sorted(path.stem for path in MASTERS.glob("*.ipynb"))


class Homework:
    """questions: name → its configuration; tests: name → the sources of its test cells, public and hidden."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.questions: dict[str, dict[str, Any]] = {}
        self.tests: dict[str, list[str]] = {}
        self.solutions: dict[str, list[str]] = {}
        self.code: list[str] = []
        question, inside = "", ""
        for cell in json.loads((MASTERS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "raw" and (found := re.match(r"# (BEGIN|END) (\w+)", source)):
                inside = found[2] if found[1] == "BEGIN" else ""
                if found.groups() == ("BEGIN", "QUESTION"):
                    settings = yaml.safe_load(source.partition("\n")[2])
                    question = settings["name"]
                    self.questions[question] = settings
            elif cell["cell_type"] == "code" and inside == "TESTS":
                self.tests.setdefault(question, []).append(source)
            elif cell["cell_type"] == "code" and "install" not in cell["metadata"].get("tags", ()):
                self.code.append(source)
            if inside == "SOLUTION" and cell["cell_type"] != "raw":
                self.solutions.setdefault(question, []).append(source)

    @property
    def graded(self) -> list[str]:
        """The questions that a program grades."""
        return [name for name, settings in self.questions.items() if not settings.get("manual")]

    @cache  # noqa: B019 - one for each of eight homeworks, for the life of the tests
    def solved(self) -> dict[str, Any]:
        """What the notebook's variables are after its solutions have run."""
        space: dict[str, Any] = {"__name__": "__main__"}
        for number, source in enumerate(self.code):
            exec(compile(source, f"<{self.name} cell {number}>", "exec"), space)
        return space

    def complaints(self, question: str, answer: str | None = None) -> list[str]:
        """What the checks of a question say, one line for each that fails; with answer in the place of its solution."""
        space = dict(self.solved())
        if answer is not None:
            exec(compile(answer, "<answer>", "exec"), space)
        said = []
        for source in self.tests[question]:
            try:
                exec(compile(source, f"<test of {question}>", "exec"), space)
            except AssertionError as error:
                said.append(str(error))
        return said


@cache
def homework(name: str) -> Homework:
    return Homework(name)
