"""pyproject.toml (ranges), constraints.txt (one version of everything), the oldest, Colab's, environment.yml agree."""

import os
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import constraints, older_host

ROOT = constraints.ROOT
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def pinned(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = {}
    for line in lines:
        match = re.fullmatch(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][\w.]*)", line)
        assert match, f"{name}: {line!r} is not name==version, in lower case"
        assert match["name"] not in found, f"{name} pins {match['name']} twice"
        found[match["name"]] = Version(match["version"])
    assert list(found) == sorted(found), f"{name} is not sorted"
    return found


def requirements() -> list[Requirement]:
    every = [r for group in (PROJECT["dependencies"], *EXTRAS.values()) for r in group]
    return [r for r in map(Requirement, every) if r.name != "tiedlib"]


PINS = pinned("constraints.txt")


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_dependency_of_every_extra_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier, f"{requirement} has no range in pyproject.toml"
    assert canonicalize_name(requirement.name) in PINS, (
        f"{requirement.name} is not in constraints.txt: make constraints"
    )
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_package_alone_needs_torch_and_jaxtyping_only() -> None:
    assert {Requirement(r).name for r in PROJECT["dependencies"]} == {"torch", "jaxtyping"}
    assert set(EXTRAS) == {"lab", "book", "test", "homework", "cluster", "pdf"}


