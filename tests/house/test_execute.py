"""tools.execute and tools.check: which notebooks a change reaches, and what one chapter alone is."""

import json
from pathlib import Path

import nbformat
import pytest
from jupyter_cache import get_cache

from tests.places import ROOT
from tools import check, execute


def reached(monkeypatch: pytest.MonkeyPatch, *changed: Path) -> set[str]:
    """The notebooks of the book that depend on a file: whose digest is another when its text is."""
    before = {path.stem: execute.digest(path) for path in execute.notebooks()}
    text, raw = Path.read_text, Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda p, *a, **o: text(p, *a, **o) + ("\n" if p in changed else ""))
        patch.setattr(Path, "read_bytes", lambda p: raw(p) + (b"\n" if p in changed else b""))
        return {path.stem for path in execute.notebooks() if execute.digest(path) != before[path.stem]}


def test_every_notebook_of_the_contents_is_found() -> None:
    names = [path.stem for path in execute.notebooks()]
    assert names[0] == "intro" and {"dropout", "tying", "vae"} <= set(names) and len(names) == len(set(names))


@pytest.mark.parametrize(
    ("changed", "those"),
    [
        ("tiedlib/dropout.py", {"dropout"}),
        ("tiedlib/gumbel_softmax.py", {"gumbel_softmax"}),
        ("tiedlib/homework/dropout.py", set()),
        ("tiedlib/lab/page/cards.py", set()),
        ("book/claims/vae.yml", {"vae"}),
        ("data/results/vae-mnist/grey-s0.json", {"tying", "vae"}),  # who reads recorded runs
    ],
)
def test_a_change_reaches_the_notebooks_that_depend_on_it(
    monkeypatch: pytest.MonkeyPatch, changed: str, those: set[str]
) -> None:
    assert (ROOT / changed).is_file()
    assert reached(monkeypatch, ROOT / changed) == those


@pytest.mark.parametrize("changed", ["tiedlib/lab/notebook/explorer.py", "constraints.txt", "tiedlib/training_loop.py"])
def test_what_all_depend_on_reaches_many(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    assert {"dropout", "tying", "optimizers"} <= reached(monkeypatch, ROOT / changed)


def test_other_data_or_another_python_execute_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    path = execute.notebooks()[0]
    before = execute.digest(path)
    monkeypatch.setenv("TIEDLIB_DATA", "elsewhere")
    assert execute.digest(path) != before


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of two notebooks, one of which fails."""
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/good\nchapters:\n- file: book/bad\n")
    (tmp_path / "_config.yml").write_text("execute:\n  timeout: 600\n")
    for name, code in (("good", "import tiedlib\nprint(6 * 7)"), ("bad", "print(1)\n1 / 0")):
        cells = [nbformat.v4.new_code_cell(code)]
        notebook = nbformat.v4.new_notebook(
            cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        )
        nbformat.write(notebook, tmp_path / "book" / f"{name}.ipynb")
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    monkeypatch.setenv("TIEDLIB_PAGE", "1")  # which is set for the kernels, and must not outlive the test
    return tmp_path


def test_what_was_executed_is_not_executed_again(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute.main(["book/good.ipynb"]) == 0 and capsys.readouterr().out.startswith("book/good.ipynb: ")
    found = get_cache(str(book / "_build" / ".jupyter_cache")).match_cache_file(str(book / "book" / "good.ipynb"))
    assert found.data["execution_seconds"] > 0
    assert execute.main(["book/good.ipynb"]) == 0 and capsys.readouterr().out == ""
    monkeypatch.setattr(execute, "digest", lambda path: "another")
    doctree = book / "_build" / ".doctrees" / "book" / "good.doctree"
    doctree.parent.mkdir(parents=True)
    doctree.touch()
    assert execute.main(["book/good.ipynb"]) == 0 and "good" in capsys.readouterr().out
    assert not doctree.exists(), "Sphinx reads the page again"


def test_a_notebook_that_raises_is_named_and_not_kept(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute.main([]) == 1
    said = capsys.readouterr()
    assert "book/bad.ipynb failed:" in said.err and "ZeroDivisionError" in said.err and "good" in said.out
    noted = json.loads((book / "_build" / ".jupyter_cache" / "depends.json").read_text())
    assert list(noted) == ["book/good.ipynb"]


def test_the_files_of_a_chapter() -> None:
    notebooks, modules, tests = check.files_of("vae")
    assert notebooks[0] == ROOT / "book" / "vae.ipynb"
    assert {path.relative_to(ROOT).as_posix() for path in modules} == {
        "tiedlib/vae.py",
        "tiedlib/homework/vae.py",
        "tiedlib/lab/experiments/vae.py",
    }
    assert {path.relative_to(ROOT).as_posix() for path in tests} == {
        "tests/ideas/test_vae.py",
        "tests/homework/test_vae.py",
    }
