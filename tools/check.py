"""One chapter alone, in about a minute: `make check NAME=dropout`.

    python -m tools.check NAME

Style and types of its files, the tests of its idea and of its homework, its notebooks (the chapter, its deeper pages, its notes
page) executed, and their pages built into _build/check. The path of the page is printed, and it is opened where there is a
desktop. Links to other chapters lead nowhere there, so warnings are no errors: `make book` is strict.
"""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from pathlib import Path

from tools import execute

ROOT = Path(__file__).resolve().parent.parent


def files_of(name: str) -> tuple[list[Path], list[Path], list[Path]]:
    """The notebooks, the modules and the tests of a chapter."""
    notebooks = [ROOT / "book" / f"{name}.ipynb", *sorted((ROOT / "book" / "deeper").glob(f"{name}*.ipynb"))]
    notebooks += [ROOT / "book" / "notes" / f"{name}.ipynb"]
    modules = [ROOT / "tiedlib" / f"{name}.py", ROOT / "tiedlib" / "homework" / f"{name}.py"]
    modules += [ROOT / "tiedlib" / "lab" / "experiments" / f"{name}.py"]
    tests = [ROOT / "tests" / room / f"test_{name}.py" for room in ("ideas", "homework", "lab/experiments")]
    there = [[path for path in part if path.is_file()] for part in (notebooks, modules, tests)]
    return there[0], there[1], there[2]


def run(*command: str | Path, **more: str) -> bool:
    """Run a program of the environment; whether all went well."""
    program = [str(Path(sys.executable).with_name(str(command[0]))), *map(str, command[1:])]
    return (
        subprocess.run(program, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **more}, check=False).returncode
        == 0
    )


def build(name: str, notebooks: list[Path]) -> Path:
    """The pages of a chapter, with the notebooks that were executed for the whole book; gives the path of the first."""
    out = ROOT / "_build" / "check"
    (out / "_build").mkdir(parents=True, exist_ok=True)
    cache = out / "_build" / ".jupyter_cache"
    if not cache.is_symlink():
        cache.symlink_to(os.path.relpath(ROOT / "_build" / ".jupyter_cache", cache.parent))
    toc = out / "_toc.yml"
    pages = [path.relative_to(ROOT).with_suffix("").as_posix() for path in notebooks]
    text = f"format: jb-book\nroot: {pages[0]}\n"
    text += "chapters:\n" + "".join(f"- file: {page}\n" for page in [*pages[1:], "book/references"])
    if not toc.is_file() or toc.read_text(encoding="utf-8") != text:
        toc.write_text(text, encoding="utf-8")
    if not run("jupyter-book", "build", "--quiet", "--toc", toc, "--path-output", out, "."):
        raise SystemExit("the page could not be built")
    return out / "_build" / "html" / f"{pages[0]}.html"


def main(name: str) -> int:
    """Everything; 1 where something failed."""
    notebooks, modules, tests = files_of(name)
    good = run("ruff", "check", "--quiet", *modules, *tests, *notebooks)
    good &= run("ruff", "format", "--check", "--quiet", *modules, *tests, *notebooks)
    good &= run("mypy", *modules)
    good &= run("pytest", "-q", "-n", "2", "--nbval-lax", *tests, *notebooks)
    good &= execute.main([path.relative_to(ROOT).as_posix() for path in notebooks]) == 0
    page = build(name, notebooks)
    print(page)
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY"):
        webbrowser.open(page.as_uri())
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
