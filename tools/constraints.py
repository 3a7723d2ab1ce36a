"""One exact version of everything that the package and all its extras need: `make constraints` writes three files.

constraints.txt: the newest versions that fit pyproject.toml, as pip resolves them for the Python that runs this (3.11
for the file in the repository). constraints-oldest.txt: the lower bounds of pyproject.toml. constraints-colab.txt: what the
bench needs in Colab; a version that stands there stays, because it is Colab's own, what is missing is resolved, and what nothing
needs any more goes. Nothing is installed; needs nothing but Python and its pip.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from tools import older_host

ROOT = Path(__file__).resolve().parent.parent


def pins(report: dict[str, Any]) -> list[str]:
    """name==version for each distribution of a report of pip (format 1), sorted, without the package itself.

    A local version is left out (2.13.0 for 2.13.0+cpu): it names a build, and others have another.
    """
    found = {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        found[name] = item["metadata"]["version"].partition("+")[0]
    found.pop("tiedlib", None)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def lower_bounds(project: dict[str, Any]) -> list[str]:
    """name==version for each dependency, of the package and of its extras, sorted; the highest lower bound where an extra
    raises that of another."""
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found: dict[str, str] = {}
    for requirement in (r for group in groups for r in group if not r.startswith("tiedlib[")):
        match = re.match(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<version>[0-9.]+)", requirement)
        if match is None:
            raise ValueError(f"{requirement!r} in pyproject.toml has no lower bound; write name>=version")
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()
        found[name] = max(found.get(name, "0"), match["version"], key=lambda version: [*map(int, version.split("."))])
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def write(target: Path, lines: list[str]) -> None:
    """Puts lines under the comment at the head of the file."""
    header = [line for line in target.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    target.write_text("\n".join([*header, *lines]) + "\n", encoding="utf-8", newline="\n")
    print(f"wrote {len(lines)} pins to {target.name}")


def resolve(*requirements: str) -> dict[str, Any]:
    """What pip would install into an empty environment; requirements may hold options, such as "-c" and a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--report", str(path), *requirements], check=True, cwd=ROOT)
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    write(ROOT / "constraints-oldest.txt", lower_bounds(project))
    resolve(".[book,test]", "-c", "constraints-oldest.txt")  # stops where no set of packages has all these versions
    write(ROOT / "constraints.txt", pins(resolve(f".[{','.join(project['optional-dependencies'])}]")))
    colab = pins(resolve(*older_host.requirements(project), "-c", older_host.CONSTRAINTS.name))
    write(older_host.CONSTRAINTS, colab)
    return 0


if __name__ == "__main__":
    sys.exit(main())
