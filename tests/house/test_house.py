"""The house: one name in every room, imports that run one way, one version, a set-up that runs once, a whole wheel."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
import yaml

import tiedlib
from tests.places import ROOT
from tiedlib.lab.resources import chapters
from tiedlib.linear_cross_entropy import linear_cross_entropy

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
MODULES = sorted((ROOT / "tiedlib").rglob("*.py"))
IDEAS = sorted(p for p in (ROOT / "tiedlib").glob("*.py") if not p.name.startswith("__"))
ORDER = chapters()  # the table of contents of the whole book: an idea may import those above it


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def files_of_the_repository() -> list[Path]:
    """What git tracks, or would with the next commit."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout, so there is no list of its files")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# One name in every room


def chapter_pages() -> list[str]:
    """The chapters of the parts, book/<module>, without the parts' first pages and the appendix."""
    parts = [part for part in TOC["parts"] if part["caption"] != "Appendix"]
    return [chapter["file"] for part in parts for chapter in part["chapters"][1:]]


def notebooks() -> list[Path]:
    return [p for p in files_of_the_repository() if p.suffix == ".ipynb"]


@pytest.mark.parametrize("chapter", chapter_pages())
def test_a_chapter_is_in_every_room(chapter: str) -> None:
    folder, name = chapter.split("/")
    assert folder == "book" and name in ORDER
    for room in (f"book/{name}.ipynb", f"tiedlib/{name}.py", f"tests/ideas/test_{name}.py", f"book/claims/{name}.yml"):
        assert (ROOT / room).is_file(), f"{chapter} stands in _toc.yml, and {room} is missing"
    notebook = json.loads(text(f"book/{name}.ipynb"))
    assert any("install" in cell["metadata"].get("tags", ()) for cell in notebook["cells"]), "no cell tagged install"


def test_a_part_opens_with_a_page_of_its_own() -> None:
    for part in TOC["parts"]:
        if part["caption"] != "Appendix":
            first = part["chapters"][0]["file"]
            assert first == "book/parts/" + part["caption"].lower().replace(" ", "_")
            assert "```{chapters}" in text(f"{first}.md")


def test_every_page_of_the_table_of_contents_exists() -> None:
    pages = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
    assert [p for p in pages if not any((ROOT / f"{p}{kind}").is_file() for kind in (".ipynb", ".md"))] == []
    assert len(pages) == len(set(pages))
    in_order = [ORDER.index(chapter.split("/")[1]) for chapter in chapter_pages()]
    assert in_order == sorted(in_order), "the chapters of _toc.yml stand in another order than ORDER"


def test_notebooks_are_sources() -> None:
    for path in notebooks():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5), f"{relative(path)}: nbformat 4.5"
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(ids) == len(set(ids)), f"{relative(path)}: two cells have one id"
        for cell in notebook["cells"]:
            kept = cell.get("outputs") or cell.get("execution_count")
            assert not kept, f"{relative(path)}: the cell {cell['id']} has stored outputs; clear them"


