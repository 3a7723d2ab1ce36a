"""An environment with the versions that Colab ships. `make test` makes it; `tests/house/test_older_hosts.py` runs the book in it.

It has the exact versions of constraints-colab.txt, and this checkout. PyTorch is large, and of which version it is does not matter
here: it is borrowed, by links to it and to what it alone needs, in a folder that stands behind the packages on the path, so
that of everything else the old version is found. The Python that runs this is that of the environment with PyTorch.
"""

import re
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints-colab.txt"
PYTHONS = ((3, 11), (3, 12))  # for which these versions exist


def requirements(project: dict[str, Any]) -> list[str]:
    """What the bench needs, PyTorch left out, and a kernel."""
    every = [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    return [*(r for r in every if _name(r) != "torch"), "ipykernel"]


def needed(name: str, without: set[str]) -> set[str]:
    """The installed distributions that `name` needs, directly or not, itself among them; none of `without`, nor what
    these need. An optional requirement that is installed counts: it does no harm."""
    found: set[str] = set()
    waiting = [_name(name)]
    while waiting:
        one = waiting.pop()
        if one in found or one in without:
            continue
        try:
            distribution = metadata.distribution(one)
        except metadata.PackageNotFoundError:
            continue  # for another system, or optional
        found.add(one)
        waiting += [_name(r) for r in distribution.requires or () if "extra ==" not in r]
    return found


def borrow(names: set[str], folder: Path) -> None:
    """Links in `folder` to the packages, modules and metadata of these distributions."""
    folder.mkdir(parents=True)
    for name in sorted(names):
        distribution = metadata.distribution(name)
        for top in sorted({file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}):
            link = folder / top
            if not link.exists():  # "nvidia" is a folder of many distributions
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())


def make(target: Path) -> None:
    """The environment in the folder `target`; one that is there is made again."""
    (target / ".installed").unlink(missing_ok=True)
    venv.create(target, clear=True, with_pip=True, symlinks=sys.platform != "win32")
    python = target / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    pinned = {_name(line) for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
    borrow(needed("torch", pinned), target / "borrowed")
    (packages / "borrowed.pth").write_text(f"{target.resolve() / 'borrowed'}\n{ROOT}\n", encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
    subprocess.run([*pip, *requirements(project)], check=True)
    (target / ".installed").touch()


def _name(requirement: str) -> str:
    """ "PyYAML>=6.0.1" → "pyyaml"."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def main(arguments: list[str]) -> int:
    (target,) = map(Path, arguments)
    if sys.version_info[:2] in PYTHONS:
        make(target)
    else:  # the tests say that they are left out
        target.mkdir(exist_ok=True)
        (target / ".installed").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
