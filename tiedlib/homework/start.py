"""The first cell of a homework: a grader that finds its checks wherever the notebook was opened, under whatever name.

otter-grader looks for a notebook of the name that the homework was built with, and in Colab for a folder of tests that nobody
has uploaded. Here the public checks travel in the notebook's own cell and are laid into a folder of their own.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["begin", "packed"]

_HOW = "In Colab: choose File → Download → Download .ipynb, and hand in that file. It holds all that is graded."


def packed(tests: Mapping[str, str]) -> str:
    """Test files (name → text) as one line of text, for `begin`."""
    content = json.dumps(dict(sorted(tests.items()))).encode()
    return base64.b85encode(zlib.compress(content, 9)).decode()


def begin(name: str, tests: str) -> Any:
    """otter's grader for the homework `name`: `grader.check("q1")` runs a public check, `grader.export()` makes the file to hand
    in. tests: from `packed`. Raises ValueError for a text that is none of it."""
    import otter

    try:
        files = json.loads(zlib.decompress(base64.b85decode(tests)))
    except ValueError as error:
        raise ValueError(
            f"tests is no text of checks ({error}); download the notebook of the homework {name!r} again"
        ) from None
    except zlib.error as error:
        raise ValueError(f"tests is damaged ({error}); download the notebook of the homework {name!r} again") from None
    folder = Path(tempfile.mkdtemp(prefix=f"checks-{name}-"))
    for file, text in files.items():
        (folder / Path(file).name).write_text(text, encoding="utf-8")
    grader = otter.Notebook(_opened(name), tests_dir=os.fspath(folder))
    if _in_colab():
        grader.export = lambda *_, **__: print(_HOW)
    return grader


def _in_colab() -> bool:
    if "IPython" not in sys.modules:
        return False
    return "google.colab" in str(sys.modules["IPython"].get_ipython())


def _opened(name: str) -> str | None:
    """The notebook that is open, where Jupyter or VS Code tell it, or the one in this folder that can be meant."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    told = [os.environ.get("JPY_SESSION_NAME"), getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__")]
    for path in filter(None, told):
        for place in (Path(path), Path(Path(path).name)):
            if place.suffix == ".ipynb" and place.is_file():
                return os.fspath(place)
    here = sorted(Path().glob("*.ipynb"), key=lambda path: path.stat().st_mtime)
    meant = [path for path in here if path.stem == name] or [p for p in here if p.stem.startswith(name)] or here
    return os.fspath(meant[-1]) if meant else None
