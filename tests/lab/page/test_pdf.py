"""The book as a PDF: what can be said without a browser, and a small book that is built, printed and read."""

import io
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docutils import nodes
from sphinx.addnodes import start_of_file, toctree

import tiedlib
from tests.places import ROOT
from tiedlib.lab.page import pdf, single

A4 = (595, 842)  # points
AXES = ("time", "height", "epoch", "loss")  # titles of the sample book's axes


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text('<article class="bd-article"></article>')
    return folder


def test_a_folder_without_the_one_page_is_refused(tmp_path, site):
    with pytest.raises(ValueError, match=r"SITE is .*there is no index.html.*--builder singlehtml"):
        pdf.page_of(tmp_path)
    assert pdf.page_of(site) == site / "index.html"


@pytest.mark.parametrize(
    "page", ['<meta http-equiv="Refresh">', '<article class="bd-article"></article><a rel="next" href="two.html">']
)
def test_one_page_of_many_is_refused(site, page):
    (site / "index.html").write_text(page)
    with pytest.raises(ValueError, match=r"SITE is .*not the whole book"):
        pdf.page_of(site)


def test_the_name_must_be_that_of_a_pdf(site, tmp_path):
    with pytest.raises(ValueError, match=r"OUT is .*book\.txt; its name must end in \.pdf"):
        pdf.print_book(site, tmp_path / "book.txt")