def test_the_ideas_import_without_the_extras(wheel: Path, tmp_path: Path) -> None:
    """The wheel alone, with every package of the extras out of reach."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    extras = ["anywidget", "ipywidgets", "plotly", "pooch", "psutil", "requests", "scipy", "sklearn", "tqdm", "yaml"]
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.modules.update(dict.fromkeys({extras}))\n"
    code += "".join(f"import tiedlib.{path.stem}\n" for path in IDEAS)
    code += f"import tiedlib; assert tiedlib.__file__.startswith({str(tmp_path)!r}), tiedlib.__file__\n"
    code += "assert 'tiedlib.lab' not in sys.modules"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_shapes_are_checked_while_tests_run() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="linear_weight"):
        linear_cross_entropy(torch.zeros(2, 3), torch.zeros(4, 5), torch.zeros(2, dtype=torch.int64))


# One version, one licence, no stray words


def test_the_version_has_one_value() -> None:
    version = PYPROJECT["project"]["version"]
    assert tiedlib.__version__ == version
    assert str(yaml.safe_load(text("CITATION.cff"))["version"]) == version
    newest = re.search(r"^## (\S+?),? ", text("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None and newest[1] == version


def test_the_licences() -> None:
    assert PYPROJECT["project"]["license"] == "MIT AND CC-BY-4.0"
    assert set(yaml.safe_load(text("CITATION.cff"))["license"]) == {"MIT", "CC-BY-4.0"}
    assert text("LICENSE").startswith("MIT License\n\nCopyright (c) 2026 the tiedlib contributors\n")
    assert "Creative Commons Attribution 4.0 International" in text("LICENSE-TEXT")
    assert "Section 8 – Interpretation." in text("LICENSE-TEXT"), "the licence of the text is not whole"


def test_the_citation_can_be_read() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "the tiedlib contributors"}] == PYPROJECT["project"]["authors"]
    assert [author["family-names"] for author in citation["references"][0]["authors"]] == ["Press", "Wolf"]


def test_no_file_names_a_package_index_or_a_place_on_one_machine() -> None:
    hosts = ("py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js.org", "npm" + "js.com", "ana" + "conda.org")
    hosts += ("deb." + "debian.org", "download.py" + "torch.org")
    place = re.compile(r"(?<![\w./~$}*-])/(?:work|tmp|root|home|Users)/\w")
    assert place.search("in /" + "tmp/x") and not place.search("a/" + "tmp/x")
    for path in files_of_the_repository():
        try:
            content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found = [host for host in hosts if host in content] + place.findall(content)
        assert not found, f"{relative(path)} names {found}"


def test_nothing_tells_a_reader_to_install_a_package_that_is_not_ours() -> None:
    """The bare name in a package index is free: whoever takes it there must not reach our readers."""
    bare = re.compile(
        r"install\s+(?:-\S+\s+)*[\"']?tiedlib(?:\[[\w,]+\])?[\"']?(?=\s*(?:[=<>~!\"'`\\]|$))", re.MULTILINE
    )
    assert bare.search("pip install -q " + "tiedlib\n") and bare.search("pip install '" + "tiedlib[lab]'")
    for path in files_of_the_repository():
        if path.suffix in {".md", ".py", ".ipynb", ".yml", ".toml", ".txt", ""}:
            assert not bare.search(path.read_text(encoding="utf-8")), (
                f"{relative(path)} installs tiedlib by its bare name"
            )


# The set-up


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_the_pages_say_can_be_done(page: str) -> None:
    commands = set(re.findall(r"(?:^|`)(?:[A-Z]+=\S+ )?make ([a-z]+)", text(page), re.MULTILINE))
    assert {"book", "test"} <= commands <= targets(), f"{page} names targets that the Makefile has not"
    paths = re.findall(r"`((?:book|data|tests|tiedlib|tools|\.github|\.ci)/[\w./-]*)`", text(page))
    assert paths
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing, f"{page} names what does not exist: {missing}"


def test_the_readme_begins_with_the_two_commands_and_a_picture() -> None:
    head = text("README.md")[:800]
    assert head.index("make book") < head.index("make test") < head.index("![")
    picture = re.search(r"!\[[^\]]{20,}\]\(([^)]+)\)", head)
    assert picture is not None and (ROOT / picture[1]).is_file()


def test_make_alone_lists_the_targets() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z]+) +\S", listed, re.MULTILINE)) == targets()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a space in its name, the Makefile, and a Python that only notes how it is called."""
    root = tmp_path / "my copy"
    root.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-oldest.txt"):
        shutil.copy(ROOT / name, root)
    python = root / "python"
    python.write_text(
        '#!/bin/sh\necho "$*" >> calls\n'
        'if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    return root


def installs(root: Path, *arguments: str) -> list[str]:
    """What `make install` installs; the note of its calls begins anew."""
    (root / "calls").unlink(missing_ok=True)
    make = ["make", "install", "PYTHON=./python", *arguments]
    environment = {
        k: v for k, v in os.environ.items() if k not in {"CONSTRAINTS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VENV"}
    }
    subprocess.run(make, cwd=root, env=environment, check=True, capture_output=True)
    calls = (root / "calls").read_text(encoding="utf-8").splitlines() if (root / "calls").exists() else []
    return [call for call in calls if "pip install" in call]


def test_a_second_call_does_not_install_again(checkout: Path) -> None:
    (first,) = installs(checkout)
    assert "-c constraints.txt -e .[book,test]" in first
    assert installs(checkout) == []


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_other_requirements_install_again(checkout: Path, changed: str) -> None:
    assert len(installs(checkout)) == 1
    later = (checkout / ".venv/.installed-constraints.txt").stat().st_mtime + 2
    os.utime(checkout / changed, (later, later))
    assert len(installs(checkout)) == 1


def test_the_oldest_versions_and_back_install_each_time(checkout: Path) -> None:
    assert "-c constraints.txt" in installs(checkout)[0]
    assert "-c constraints-oldest.txt" in installs(checkout, "CONSTRAINTS=constraints-oldest.txt")[0]
    assert "-c constraints.txt" in installs(checkout)[0]


def test_a_python_that_is_too_old_is_named(checkout: Path) -> None:
    (checkout / "python").write_text("#!/bin/sh\necho 'PYTHON=./python is Python 3.9' >&2; exit 1\n", encoding="utf-8")
    make = ["make", "install", "PYTHON=./python"]
    done = subprocess.run(make, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and not (checkout / ".venv").exists()


def test_data_that_is_not_there_is_named(checkout: Path) -> None:
    make = ["make", "help", "TIEDLIB_DATA=no such folder"]
    done = subprocess.run(make, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "TIEDLIB_DATA=no such folder is no folder" in done.stderr


# Continuous integration


@pytest.mark.parametrize("beside", [True, False])
def test_ci_calls_make_test_with_the_data_that_lies_beside(tmp_path: Path, beside: bool) -> None:
    script = tmp_path / "repository" / ".ci" / "run"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", script)
    if beside:
        (tmp_path / "shared" / "data").mkdir(parents=True)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "chromium"):
        (tools / name).write_text('#!/bin/sh\necho "$0 $*|$CI|${TIEDLIB_DATA-none}|$PWD"\n', encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k not in {"CI", "TIEDLIB_DATA"}}
    environment["PATH"] = f"{tools}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(["bash", script], env=environment, cwd="/", capture_output=True, text=True, check=True)
    called, ci, data, folder = done.stdout.strip().split("|")
    assert called.endswith("make test") and ci == "true"
    assert data == (str(tmp_path / "shared" / "data") if beside else "none")
    assert Path(folder) == tmp_path / "repository"
    assert (ROOT / ".ci" / "run").stat().st_mode & stat.S_IXUSR


def test_the_workflows_run_the_same_command_on_each_python() -> None:
    workflow: dict[str, Any] = yaml.safe_load(text(".github/workflows/test.yml"))
    job = workflow["jobs"]["test"]
    assert "bash .ci/run" in " ".join(step.get("run", "") for step in job["steps"])
    matrix = job["strategy"]["matrix"]
    assert {"3.11", "3.12", "3.13"} <= set(matrix["python"])
    assert {"python": "3.11", "constraints": "constraints-oldest.txt"} in matrix["include"]
    assert "have not run yet" in text("README.md") or "badge" in text("README.md")
    weekly: dict[str, Any] = yaml.safe_load(text(".github/workflows/weekly.yml"))
    assert weekly[True]["schedule"], "YAML reads the key `on` as true"
    assert "--nbval-lax book" in weekly["jobs"]["colab"]["steps"][-1]["run"]


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_is_whole(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        files = "tiedlib/lab/_files"
        assert archive.read(f"{files}/registry.txt") == (ROOT / "data/registry.txt").read_bytes()
        assert sum(name.startswith(f"{files}/claims/") for name in names) == len(list((ROOT / "book/claims").iterdir()))
        for record in (ROOT / "data/results").rglob("*.json"):
            name = record.relative_to(ROOT / "data/results").as_posix()
            assert archive.read(f"{files}/results/{name}") == record.read_bytes()
    assert {relative(path) for path in MODULES} <= names, "a module is missing"
    assert "tiedlib/py.typed" in names
    assets = [p for p in (ROOT / "tiedlib/lab/page").rglob("*") if p.is_file() and p.suffix in {".js", ".css", ".html"}]
    assert assets and {relative(path) for path in assets} <= names, "a part of the pages is missing"
    assert {name.rpartition("/")[2] for name in names if "/licenses/" in name} == {"LICENSE", "LICENSE-TEXT"}
    assert {name.partition("/")[0] for name in names} == {"tiedlib", f"tiedlib-{tiedlib.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name]
