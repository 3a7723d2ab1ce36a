"""The public address: one home, every other place agrees, and no notebook installs from anywhere else."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import ClassVar

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


def test_in_colab_a_homework_gets_its_grader_beside_the_widgets_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """otter asks for newer widgets than Colab has; what it uses of them, the older ones have. Ours first, otter alone, and then
    what otter needs, without the widgets; each with every package of the host kept."""
    commands: list[list[str]] = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert "ipywidgets==" in Path(command[command.index("-c") + 1]).read_text(encoding="utf-8")
        commands.append(command[6:])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(importlib.util, "find_spec", {"tiedlib": object(), "otter": None}.__getitem__)
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    cell = address.first_cell(URL, "tying.ipynb").partition("\nimport otter\n")[0]
    exec(compile(cell, "first cell", "exec"), {"__name__": "__main__"})
    ours, alone, needs = commands
    assert ours == [f"tiedlib[lab] @ git+{URL}"] and alone[0] == "--no-deps" and alone[1].startswith("otter-grader")
    names = [re.match(r"[\w.-]+", need)[0] for need in needs]
    assert {"dill", "fica", "jupytext", "wrapt"} <= set(names) and not {"ipywidgets", "ipylab"} & set(names)
    assert not any("[" in need for need in needs)


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

    def pip(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        self.constraints = Path(command[command.index("-c") + 1]).read_text(encoding="utf-8").split()
        return subprocess.CompletedProcess(command, 0, "", "")

    def run(self) -> None:
        exec(compile(self.source, "first cell", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("colab", [True, False])
@pytest.mark.parametrize("url", ["", URL])
def test_the_first_cell_leaves_an_installed_library(monkeypatch: pytest.MonkeyPatch, colab: bool, url: str) -> None:
    reader = Reader(monkeypatch, installed=True, colab=colab, url=url)
    reader.run()
    assert reader.commands == []


def test_in_colab_the_first_cell_installs_ours_and_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(monkeypatch, installed=False, colab=True, url=URL)
    reader.run()
    (command,) = reader.commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"] and command[-1] == f"tiedlib[lab] @ git+{URL}"
    kept = dict(line.split("==") for line in reader.constraints)
    for name in ("torch", "numpy", "ipywidgets", "plotly", "ipython", "PyYAML", "pytest"):
        assert kept[name] == metadata.version(name)
    assert len(kept) == len(reader.constraints) > 100 and "tiedlib" not in kept
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


# The real pip, in an environment of its own, and nothing from the network


WHEEL = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
BACKEND = """
import os, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(folder, "tiedlib-9.9-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("tiedlib.py", "")
        wheel.writestr("tiedlib-9.9.dist-info/METADATA", {metadata!r})
        wheel.writestr("tiedlib-9.9.dist-info/WHEEL", {wheel!r})
        wheel.writestr("tiedlib-9.9.dist-info/RECORD", "")
    return "tiedlib-9.9-py3-none-any.whl"
"""


class Host:
    """An environment with a real pip, and distributions that are only metadata."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "env", with_pip=True, symlinks=True)
        self.python = folder / "env" / "bin" / "python"
        (self.site,) = (folder / "env" / "lib").glob("python*/site-packages")
        self.wheels = folder / "wheels"
        self.wheels.mkdir()

    def has(self, name: str, version: str, *, where: str = "", **files: str) -> None:
        """Put the metadata of a distribution there."""
        info = self.site / where / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        for file, text in ({"INSTALLER": "pip\n", "RECORD": ""} | files).items():
            (info / file.replace("_json", ".json")).write_text(text, encoding="utf-8")

    def offers(self, name: str, version: str, requires: str = "") -> None:
        """A wheel that pip may install."""
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(self.wheels / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            needs = f"Requires-Dist: {requires}\n" if requires else ""
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
            wheel.writestr(f"{info}/WHEEL", WHEEL)
            wheel.writestr(f"{info}/RECORD", "")

    def versions(self) -> dict[str, str]:
        """What is there, by name: of two of one name, the first on the path."""
        code = "import json; from importlib.metadata import distributions\nfound = {}\n"
        code += "for d in distributions(): found.setdefault(str(d.metadata['Name']), d.metadata['Version'])\n"
        code += "print(json.dumps(found))"
        said = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout
        found: dict[str, str] = json.loads(said)
        return found

    def run(self, *needs: str) -> subprocess.CompletedProcess[str]:
        """The first cell, in this environment, in Colab; the library at its address needs so much."""
        source = self.folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        text = "Metadata-Version: 2.1\nName: tiedlib\nVersion: 9.9\nProvides-Extra: lab\n"
        text += "".join(f"Requires-Dist: {need}; extra == 'lab'\n" for need in needs)
        (source / "backend.py").write_text(BACKEND.format(metadata=text, wheel=WHEEL), encoding="utf-8")
        text = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        text += '[project]\nname = "tiedlib"\nversion = "9.9"\n'
        (source / "pyproject.toml").write_text(text, encoding="utf-8")
        cell = address.first_cell("").replace('ADDRESS = ""', f'ADDRESS = "file://{source}"').replace("@ git+", "@ ")
        code = (
            f"import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n{cell}\nimport tiedlib"
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        return subprocess.run(
            [self.python, "-c", code], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A host as Colab is: local versions, packages from a repository or a file, names and versions that pip refuses."""
    host = Host(tmp_path_factory.mktemp("host"))
    host.has("torch", "2.6.0+cu124")
    host.has("Py_YAML.Like", "6.0.2")
    host.has(
        "from-vcs",
        "0.1.dev3+g1234567",
        direct_url_json='{"url": "https://example.org/x", "vcs_info": {"vcs": "git", "commit_id": "1"}}',
    )
    host.has("editable", "1.0rc1", direct_url_json='{"url": "file:///x", "dir_info": {"editable": true}}')
    host.has("python-apt", "2.4.0+ubuntu4")
    host.has("debian-like", "0.1.43ubuntu1")  # no version that pip reads
    host.has("_odd", "1.0")  # no name that pip reads
    host.has("ipywidgets", "7.7.1")
    (host.site / "broken-1.0.dist-info").mkdir()
    host.has("twice", "1.0")
    host.has("twice", "2.0", where="more")
    (host.site / "more.pth").write_text("more\n", encoding="utf-8")
    for version in ("1.0", "2.0", "9.0"):
        host.offers("twice", version)
    host.offers("torch", "2.9.0")
    host.offers("new_one", "1.0", "torch>=2.6")
    host.offers("new_one", "2.0", "twice>=2")  # the newest would replace something
    host.offers("ipywidgets", "8.1.7")
    host.offers("debian_like", "1.0")
    return host


def test_a_distribution_that_cannot_be_read_does_not_stop_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged:
        @property
        def metadata(self) -> dict[str, str]:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    class Nameless:
        metadata: ClassVar = {"Name": None, "Version": None}

    class Whole:
        metadata: ClassVar = {"Name": "whole", "Version": "1.0.post1"}

    monkeypatch.setattr(metadata, "distributions", lambda: [Damaged(), Nameless(), Whole()])
    reader = Reader(monkeypatch, installed=False, colab=True, url=URL)
    reader.run()
    assert reader.constraints == ["whole==1.0.post1"]


def test_pip_keeps_every_distribution_of_the_host_and_adds_what_is_missing(host: Host) -> None:
    before = host.versions()
    assert {"torch", "from-vcs", "editable", "debian-like", "twice"} <= set(before)
    done = host.run("torch>=2.6", "ipywidgets>=7.7", "new-one>=1", "twice", "from-vcs", "editable")
    assert done.returncode == 0, done.stderr
    after = host.versions()
    assert {name: after.get(name) for name in before} == before
    assert {name: after[name] for name in set(after) - set(before)} == {"tiedlib": "9.9", "new_one": "1.0"}


def test_what_stands_in_the_way_is_named_with_both_versions_and_what_to_do(host: Host) -> None:
    subprocess.run([host.python, "-m", "pip", "uninstall", "-q", "-y", "tiedlib"], check=True)
    before = host.versions()
    done = host.run("torch>=2.6", "ipywidgets>=8.1")
    assert done.returncode != 0 and host.versions() == before, "nothing may be replaced"
    said = done.stderr[done.stderr.index("NotInstalledError") :]
    assert "ipywidgets>=8.1" in said and "This host has ipywidgets==7.7.1" in said
    assert (
        "nothing was changed" in said
        and "new environment" in said
        and "torch" not in said.split("nothing was changed")[1].split("Where")[0]
    )


def test_what_cannot_be_had_at_all_is_said_in_pips_words(host: Host) -> None:
    done = host.run("not-to-be-had>=3")
    said = done.stderr[done.stderr.index("NotInstalledError") :]
    assert done.returncode != 0 and "No matching distribution found for not-to-be-had>=3" in said


def test_a_notebook_shows_the_message_without_a_traceback() -> None:
    cell = address.first_cell("")
    code = f"import importlib.util\nimportlib.util.find_spec = lambda name: None\n{cell}"
    shell = f"from IPython.core.interactiveshell import InteractiveShell as S\nprint(S().run_cell({code!r}).success)"
    environment = os.environ | {"IPYTHONDIR": os.devnull, "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", shell], env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[-1] == "False" and lines[-2].startswith(
        "tiedlib is not installed, and this book has no public address"
    )
    assert "Traceback" not in done.stdout and "need_tiedlib" not in done.stdout