@pytest.mark.parametrize("name", ["playwright", "pypdf"])
def test_a_missing_library_is_named(site, tmp_path, monkeypatch, capsys, name):
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    old = tmp_path / "book.pdf"
    old.write_bytes(b"old")
    assert pdf.main([str(site), str(old)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("pdf: ") and f"without {name}: pip install playwright pypdf" in said
    assert said.count("\n") == 1 and old.read_bytes() == b"old"


def test_a_missing_browser_is_said(monkeypatch):
    class MissingError(Exception):
        pass

    asked = []

    class Play:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        @property
        def chromium(self) -> Any:
            return self

        def launch(self, **options: Any) -> None:
            asked.append(options)
            raise MissingError("no such file\nmore")

    api = SimpleNamespace(sync_playwright=Play, Error=MissingError)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pdf.PdfError, match=r"no Chromium or Chrome is installed: install Chromium.*no such file\)"):
        pdf._browser(api).__enter__()
    monkeypatch.setattr(pdf, "chromium", lambda: "/opt/chromium")
    with pytest.raises(pdf.PdfError, match="/opt/chromium does not start"):
        pdf._browser(api).__enter__()
    assert asked == [
        {"executable_path": None, "channel": "chrome"},
        {"executable_path": "/opt/chromium", "channel": None},
    ]


def test_the_browser_on_the_path_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pdf.chromium() is None
    (tmp_path / "google-chrome").write_text("#!/bin/sh\n")
    (tmp_path / "google-chrome").chmod(0o755)
    assert pdf.chromium() == str(tmp_path / "google-chrome")


def test_the_imprint_has_the_day_and_the_version():
    assert (
        pdf.imprint(datetime(2026, 3, 7, tzinfo=UTC)) == f"Printed on 7 March 2026 with tiedlib {tiedlib.__version__}."
    )


def blank(pages: int, names: dict[str, int]) -> bytes:
    """A PDF of empty pages with named places."""
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(*A4)
    for name, page in names.items():
        writer.add_named_destination(name, page - 1)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def test_page_numbers_count_from_one_and_miss_nothing():
    reader = pytest.importorskip("pypdf").PdfReader(io.BytesIO(blank(5, {"one": 1, "five": 5})))
    assert pdf.page_numbers(reader, ["five", "one"]) == [5, 1]
    with pytest.raises(pdf.PdfError, match="lacks the headings six"):
        pdf.page_numbers(reader, ["one", "six"])


class Press:
    """A page whose contents push the chapter to another page once its number is written."""

    def __init__(self, pages: list[int]):
        self.pages, self.written, self.rounds = pages, None, 0

    def evaluate(self, script: str, numbers: Any = None) -> Any:
        if numbers is not None:
            self.written = numbers
        return ["chapter"]

    def pdf(self, **_: Any) -> bytes:
        self.rounds += 1
        return blank(9, {"chapter": self.pages[min(self.rounds, len(self.pages)) - 1]})


def test_the_book_is_printed_until_its_contents_are_right():
    pypdf = pytest.importorskip("pypdf")
    press = Press([3, 4])
    printed = pdf._print(press, pypdf)
    assert press.rounds == 3 and press.written == [4]
    assert pdf.page_numbers(pypdf.PdfReader(io.BytesIO(printed)), ["chapter"]) == [4]
    with pytest.raises(pdf.PdfError, match="did not settle"):
        pdf._print(Press([3, 4, 3, 4, 3]), pypdf)


def test_nodes_that_html_knows_are_known_to_the_one_page():
    handlers = {"html": {"A": 1, "B": 2}, "singlehtml": {"B": 3}}
    single.complete(SimpleNamespace(registry=SimpleNamespace(translation_handlers=handlers)))
    assert handlers == {"html": {"A": 1, "B": 2}, "singlehtml": {"A": 1, "B": 3}}
    alone = {"html": {"A": 1}}
    single.complete(SimpleNamespace(registry=SimpleNamespace(translation_handlers=alone)))
    assert alone == {"html": {"A": 1}}, "with no such key Sphinx itself falls back to html"


def assembled() -> nodes.document:
    """Two pages in one tree, and a link from the first to an id of the second."""
    tree = nodes.document("", "")
    wrapper = nodes.compound()
    for name in ("book/one", "book/two"):
        wrapper += start_of_file("", nodes.section("", ids=["same"]), docname=name)
    wrapper[0] += nodes.paragraph("", "", nodes.reference("", "there", refuri="#document-book/two#same"))
    wrapper[0] += nodes.paragraph("", "", nodes.reference("", "away", refuri="https://example.org/#same"))
    tree += wrapper
    return tree


def test_links_know_their_chapter_and_parts_keep_their_names():
    tree, root = assembled(), nodes.document("", "")
    root += toctree(entries=[(None, "book/one"), (None, "book/two")], caption="Output layer")
    env = SimpleNamespace(all_docs={"book/one": 1, "book/two": 1}, get_doctree=lambda _: root)
    single.mark(SimpleNamespace(builder=SimpleNamespace(name="html"), env=env), tree, "index")
    assert not [p for p in tree.findall(nodes.Element) if p.get("classes")]
    single.mark(SimpleNamespace(builder=SimpleNamespace(name="singlehtml"), env=env), tree, "index")
    assert [link["classes"] for link in tree.findall(nodes.reference)] == [["tl-leads-to-book-two"], []]
    part = tree[0][0]
    assert part["classes"] == ["tl-part"] and part.astext() == "Output layer" and isinstance(tree[0][1], start_of_file)


def test_the_one_page_is_moved_to_the_root(tmp_path):
    builder = SimpleNamespace(name="singlehtml", out_suffix=".html")
    app = SimpleNamespace(builder=builder, outdir=tmp_path, config=SimpleNamespace(root_doc="book/intro"))
    (tmp_path / "book").mkdir()
    written = tmp_path / "book" / "intro.html"
    written.write_text('<a href="book/intro.html#id1">1</a><a href="book/other.html#id1">2</a>')
    single.move(app, RuntimeError("failed"))
    assert written.exists()
    single.move(app, None)
    assert not written.exists()
    assert (tmp_path / "index.html").read_text() == '<a href="#id1">1</a><a href="book/other.html#id1">2</a>'


# ---- printed for real -----------------------------------------------------------------------------------------------

TWIN = """# A second chapter

## Exercises

Back to the [figures](figures.ipynb) and to the [first exercises](first-exercises), or [away](https://example.org/page).[^n]

[^n]: A second note.

```python
""" + "very_long_name = " + " + ".join(f"number_{i}" for i in range(40)) + """
```

```{math}
:label: eq-sum
S = \\sum_{i=1}^{n} x_i
```
"""  # fmt: skip
FIRST = "# A teacher's book\n\n(first-exercises)=\n## Exercises\n\nThe first ones.[^n]\n\n[^n]: A first note.\n"
TOC = "format: jb-book\nroot: index\nparts:\n- caption: The main part\n  chapters:\n  - file: figures\n  - file: twin\n"


def missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; in CI the browser tests must run")
    pytest.skip(what)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pdf.Printed, Any]:
    """The sample book with one more chapter: built as one page, printed, and opened."""
    if pdf.chromium() is None:
        missing("no Chromium or Chrome is installed")
    for name in ("playwright", "pypdf", "jupyter_book"):
        pytest.importorskip(name)
    source = tmp_path_factory.mktemp("print") / "book"
    shutil.copytree(ROOT / "tests" / "sample_book", source, ignore=shutil.ignore_patterns("_build"))
    for name, text in {"twin.md": TWIN, "index.md": FIRST, "_toc.yml": TOC}.items():
        (source / name).write_text(text)
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [tool, "build", "-W", "--keep-going", "--builder", "singlehtml", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    out = source / "_build" / "pdf" / "book.pdf"
    report = pdf.print_book(source / "_build" / "singlehtml", out, licence="Free for all.")
    import pypdf

    return out, report, pypdf.PdfReader(out)


def flat(entries: list[Any], depth: int = 0) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for entry in entries:
        found += flat(entry, depth + 1) if isinstance(entry, list) else [(depth, entry.title)]
    return found


def words(page: Any) -> str:
    """The page's text, letter by letter: some browsers' PDFs spell fi as the one sign of its ligature."""
    return unicodedata.normalize("NFKC", " ".join(page.extract_text().split()))


@pytest.mark.browser
class TestPrinted:
    def test_file(self, printed):
        out, report, reader = printed
        assert report.pages == len(reader.pages) >= 5 and report.size == out.stat().st_size < 3_000_000
        assert report.chapters == 3 and report.figures == 4 and report.dead == () and report.wide == ()
        assert [p.name for p in out.parent.iterdir()] == ["book.pdf"], "nothing is left beside it"
        assert {(round(p.mediabox.width), round(p.mediabox.height)) for p in reader.pages} == {A4}
        assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"], "tagged, for screen readers"
        assert reader.metadata.title == "A teacher's book" and reader.metadata.author == "By a teacher"

    def test_title_page_and_contents(self, printed):
        reader = printed[2]
        front, contents = words(reader.pages[0]), words(reader.pages[1])
        assert "A teacher's book" in front.replace("’", "'") and "Free for all." in front
        assert f"with tiedlib {tiedlib.__version__}" in front
        assert "Contents" in contents and "The main part" in contents
        listed = re.search(r"A second chapter\s*(\d+)", contents)
        assert listed, contents
        page = words(reader.pages[int(listed[1]) - 1])
        assert "Back to the figures" in page, "the number in the contents is that of the chapter's page"
        assert page.startswith(f"A second chapter The main part {listed[1]} "), "and the one in its margin"

    def test_chapters_begin_on_pages_of_their_own_and_are_bookmarks(self, printed):
        reader = printed[2]
        outline = flat(reader.outline)
        top = [title for depth, title in outline if depth == 0]
        assert top[0] == "Contents" and top[-1] == "A second chapter" and len(top) == 4
        assert (1, "Exercises") in outline
        starts = [reader.get_destination_page_number(e) for e in reader.outline if not isinstance(e, list)]
        assert len(set(starts)) == len(starts) == 4

    def test_figures_stand_where_they_play_to_and_controls_are_words(self, printed):
        text = " ".join(words(page) for page in printed[2].pages)
        assert "Drawn at frequency: 4, phase: 0, shape: sine, noisy: " in text, "the state in words"
        assert text.count("phase") == 3 + 1, "three in the code, one in these words: the controls are gone"
        assert "Data as a table" not in text and "Play" not in text and "Copy" not in text
        for label in AXES:
            assert label in text, f"the axis label {label} of a figure"
        paths = max(len(re.findall(rb"\s(?:l|c)\s", page.get_contents().get_data())) for page in printed[2].pages)
        assert paths > 100, "curves are paths, not pictures"

    def test_folded_text_is_open_and_code_wraps(self, printed):
        text = " ".join(words(page) for page in printed[2].pages)
        assert "Evidence" in text and "number_39" in text.replace(" ", "")

    def test_links_lead_where_their_author_meant(self, printed):
        reader = printed[2]
        last = next(p for p in reader.pages if "Back to the figures" in words(p))
        links = [a.get_object() for a in last.get("/Annots", [])]
        addresses = [link["/A"]["/URI"] for link in links if "/A" in link and "/URI" in link["/A"]]
        assert addresses == ["https://example.org/page"]
        places = [link.get("/Dest") or link.get("/A", {}).get("/D") for link in links]
        names = [str(place).lstrip("/") for place in places if place]
        pages = [words(reader.pages[n - 1]) for n in pdf.page_numbers(reader, names)]
        assert any("Inline" in page and "time" in page for page in pages), "the chapter of figures"
        assert sum("The first ones." in page for page in pages) == 1, "the first chapter's exercises, and not its note"
        assert sum("A second note." in page for page in pages) >= 2, (
            "this chapter's note, and back: ids of both chapters"
        )