def test_one_name_has_one_range() -> None:
    """But for the grader, which needs newer widgets than the bench: Colab has older ones."""
    ranges: dict[str, set[str]] = {}
    for r in requirements():
        ranges.setdefault(r.name, set()).add(str(r.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {"ipywidgets": {">=7.7", ">=8.1.5"}}


def test_the_bench_takes_what_colab_has() -> None:
    colab = pinned("constraints-colab.txt")
    needed = [r for r in map(Requirement, [*PROJECT["dependencies"], *EXTRAS["lab"]]) if r.name != "torch"]
    for requirement in needed:
        assert colab[canonicalize_name(requirement.name)] in requirement.specifier, (
            f"Colab would have to lose its {requirement.name}"
        )
    assert older_host.requirements(PROJECT) == [*map(str, needed), "ipykernel"]
    shown = {name: str(colab[name]) for name in ("ipywidgets", "plotly", "ipython", "widgetsnbextension")}
    assert shown == {"ipywidgets": "7.7.1", "plotly": "5.24.1", "ipython": "7.34.0", "widgetsnbextension": "3.6.10"}
    # the other runtimes that its makers keep, and what they say of them
    for version in ("2.6.0+cu124", "2.8.0+cu126", "2.9.0+cpu"):
        assert (
            Version(version) in Requirement(next(r for r in PROJECT["dependencies"] if r.startswith("torch"))).specifier
        )


def test_a_bound_that_an_extra_raises_is_the_oldest_that_all_extras_take() -> None:
    extras = {"a": ["one>=2.9", "two>=1"], "b": ["one>=2.10.1", "tiedlib[a]"]}
    assert constraints.lower_bounds({"dependencies": ["one>=1"], "optional-dependencies": extras}) == [
        "one==2.10.1",
        "two==1",
    ]


def test_what_torch_needs_is_borrowed_unless_it_is_pinned(tmp_path: Path) -> None:
    everything = older_host.needed("torch", set())
    assert {"torch", "sympy", "mpmath", "jinja2", "typing-extensions"} <= everything
    pins = {"jinja2", "typing-extensions"}
    names = older_host.needed("torch", pins)
    assert {"torch", "sympy", "mpmath"} <= names and not names & pins and names <= everything
    older_host.borrow(names, tmp_path / "links")
    assert {"torch", "sympy"} <= {path.name for path in (tmp_path / "links").iterdir()}
    assert (tmp_path / "links" / "torch" / "__init__.py").is_file()


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    oldest = pinned("constraints-oldest.txt")
    assert [f"{name}=={version}" for name, version in oldest.items()] == constraints.lower_bounds(PROJECT)
    assert not {name for name, version in oldest.items() if version > PINS[name]}


def installed_for(extras: set[str]) -> dict[str, Version]:
    """What is installed here because tiedlib with these extras asked for it, directly or not."""
    found: dict[str, Version] = {}
    open_: list[tuple[str, set[str]]] = [("tiedlib", extras)]
    seen: set[tuple[str, str]] = set()
    while open_:
        name, wanted = open_.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found[canonicalize_name(name)] = Version(distribution.version)
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                asked = (canonicalize_name(requirement.name), ",".join(sorted(requirement.extras)))
                if asked not in seen:
                    seen.add(asked)
                    open_.append((asked[0], set(requirement.extras)))
    del found["tiedlib"]
    return found


def test_what_is_installed_is_what_is_pinned() -> None:
    installed = installed_for({"book", "test"})
    assert len(installed) > 50, "the walk over the installed packages found too few"
    used = os.environ.get("CONSTRAINTS", "constraints.txt")
    pins = pinned(Path(used).name)
    wrong = {n: str(v) for n, v in installed.items() if n in pins and Version(v.public) != pins[n]}
    assert not wrong, f"installed in other versions than {used} says: {wrong}"
    if used == "constraints.txt":
        # the CUDA packages of a PyTorch build that has CUDA are pinned by that PyTorch
        stray = {name for name in set(installed) - set(pins) if not name.startswith(("nvidia-", "cuda-", "triton"))}
        assert not stray, f"installed, but not in constraints.txt: {stray}; call make constraints"


def test_the_conda_environment_has_the_same_ranges_and_no_cuda() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-e .[lab]"]
    wanted = map(Requirement, (*EXTRAS["book"], *EXTRAS["lab"], *PROJECT["dependencies"]))
    ranges = {canonicalize_name(r.name): r.specifier for r in wanted}
    names = set()
    for line in conda:
        match = re.fullmatch(r"(?P<name>[a-z0-9-]+)(?P<range>[<>=0-9.,]*)", line)
        assert match, line
        names.add(match["name"])
        if match["name"] == "python":
            assert Version(match["range"].lstrip("=")) in Requirement(f"python{PROJECT['requires-python']}").specifier
        elif match["name"] != "pip":
            name = match["name"].replace("pytorch-cpu", "torch")
            assert Requirement(f"{name}{match['range']}").specifier == ranges[name], f"environment.yml: {line}"
    assert {"python", "pip", "pytorch-cpu"} <= names, "PyTorch without CUDA must come first, from conda"
    assert not names & {"pytorch", "torch", "pytorch-gpu", "cudatoolkit"}


def test_pins_are_read_from_what_pip_reports() -> None:
    report = {
        "install": [
            {"metadata": {"name": "torch", "version": "2.13.0+cpu"}},
            {"metadata": {"name": "tiedlib", "version": "0.1.0"}},
            {"metadata": {"name": "Jinja2", "version": "3.1.6"}},
            {"metadata": {"name": "jupyter_client", "version": "8.10.0"}},
        ]
    }
    assert constraints.pins(report) == ["jinja2==3.1.6", "jupyter-client==8.10.0", "torch==2.13.0"]


def test_a_dependency_without_a_lower_bound_is_named() -> None:
    with pytest.raises(ValueError, match=r"'numpy<3' in pyproject\.toml has no lower bound"):
        constraints.lower_bounds({"dependencies": ["numpy<3"], "optional-dependencies": {}})


def test_writing_keeps_the_comment_at_the_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "pins.txt"
    target.write_text("# one\n# two\nold==1\n", encoding="utf-8")
    constraints.write(target, ["new==2"])
    assert target.read_text(encoding="utf-8") == "# one\n# two\nnew==2\n"
    assert capsys.readouterr().out == "wrote 1 pins to pins.txt\n"
