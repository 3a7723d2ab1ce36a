"""Executes the notebooks of the book that have to be, two at a time, before Sphinx reads them from the cache.

    python -m tools.execute [NOTEBOOK ...]      # none: every notebook of _toc.yml

A notebook has to be executed again when its own cells changed, or something that they depend on: a module of the library that they
import, directly or through others; the recorded runs, where they read any; the claims of its chapter; the versions of
packages and of Python, and where data come from. What each depended on when it was last executed is kept beside the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution

from tiedlib.lab.outputs import BUILD_VARIABLE
from tiedlib.lab.runs.provenance import closure, imported

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 2
RECORDS = ("load_runs", "load_unfinished", "load_embeddings", "load_benchmarks", "recorded")  # who reads data/results


def notebooks() -> list[Path]:
    """The notebooks of the table of contents, in its order."""

    def files(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (node[key] for key in ("root", "file") if key in node)
            for value in node.values():
                yield from files(value)
        elif isinstance(node, list):
            for value in node:
                yield from files(value)

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [path for name in files(toc) if (path := ROOT / f"{name}.ipynb").is_file()]


def code_of(path: Path) -> str:
    """The notebook's code as one program, without the lines that only IPython understands."""
    cells = nbformat.read(path, 4).cells
    lines = "\n".join(cell.source for cell in cells if cell.cell_type == "code").splitlines()
    return "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in lines)


def digest(path: Path) -> str:
    """A hash of all that a notebook depends on."""
    code = code_of(path)
    texts = closure(imported(code))
    files = [ROOT / "book" / "claims" / f"{path.stem}.yml", ROOT / "tiedlib" / "order.txt"]
    if "register(" in code:  # a page about all of them
        files += sorted((ROOT / "book" / "claims").glob("*.yml"))
    if any(word in code for word in RECORDS):
        files += sorted((ROOT / "data" / "results").rglob("*.json"))
    files += [ROOT / "data" / "registry.txt", ROOT / os.environ.get("CONSTRAINTS", "constraints.txt")]
    found = hashlib.sha256(f"{sys.version}\n{os.environ.get('TIEDLIB_DATA', '')}\n{code}".encode())
    for name, text in sorted(texts.items()):
        found.update(f"{name}\n{text}\n".encode())
    for file in files:
        found.update(file.name.encode() + (file.read_bytes() if file.is_file() else b""))
    return found.hexdigest()


def execute(path: Path, timeout: int) -> tuple[Any, float, str]:
    """The notebook with its outputs, the seconds it took, and what went wrong."""
    notebook = nbformat.read(path, 4)
    done = single_nb_execution(notebook, cwd=str(path.parent), timeout=timeout, allow_errors=False)
    return done.nb, done.time, done.exc_string or ""


def main(names: list[str]) -> int:
    """Execute what has to be; 1 where a notebook raised."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    cache = get_cache(str(ROOT / "_build" / ".jupyter_cache"))
    note = ROOT / "_build" / ".jupyter_cache" / "depends.json"
    before: dict[str, str] = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    stale: dict[Path, str] = {}
    for path in [ROOT / name for name in names] or notebooks():
        now, name = digest(path), path.relative_to(ROOT).as_posix()
        try:
            record = cache.match_cache_file(str(path))
        except KeyError:
            stale[path] = now
            continue
        if before.get(name) != now:
            cache.remove_cache(record.pk)
            (ROOT / "_build" / ".doctrees" / f"{name.removesuffix('.ipynb')}.doctree").unlink(missing_ok=True)
            stale[path] = now
    os.environ[BUILD_VARIABLE] = "1"  # kernels inherit it
    failed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = {pool.submit(execute, path, config["execute"]["timeout"]): path for path in stale}
        for future in as_completed(waiting):
            path = waiting[future]
            name, (notebook, seconds, error) = path.relative_to(ROOT).as_posix(), future.result()
            if error:
                print(f"{name} failed:\n{error}", file=sys.stderr)
                failed += 1
                continue
            bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            before[name] = stale[path]
            note.write_text(json.dumps(before, indent=1), encoding="utf-8")
            print(f"{name}: {seconds:.0f} s", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
