"""The whole book as one PDF, printed by an installed Chromium or Chrome.

    jupyter-book build --builder singlehtml --path-output PRINT .
    python -m tiedlib.lab.page.pdf PRINT/_build/singlehtml BOOK.pdf

Every figure is drawn as the page first shows it, one that plays at its end; the contents have page numbers, the PDF has
bookmarks and tags. The page is printed until its numbers are those that stand in the contents. Needs Playwright and pypdf.
"""

import argparse
import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tiedlib import __version__
from tiedlib.lab.files import write_atomic
from tiedlib.lab.outputs import static

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTH = 643  # pixels between the margins of print.css: 210 mm less 2 × 20 mm
ROUNDS = 4  # numbers have one width in the contents, so that the second round is the last in nearly every book


class PdfError(RuntimeError):
    """The book cannot be printed; the message says why, and what to do."""


@dataclass(frozen=True)
class Printed:
    """What was printed. `dead`: links of the book that lead nowhere; `wide`: what is wider than the paper."""

    pages: int
    size: int  # bytes
    chapters: int
    figures: int
    dead: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()


def chromium() -> str | None:
    """The path of the installed Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def page_of(site: Path) -> Path:
    """The one page of a book built by `--builder singlehtml`. Raises ValueError where it is not there."""
    page = site / "index.html"
    rule = "it must be the folder that `jupyter-book build --builder singlehtml` writes"
    if not page.is_file():
        raise ValueError(f"SITE is {site}; there is no index.html in it; {rule}")
    text = page.read_text(encoding="utf-8")
    if "bd-article" not in text or 'rel="next"' in text:
        raise ValueError(f"SITE is {site}; its index.html is not the whole book; {rule}")
    return page


def _libraries() -> tuple[Any, Any]:
    try:
        import playwright.sync_api
        import pypdf
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        raise PdfError(f"the book cannot be printed without {name}: pip install playwright pypdf") from error
    return playwright.sync_api, pypdf


@contextmanager
def _browser(sync_api: Any) -> Iterator[Any]:
    found = chromium()
    with sync_api.sync_playwright() as play:
        try:
            opened = play.chromium.launch(executable_path=found, channel=None if found else "chrome")
        except sync_api.Error as error:
            reason = f"{found} does not start" if found else "no Chromium or Chrome is installed"
            raise PdfError(f"{reason}: install Chromium, or put it on PATH ({str(error).splitlines()[0]})") from error
        try:
            yield opened
        finally:
            opened.close()


def imprint(when: datetime) -> str:
    """The line of the title page that says when, and with which library, the book was printed."""
    return f"Printed on {when.day} {when:%B %Y} with tiedlib {__version__}."


def page_numbers(reader: Any, targets: Sequence[str]) -> list[int]:
    """The page of each target, from 1, as pypdf's `reader` finds it. Raises PdfError for one that is not there."""
    places = reader.named_destinations
    lost = [name for name in targets if name not in places and f"/{name}" not in places]
    if lost:
        raise PdfError(f"the printed book lacks the headings {', '.join(lost)}")
    return [reader.get_destination_page_number(places.get(name) or places[f"/{name}"]) + 1 for name in targets]


def _print(page: Any, pypdf: Any) -> bytes:
    """Print until the contents' numbers are right."""
    targets = page.evaluate("tiedlibPrint.targets()")
    numbers: list[int] = []
    for _ in range(ROUNDS):
        printed = page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
        found = page_numbers(pypdf.PdfReader(io.BytesIO(printed)), targets)
        if found == numbers:
            return bytes(printed)
        numbers = found
        page.evaluate("pages => tiedlibPrint.number(pages)", numbers)
    raise PdfError(f"the page numbers of the contents did not settle in {ROUNDS} rounds")


def _finished(printed: bytes, author: str, pypdf: Any) -> tuple[bytes, int]:
    """The file with its author, opened with its bookmarks beside it; and the number of its pages."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(printed))
    writer.add_metadata({"/Author": author, "/Creator": f"tiedlib {__version__}"})
    writer.page_mode = "/UseOutlines"
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue(), len(writer.pages)


def print_book(site: Path, out: Path, *, licence: str = "") -> Printed:
    """Print the book in `site` to the file `out`, whole or not at all: a file that is there stays until the new one is.

    `licence` is a line for the title page. Raises ValueError for a folder without the one page or a name that does not
    end in .pdf, PdfError where a library, a browser or a figure fails."""
    if out.suffix != ".pdf":
        raise ValueError(f"OUT is {out}; its name must end in .pdf")
    address = page_of(site).resolve().as_uri()
    sync_api, pypdf = _libraries()
    options = {"licence": licence, "printed": imprint(datetime.now(UTC))}
    with _browser(sync_api) as browser:
        size = {"width": WIDTH, "height": 900}
        page = browser.new_page(viewport=size, color_scheme="light", reduced_motion="reduce")
        page.goto(address)
        page.add_style_tag(content=static("print.css"))
        page.add_script_tag(content=static("print.js"))
        page.emulate_media(media="print")  # only now: until here the browser lays out no more than one screen
        done = page.evaluate("options => tiedlibPrint.prepare(options)", options)
        if done["failed"]:
            raise PdfError(f"{site}: these figures are not drawn: {', '.join(done['failed'])}")
        content, pages = _finished(_print(page, pypdf), done["author"], pypdf)
    write_atomic(out, content)
    return Printed(pages, len(content), done["chapters"], done["figures"], tuple(done["dead"]), tuple(done["wide"]))


def main(arguments: list[str] | None = None) -> int:
    """`python -m tiedlib.lab.page.pdf SITE OUT.pdf`: one line on standard error and exit code 2 where it fails."""
    parser = argparse.ArgumentParser(prog="python -m tiedlib.lab.page.pdf", description="The whole book as one PDF.")
    parser.add_argument("site", type=Path, help="the folder that `jupyter-book build --builder singlehtml` wrote")
    parser.add_argument("out", type=Path, help="the PDF to write")
    parser.add_argument("--licence", default="", help="a line for the title page")
    options = parser.parse_args(arguments)
    try:
        done = print_book(options.site, options.out, licence=options.licence)
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"pdf: {' '.join(str(error).split())}\n")
        return 2
    for what, named in (("a link leads nowhere", done.dead), ("wider than the paper", done.wide)):
        for name in named:
            sys.stderr.write(f"pdf: {what}: {name}\n")
    facts = f"{done.pages} pages, {done.chapters} chapters, {done.figures} figures, {done.size / 1e6:.1f} MB"
    sys.stdout.write(f"{options.out}: {facts}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
