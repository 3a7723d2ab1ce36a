"""The public address: one home, every other place agrees, and no notebook installs from anywhere else."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
import types
from importlib import metadata
from pathlib import Path

import pytest

from tools import address

ROOT = address.ROOT
URL = "https://github.com/some-one/the.book_2"
PLACES = ("_config.yml", "README.md", "CITATION.cff", "pyproject.toml")


def install_cell(notebook: Path) -> str:
    whole = json.loads(notebook.read_text(encoding="utf-8"))
    found = address.install_cells(whole)
    code = [cell for cell in whole["cells"] if cell["cell_type"] == "code"]
    assert found == code[:1], f"{notebook}: the first code cell, and no other, carries the tag install"
    return "".join(found[0]["source"])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for path in (*(ROOT / place for place in PLACES), *address.notebooks()):
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def set_address(url: str, root: Path) -> None:
    for path, text in address.rewritten(url, root).items():
        path.write_text(text, encoding="utf-8", newline="\n")


def test_every_place_agrees_with_the_home_of_the_address() -> None:
    for path, text in address.rewritten(address.read()).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} disagrees with _config.yml: run make address"


def test_setting_and_taking_away_comes_back_to_the_same_bytes(copy: Path) -> None:
    set_address("", copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    set_address(URL, copy)
    assert address.read(copy) == URL
    changed = {path for path, text in before.items() if path.read_bytes() != text}
    assert changed == set(before), "each of these files names the address"
    for path in changed:
        assert path.suffix != ".ipynb" or f'ADDRESS = "{URL}"' in install_cell(path)
        assert URL in path.read_text(encoding="utf-8")
    set_address("", copy)
    assert {path: path.read_bytes() for path in before} == before


def test_the_urls_of_the_package_follow(copy: Path) -> None:
    set_address(URL, copy)
    urls = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls == {"Repository": URL, "Book": "https://some-one.github.io/the.book_2/"}


@pytest.mark.parametrize("spelling", [URL, URL + "/", URL + ".git", f"  {URL} "])
def test_spellings_of_one_address(spelling: str) -> None:
    assert address.checked(spelling) == URL


@pytest.mark.parametrize(
    "wrong",
    [
        "github.com/a/b",
        "git@github.com:a/b",
        "http://github.com/a/b",
        "https://evil.example/a/b",
        "https://github.com.evil.example/a/b",
        "https://github.com//b",
        "https://github.com/-a/b",
        "https://github.com/a",
        "https://github.com/a/..",
        "https://github.com/a/b c",
        "https://github.com/a/b/c",
        'https://github.com/a/b"',
        "https://github.com/a/b\nimport os",
    ],
)
def test_anything_else_is_refused_with_its_value_and_the_rule(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"URL is .*; it must be https://github\.com/owner/name"):
        address.checked(wrong)


def test_a_wrong_address_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = {place: (ROOT / place).read_bytes() for place in PLACES}
    assert address.main(["https://example.com/a/b"]) == 1
    assert capsys.readouterr().err.startswith("make address: URL is 'https://example.com/a/b'")
    assert {place: (ROOT / place).read_bytes() for place in PLACES} == before


@pytest.mark.parametrize("place", PLACES)
def test_a_place_without_its_marks_is_named_and_nothing_written(copy: Path, place: str) -> None:
    (copy / place).write_text("title: nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(place)):
        address.rewritten(URL, copy)


def test_every_first_cell_is_the_same() -> None:
    notebooks = address.notebooks()
    assert notebooks, "no notebook has a cell tagged install"
    for path in notebooks:
        homework = path.name if path.parent.name == "homework" else ""
        assert install_cell(path) == address.first_cell(address.read(), homework), f"{path.name}: run make address"


def test_the_first_cell_of_a_homework_installs_the_grader_too(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = address.first_cell(URL, "tying.ipynb")
    assert cell.endswith('grader = otter.Notebook("tying.ipynb")')
    monkeypatch.setattr(importlib.util, "find_spec", {"tiedlib": object(), "otter": None}.__getitem__)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    with pytest.raises(ModuleNotFoundError, match=re.escape(f"tiedlib[homework] @ git+{URL}")):
        exec(compile(cell, "first cell", "exec"), {"__name__": "__main__"})


class Reader:
    """Executes the first cell as a reader's kernel would, with every way out of the machine faked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, installed: bool, colab: bool, url: str):
        self.commands: list[list[str]] = []
        self.constraints: list[str] = []
        monkeypatch.setattr(importlib.util, "find_spec", {"tiedlib": object() if installed else None}.__getitem__)
        monkeypatch.setattr(subprocess, "run", self.pip)
        monkeypatch.delitem(sys.modules, "google.colab", raising=False)
        if colab:
            monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
        self.source = address.first_cell(url)
        assert f'ADDRESS = "{url}"' in self.source.splitlines()

    def pip(self, command: list[str], *, check: bool) -> None:
        assert check, "a failing pip must not go unnoticed"
        self.commands.append(command)
        self.constraints = Path(command[command.index("-c") + 1]).read_text(encoding="utf-8").split()

    def run(self) -> None:
        exec(compile(self.source, "first cell", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("colab", [True, False])
@pytest.mark.parametrize("url", ["", URL])
def test_the_first_cell_leaves_an_installed_library(monkeypatch: pytest.MonkeyPatch, colab: bool, url: str) -> None:
    reader = Reader(monkeypatch, installed=True, colab=colab, url=url)
    reader.run()
    assert reader.commands == []


def test_in_colab_the_first_cell_installs_ours_and_keeps_torch_and_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(monkeypatch, installed=False, colab=True, url=URL)
    reader.run()
    (command,) = reader.commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"] and command[-1] == f"tiedlib[lab] @ git+{URL}"
    assert reader.constraints == [f"torch=={metadata.version('torch')}", f"numpy=={metadata.version('numpy')}"]
    assert not {"-U", "--upgrade", "--force-reinstall", "--index-url", "--extra-index-url"} & set(command)


@pytest.mark.parametrize("colab", [True, False])
def test_without_an_address_the_first_cell_says_how_to_install_and_installs_nothing(
    monkeypatch: pytest.MonkeyPatch, colab: bool
) -> None:
    reader = Reader(monkeypatch, installed=False, colab=colab, url="")
    with pytest.raises(ModuleNotFoundError, match=r"no public address.*pip install -c constraints\.txt.*\.whl\[lab\]"):
        reader.run()
    assert reader.commands == []


def test_outside_colab_the_first_cell_asks_and_installs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(monkeypatch, installed=False, colab=False, url=URL)
    with pytest.raises(ModuleNotFoundError, match=re.escape(f'pip install "tiedlib[lab] @ git+{URL}"')):
        reader.run()
    assert reader.commands == []
