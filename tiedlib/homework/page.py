"""The directive `homework` for the book: every homework with what it holds, and its student version to take along.

    sphinx: extra_extensions: [tiedlib.homework.page]

The student versions are built with the pages and lie beside them, in the folder `homework`; masters are read from
book/homework. A page of one file (the PDF) names them and has no links.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import tiedlib
from tiedlib.homework import course

__all__ = ["setup"]

_FOLDER = "book/homework"


class HomeworkList(SphinxDirective):
    """A section of the page for each homework, in the order of the course."""

    def run(self) -> list[nodes.Node]:
        masters = Path(self.env.srcdir) / _FOLDER
        weeks = yaml.safe_load((masters / "course.yml").read_text(encoding="utf-8"))
        self.env.note_dependency(str(masters / "course.yml"))
        found: list[nodes.Node] = []
        for number, (name, week) in enumerate(weeks.items(), start=1):
            self.env.note_dependency(str(masters / f"{name}.ipynb"))
            found += self._week(masters, name, week, number)
        return found

    def _week(self, masters: Path, name: str, week: dict[str, Any], number: int) -> list[nodes.Node]:
        entry = nodes.container(classes=["tl-chapter"])
        up = "../" * self.env.docname.count("/")
        link = nodes.reference("", f"{number}. {week['title']}", refuri=f"{up}homework/{name}.ipynb", internal=False)
        plain = nodes.inline("", f"{number}. {week['title']}")
        html = self.env.app.builder.name in ("html", "dirhtml")
        entry += nodes.paragraph("", "", link if html else plain, classes=["tl-chapter-title"])
        asked = course.problems(masters / f"{name}.ipynb")
        titles = "; ".join(problem.title for problem in asked)
        points = sum(problem.points for problem in asked)
        entry += nodes.paragraph("", titles if titles.endswith("?") else f"{titles}.")
        entry += nodes.paragraph(
            "",
            f"{len(asked)} problems, {points:g} points, about {week['minutes']} minutes",
            classes=["tl-chapter-holds"],
        )
        return [entry]


def _beside_the_pages(app: Sphinx, exception: Exception | None) -> None:
    """The student versions, built from the masters into the site."""
    if exception or app.builder.name not in ("html", "dirhtml"):
        return
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "homework")
        course.build(Path(app.srcdir) / _FOLDER, built, verify=False, report=lambda line: None)
        target = Path(app.outdir) / "homework"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(built / "student", target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("homework", HomeworkList)
    app.connect("build-finished", _beside_the_pages)
    return {"version": tiedlib.__version__, "parallel_read_safe": True, "parallel_write_safe": True}
