"""The import graph of the library, read from its source: which module names which, and which room which."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.places import ROOT

PACKAGE = ROOT / "tiedlib"
SMALL = (
    "files",
    "grid",
    "interrupts",
    "outputs",
    "register",
    "resources",
)  # modules of the bench that stand in no room


def name_of(path: Path) -> str:
    """tiedlib.lab.runs for tiedlib/lab/runs/__init__.py, tiedlib.dropout for tiedlib/dropout.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module and package of the library."""
    return {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def named(path: Path) -> Iterator[str]:
    """All that a file imports, wherever the import stands in it: a module, or a name in a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: write imports in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def graph() -> dict[str, frozenset[str]]:
    """Each module with the modules of the library that it imports. `from package import module` is an import of the module,
    `from package import name` one of the package."""
    known = modules()

    def module(name: str) -> str:
        return name if name in known else name.rpartition(".")[0]

    return {
        one: frozenset(module(name) for name in named(path) if name.split(".")[0] == "tiedlib") - {one}
        for one, path in known.items()
    }


def room(module: str) -> str:
    """The room in which a module stands: ideas, small, a folder of the bench, homework, grading, or top (what starts it all)."""
    parts = module.split(".")[1:]
    if parts[:2] == ["homework", "grading"]:
        return "grading"
    if parts[:1] == ["homework"]:
        return "homework"
    if parts[:1] != ["lab"]:
        return "top" if parts in ([], ["__main__"]) else "ideas"
    if len(parts) == 1 or parts[1] in SMALL:
        return "small"
    return parts[1]


def rooms() -> dict[str, set[str]]:
    """Each room with the other rooms that its modules import from; what only says the version or finds modules is left out."""
    found: dict[str, set[str]] = {}
    for one, others in graph().items():
        found.setdefault(room(one), set()).update(
            room(other) for other in others - {"tiedlib", "tiedlib._lazy"} if room(other) != room(one)
        )
    return found


def circles() -> list[list[str]]:
    """Modules that import each other, by however many steps (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def walk(one: str) -> None:
        number[one] = lowest[one] = len(number)
        stack.append(one)
        for other in graph()[one]:
            if other not in number:
                walk(other)
            if other in stack:
                lowest[one] = min(lowest[one], lowest[other])
        if lowest[one] == number[one]:
            members = stack[stack.index(one) :]
            del stack[stack.index(one) :]
            if len(members) > 1:
                found.append(sorted(members))

    for one in graph():
        if one not in number:
            walk(one)
    return found


def drawing(order: list[str]) -> str:
    """The rooms, each with those it imports from, in the given order; `ideas` and `small`, which all may use, are not repeated."""
    everywhere = {"ideas", "small"}
    lines = []
    for one in order:
        uses = sorted(rooms().get(one, set()) - everywhere, key=order.index)
        lines.append(f"{one:15} {('← ' + ', '.join(uses)) if uses else ''}".rstrip())
    return "\n".join(lines)
