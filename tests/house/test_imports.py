"""Imports run one way: between ideas, between rooms, between modules."""

import re
import subprocess
import sys

import pytest

from tests.house.graph import circles, drawing, graph, modules, named, room, rooms
from tests.places import ROOT
from tiedlib.lab.resources import chapters

IDEAS = [name for name in modules() if room(name) == "ideas"]
# What each room may import from. A kind of run (a folder with a configuration, an objective, a training) has one rule for all.
KINDS = ("language_model", "autoencoder")
MAY = {
    "ideas": set(),
    "small": {"ideas"},
    "data": {"ideas", "small"},
    "figures": {"small"},
    "runs": {"ideas", "small", "data"},
    **{kind: {"ideas", "small", "data", "runs"} for kind in KINDS},
    "experiments": {"ideas", "small", "data", "runs", *KINDS},
    "notebook": {"ideas", "small", "data", "figures", "runs"},
    "page": {"small", "figures"},
    "homework": {"ideas", "small", "grading"},
    "grading": {"ideas", "small"},
    "commands": {"ideas", "small", "data", "runs", "experiments", "homework", *KINDS},
    "top": {"commands"},
}


def test_no_two_modules_import_each_other() -> None:
    assert circles() == []


def test_every_room_has_a_rule_and_keeps_it() -> None:
    assert rooms().keys() == MAY.keys()
    against = {one: sorted(uses - MAY[one]) for one, uses in rooms().items() if uses - MAY[one]}
    assert not against, f"rooms that import from rooms above them or beside them: {against}"


def test_the_rules_themselves_run_one_way() -> None:
    """A room stands below every room that may import from it."""
    placed: set[str] = set()
    while len(placed) < len(MAY):
        free = {one for one, uses in MAY.items() if one not in placed and uses <= placed}
        assert free, f"a circle among {MAY.keys() - placed}"
        placed |= free


@pytest.mark.parametrize("module", IDEAS)
def test_an_idea_imports_torch_jaxtyping_and_earlier_ideas_only(module: str) -> None:
    order = chapters()
    own = module.removeprefix("tiedlib.")
    assert own in order, f"{own} is not in tiedlib/order.txt"
    for other in graph()[module] - {"tiedlib"}:
        assert room(other) == "ideas" and other.removeprefix("tiedlib.") in order[: order.index(own)], (
            f"{module} imports {other}, which is no earlier idea"
        )
    for name in named(modules()[module]):
        package = name.split(".")[0]
        assert package in {"tiedlib", "torch", "jaxtyping"} or package in sys.stdlib_module_names, (
            f"{module} imports {name}; ideas import torch, jaxtyping, Python and earlier ideas"
        )


def test_the_house_is_drawn_as_it_is() -> None:
    """CONTRIBUTING.md shows the rooms, each with those that it imports from."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn = re.search(r"```\n(data\n.*?)\n```", page, re.DOTALL)
    order = [one for one in MAY if one not in ("ideas", "small")]
    assert drawn is not None and drawn[1] == drawing(order), f"the drawing is:\n{drawing(order)}"


# Modules whose tests are in another file or room: which one, and by which word they are there.
ELSEWHERE = {
    **{
        f"tiedlib.lab.experiments.{name}": ("lab/experiments/test_reproduce.py", "EXPERIMENTS")
        for name in ("experiment", "tying", "vae")
    },
    **{
        f"tiedlib.lab.commands.{name}": ("lab/commands/test_command_line.py", word)
        for name, word in {
            "data": '["data", "list"]',
            "generate": '["generate"',
            "reproduce": "reproduce",
            "settings": "--batch",
            "sweep": "sweep --",
            "train": "train --",
        }.items()
    },
    "tiedlib.lab.figures.specs": ("lab/notebook/test_explorer.py", "spec("),
    "tiedlib.lab.figures.themes": ("lab/page/test_page.py", "themes."),
    "tiedlib.lab.notebook.parameters": ("lab/notebook/test_explorer.py", "parameters"),
}


def test_a_module_has_its_tests_in_its_room() -> None:
    """A file there has the name of the module or of its folder, or imports the module."""
    untested = []
    for place, word in ELSEWHERE.values():
        assert word in (ROOT / "tests" / place).read_text(encoding="utf-8")
    for name, path in modules().items():
        folder = ROOT / "tests" / ("ideas" if room(name) == "ideas" else path.parent.relative_to(ROOT / "tiedlib"))
        if path.name == "__init__.py" or room(name) == "top" or name in ELSEWHERE:
            continue  # tests/ideas/test_lazy.py has the packages, tests/lab/commands/test_main.py the start
        sources = [file.read_text(encoding="utf-8") for file in folder.rglob("test_*.py")]
        own, package = name.rpartition(".")[2], name.rpartition(".")[0]
        ways = (
            rf"{re.escape(name)}\b|from {re.escape(package)} import [^\n]*\b{own}\b|from {re.escape(package)} import \("
        )
        alike = {f"test_{part.lstrip('_')}.py" for part in (own, path.parent.name)}
        if not any((place / file).is_file() for place in (folder, folder.parent) for file in alike) and not any(
            re.search(ways, one) for one in sources
        ):
            untested.append(name)
    assert not untested, f"modules that no test in their room imports: {untested}"


def test_git_keeps_every_module_and_every_test() -> None:
    """A pattern of .gitignore that means a folder of results must not match a room."""
    wanted = [
        path.relative_to(ROOT).as_posix()
        for room in ("tiedlib", "tests", "tools")
        for path in (ROOT / room).rglob("*.py")
    ]
    git = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        cwd=ROOT,
        input="\n".join(wanted),
        capture_output=True,
        text=True,
        check=False,
    )
    if git.returncode == 128:
        pytest.skip("this is no git checkout")
    assert git.stdout.split() == []
