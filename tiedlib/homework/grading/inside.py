"""What runs inside a student's process: keeps what the checks need as it was, and runs the check of one question.

`tiedlib.homework.grading.kernel` sends the text of this file to the process before the student's first cell. It notes which
functions and classes stand in otter, in Python's builtins and in the modules that the checks import, and puts them back before each
check: a test that a student has replaced (`torch.allclose = lambda *_: True`) is replaced back, and named in the result.
Each check is run a second time without the student's work, where it must not pass: a check that passes whatever it is given
has been tampered with.

What remains possible: all of this runs in one process with the student's code. Whoever reads this file can write
code that finds these objects and changes them in a way that neither of the two tricks sees. No check in the same process can be
sound against that; the process can harm nobody else, and the code that does it stands in the submission.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

_kept: list[tuple[Any, str, Any]] = []
_streams: dict[str, Any] = {}
_tools: dict[str, Any] = {}
_answer = ""
_HOLDERS = (ModuleType, type)


def prepare(environment: dict[str, Any], modules: Sequence[str], early: Sequence[str]) -> None:
    """Import otter and the modules of the checks, from where they are installed, and note what stands in them.

    environment: the student's variables. A check that a cell calls itself does nothing: the grader runs all checks.
    """
    path = list(sys.path)
    sys.path[:] = [
        entry for entry in path if entry not in ("", str(Path.cwd()))
    ]  # a file of the student's is no torch.py
    slow = "rfc3987_syntax"  # a checker of addresses that jsonschema can do without; it takes seconds to be imported
    skip = {slow: None} if slow not in sys.modules else {}
    sys.modules.update(skip)  # type: ignore[arg-type]
    try:
        import otter
        from otter import test_files
        from otter.nbmeta_config import NBMetadataConfig

        from tiedlib.homework.grading.hidden import without, words

        for name in skip:
            del sys.modules[name]
        for name in (*modules, *early):
            with suppress(Exception, SystemExit):
                importlib.import_module(name)
    finally:
        sys.path[:] = path
    otter.Notebook.init_grading_mode("./no tests here")
    for name in ("__init__", "check", "check_all", "export", "to_pdf", "run_plugin", "add_plugin_files"):
        setattr(otter.Notebook, name, lambda *_, **__: None)
    _tools.update(words=words, without=without)
    _tools.update(read=test_files.create_test_file, config=NBMetadataConfig, environment=environment)
    keep(modules)


def keep(modules: Sequence[str]) -> None:
    """Note the functions and classes of these modules, of builtins and of otter, and what stands in otter's, torch's and
    tiedlib's classes."""
    chosen = {"builtins", "json", "math", *modules} - {"sys"}  # IPython changes sys itself
    holders = [sys.modules[name] for name in chosen if name in sys.modules]
    holders += [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "otter"]
    classes = [v for module in holders for v in list(vars(module).values()) if isinstance(v, type)]
    own = [one for one in classes if one.__module__.partition(".")[0] in {"otter", "torch", "tiedlib"}]
    for holder in {id(one): one for one in (*holders, *own) if isinstance(one, _HOLDERS)}.values():
        _kept.extend((holder, name, value) for name, value in list(vars(holder).items()) if _is_code(value))
    _kept[:] = [
        (holder, name, value) for holder, name, value in _kept if (holder, name) != (builtins, "input")
    ]  # ipykernel's


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, (classmethod, staticmethod, property))


def stay() -> None:
    """`exit()` and `quit()` in a cell end nothing: the next cell is still to be graded."""
    from IPython import get_ipython

    shell = get_ipython()
    shell.ask_exit = lambda: None
    _streams.update({name: getattr(sys, name) for name in ("stdout", "stderr")})
    _tools["depth"] = sys.getrecursionlimit()
    for event in ("pre_execute", "post_execute"):
        shell.events.register(event, settle)  # what the kernel itself needs before it answers


def settle() -> None:
    """Put back what a cell has taken from the kernel itself, for which every later cell would wait: streams and room to call."""
    if sys.getrecursionlimit() < _tools.get("depth", 0):
        sys.setrecursionlimit(_tools["depth"])
    for name, stream in _streams.items():
        if getattr(sys, name, None) is not stream:
            setattr(sys, name, stream)


def restore() -> list[str]:
    """Put back what was replaced; the names of it."""
    found: list[str] = []
    settle()
    for holder, name, value in _kept:
        if vars(holder).get(name) is not value:
            with suppress(AttributeError, TypeError):
                setattr(holder, name, value)
                found.append(f"{holder.__name__}.{name}")
    return found


def describe(path: str) -> dict[str, Any]:
    """What a test file holds: names, points, which cases are hidden."""
    test = _tools["read"](path, _tools["config"]())
    cases = [{"name": c.name, "points": c.points, "hidden": c.hidden} for c in test.test_cases]
    return {"name": test.name, "all_or_nothing": test.all_or_nothing, "cases": cases}


def check(path: str) -> None:
    """Run one test file on the student's variables and on none; the answer waits in `answer`."""
    global _answer
    replaced = restore()
    secret = Path(path).parent / ".secret"
    if secret.exists():
        os.environ["TIEDLIB_HOMEWORK_SECRET"] = secret.read_text(encoding="utf-8")
    try:
        found = [_run(path, environment) for environment in (_tools["environment"], {"__builtins__": builtins})]
    finally:
        os.environ.pop("TIEDLIB_HOMEWORK_SECRET", None)
    (passed, messages), (blank, _) = found
    answer = {"passed": passed, "messages": messages, "blank": blank, "replaced": replaced + restore()}
    _answer = json.dumps({**answer, "about": describe(path)})


def _run(path: str, environment: dict[str, Any]) -> tuple[list[bool], list[str]]:
    test = _tools["read"](path, _tools["config"]())
    test.run(environment)
    results = test.test_case_results
    source, secret = Path(path).read_text(encoding="utf-8"), os.environ.get("TIEDLIB_HOMEWORK_SECRET", "")
    hide = _tools["words"](source, secret)
    messages = [_tools["without"](str(result.message), hide)[:2000] for result in results]
    return [result.passed for result in results], messages


def answer() -> str:
    """What the last check found, as JSON; asked for once."""
    global _answer
    found, _answer = _answer, ""
    return found
