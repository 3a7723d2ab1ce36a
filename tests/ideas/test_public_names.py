"""Names that homework and other people's code rest on: none goes, and no call that worked stops working, without a warning first.

public_names.txt lists every public name of the ideas with its parameters: those that may be given by position, then, after
`*`, those by keyword alone. What is new is added to it; what is to go follows the rule in CONTRIBUTING.md, and its line goes
with the release that removes it.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT

LIST = Path(__file__).with_name("public_names.txt")
LINES = [line for line in LIST.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def described(name: str, thing: Any) -> str:
    """A line of the list: the name, and the parameters of what can be called."""
    try:
        found = inspect.signature(thing).parameters.values() if callable(thing) else ()
    except (TypeError, ValueError):
        found = ()
    by_place = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    by_name = [p.name for p in found if p.kind is p.KEYWORD_ONLY]
    return " ".join([name, *by_place, *(["*", *by_name] if by_name else [])])


def current() -> dict[str, str]:
    lines = {}
    for path in sorted((ROOT / "tiedlib").glob("*.py")):
        module = importlib.import_module(f"tiedlib.{path.stem}") if not path.stem.startswith("_") else None
        for name in getattr(module, "__all__", ()):
            lines[f"{path.stem}.{name}"] = described(f"{path.stem}.{name}", getattr(module, name))
    return lines


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split(" ")[0])
def test_a_public_name_stays_and_is_called_as_before(line: str) -> None:
    name, *parameters = line.split(" ")
    now = current().get(name)
    assert now is not None, f"{name} is gone: see CONTRIBUTING.md, how a name may go"
    new = now.split(" ")[1:]
    before, after = (p[: p.index("*")] if "*" in p else p for p in (parameters, new))
    assert after[: len(before)] == before, f"{name} takes other arguments by position: {now}"
    assert set(parameters) - {"*"} <= set(new), f"{name} no longer takes {set(parameters) - set(new)}"


def test_every_public_name_is_in_the_list() -> None:
    missing = [line for name, line in current().items() if name not in {line.split(" ")[0] for line in LINES}]
    assert not missing, f"add to {LIST.name}: {missing}"
