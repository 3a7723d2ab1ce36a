"""What each chapter costs and holds: seconds and memory of its notebook, bytes of its page, its statements by verdict.

    python benchmarks/chapters.py [--chapters tying vae …] [--out FILE.json]

Every notebook runs in a kernel of its own, one after the other, on as many threads as `make book` gives it (one). CPU seconds
are the kernel's own; other programs change them little, which cannot be said of the seconds on the clock. Memory is the
kernel's peak. The page (where the book is built) is counted as its first view, gzipped, by the same rules as in page.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tiedlib.lab.runs import records

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "_build" / "html" / "book"
LIMITS = {"seconds": 40.0, "MB": 1500.0}  # of one chapter
RUN = """
import os, sys, nbformat
from nbclient import NotebookClient
path = sys.argv[1]
notebook = nbformat.read(path, 4)
NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": os.path.dirname(path)}}).execute()
"""


def chapters() -> list[str]:
    """The chapters in the order of the book."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part for part in toc["parts"] if part["caption"] != "Appendix"]
    return [entry["file"].removeprefix("book/") for part in parts for entry in part["chapters"][1:]]


def measured(name: str) -> dict[str, Any]:
    """One run of a notebook in processes of its own, so that the peak of their memory is this chapter's."""
    program = [sys.executable, "-c", RUN, str(ROOT / "book" / f"{name}.ipynb")]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(
        program, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    ) as child:
        errors = child.communicate()[1]
    if child.returncode:
        raise SystemExit(f"{name}.ipynb stopped:\n{errors[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - begun, "CPU s": cpu}


def alone(name: str) -> dict[str, Any]:
    """`measured` in a fresh process: the peak of children's memory is a maximum over all that a process ever had."""
    program = [sys.executable, __file__, "--one", name]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return json.loads(done.stdout)


def verdicts(name: str) -> dict[str, int]:
    claims = yaml.safe_load((ROOT / "book" / "claims" / f"{name}.yml").read_text(encoding="utf-8"))
    found = Counter(claim["verdict"] for claim in claims)
    return {kind: found[kind] for kind in ("holds", "caveat", "wrong", "undecided")}


def pages(names: list[str]) -> dict[str, float]:
    """KB at first view of each built page, where there is a book and a browser; otherwise nothing."""
    if not all((BOOK / f"{name}.html").is_file() for name in names):
        return {}
    out = ROOT / "_build" / "weights.json"
    program = [sys.executable, str(Path(__file__).with_name("page.py")), "--only", "weights", "--out", str(out)]
    if subprocess.run(program, capture_output=True, check=False).returncode:
        return {}
    rows = json.loads(out.read_text(encoding="utf-8"))["weights"]
    return {Path(row["page"]).stem: row["first view KB"] for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chapters", nargs="+", choices=chapters(), default=chapters())
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.one:
        row = measured(options.one)
        print(json.dumps(row | {"MB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}))
        return
    weights, rows = pages(options.chapters), []
    heads = ["chapter", "seconds", "CPU s", "MB", "page KB", "holds", "caveat", "wrong", "undecided"]
    print("| " + " | ".join(heads) + " |\n" + "| --- " * len(heads) + "|")
    for name in options.chapters:
        rows.append({"chapter": name, **alone(name), "page KB": weights.get(name), **verdicts(name)})
        cells = (
            "–" if v is None else f"{v:.0f}" if isinstance(v, float) else str(v) for v in (rows[-1][h] for h in heads)
        )
        print("| " + " | ".join(cells) + " |", flush=True)
    over = [f"{r['chapter']}: {r[k]:.0f} {k}" for r in rows for k, most in LIMITS.items() if r[k] > most]
    print(f"together {sum(r['seconds'] for r in rows):.0f} s; over the limit: {', '.join(over) or 'none'}")
    if options.out:
        record = {"rows": rows, "machine": records.machine(), "versions": records.versions(), "at": records.now()}
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
