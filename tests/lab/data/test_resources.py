"""`resource` finds what travels with the library, in a checkout and in an installed wheel."""

import pytest

from tests.places import ROOT
from tiedlib.lab import resources
from tiedlib.lab.resources import resource


def test_registry_of_the_checkout() -> None:
    assert resource("registry.txt").samefile(ROOT / "data" / "registry.txt")


def test_wheel_comes_before_checkout(tmp_path, monkeypatch) -> None:
    packaged, root = tmp_path / "_files", tmp_path / "root"
    for file in (
        packaged / "registry.txt",
        root / "data/registry.txt",
        root / "data/results/a.json",
        root / "book/claims/a.yml",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setattr(resources, "_PACKAGED", packaged)
    monkeypatch.setattr(resources, "_ROOT", root)
    assert resource("registry.txt") == packaged / "registry.txt"
    assert resource("results/a.json") == root / "data/results/a.json"
    assert resource("results") == root / "data/results"
    assert resource("claims") == root / "book/claims"


def test_missing_resource_says_where_it_was_looked_for() -> None:
    with pytest.raises(FileNotFoundError, match=r"'results/none\.json' is neither in .*_files .* nor in .*data"):
        resource("results/none.json")


@pytest.mark.parametrize("bad", ["", "/etc/passwd", "../pyproject.toml", "results/../../x"])
def test_paths_that_leave_the_library(bad) -> None:
    with pytest.raises(ValueError, match="must name a file inside the library"):
        resource(bad)
