"""The built book in a browser, as its tests and `benchmarks/page.py` see it: a server, a visit to a page, what the page
weighs, what axe finds. Playwright's browser is given to each function; this file imports none."""

import contextlib
import functools
import gzip
import http.server
import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.places import ROOT
from tiedlib.lab.page import assets
from tiedlib.lab.page.pdf import chromium

__all__ = ["chromium"]  # found as the printing of the book finds it

BOOK = Path(os.environ.get("TIEDLIB_BOOK", ROOT / "_build" / "html"))
PAGES = sorted(p.relative_to(BOOK).as_posix() for p in BOOK.rglob("*.html") if "_static" not in p.parts)
AXE = ("axe-core", "4.14.1", "package/axe.min.js", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
FLAGS = ("--no-sandbox", "--disable-gpu")
START_MS = 600_000  # milliseconds that a browser, or a page's part, may take to be there on a busy machine
PACKED = {".woff", ".woff2", ".png", ".jpg"}  # no server gzips these again


def leads_on(path: str) -> bool:
    """Whether this page of the book only leads to the title page."""
    return path == "index.html" and "http-equiv" in (BOOK / path).read_text(encoding="utf-8")[:600]


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def served(folder: Path, handler: type[Handler] = Handler) -> Iterator[str]:
    """The address of a folder on a server of this process's own."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class Visit:
    """One page in a window of its own, and everything that went wrong in it."""

    def __init__(self, browser: Any, address: str, theme: str = "light", size: dict[str, int] = WIDE, **options: Any):
        self.context = browser.new_context(
            viewport=size, color_scheme=theme, has_touch=size is PHONE, is_mobile=size is PHONE, **options
        )
        self.context.set_default_timeout(START_MS)
        self.page, self.address = self.context.new_page(), address
        self.problems: list[str] = []
        self.requests: list[str] = []
        p = self.page
        p.on("console", self.console)
        p.on("pageerror", lambda e: self.problems.append(f"page error: {e}"))
        p.on("requestfailed", lambda r: self.problems.append(f"failed: {r.url} {r.failure}"))
        p.on("response", lambda r: self.answered(r.status, r.url))
        p.on("request", lambda r: self.requests.append(r.url))
        p.goto(address)
        p.wait_for_load_state("networkidle")

    def console(self, message: Any) -> None:
        where = str(message.location.get("url", ""))
        if message.type in ("error", "warning") and not where.endswith("/favicon.ico"):  # the browser's own request
            self.problems.append(f"{message.type}: {message.text} {where}")

    def answered(self, status: int, url: str) -> None:
        if status >= 400 and not url.endswith("/favicon.ico"):
            self.problems.append(f"{status}: {url}")

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: Any) -> None:
        self.context.close()

    def bring(self, element: Any) -> None:
        """Scroll there. (Playwright's own way waits for two frames alike, and on a busy machine no frame may come for long.)"""
        element.evaluate("e => e.scrollIntoView({ block: 'center', behavior: 'instant' })")

    def draw_all(self) -> int:
        """Walk down the page (what lies far below is not laid out before), bring every figure near and wait until it is
        drawn; returns how many there are."""
        return self.page.evaluate("""async () => {
            for (const part of document.querySelectorAll("article section")) {
                part.scrollIntoView({ behavior: "instant" });
                await new Promise((done) => { requestAnimationFrame(() => setTimeout(done)); setTimeout(done, 200); });
            }
            scrollTo({ top: 0, behavior: "instant" });
            const all = [...document.querySelectorAll(".tl-figure")];
            for (const one of all) { await one.tiedlib.near(); one.tiedlib.stop(); }
            return all.length;
        }""")

    def outside(self) -> list[str]:
        home = self.address.split("/", 3)[:3]
        return [u for u in self.requests if u.split("/", 3)[:3] != home and not u.startswith(("data:", "blob:"))]

    def weights(self, site: str) -> dict[str, int]:
        """Bytes, gzipped, of every file that the page has asked for so far."""
        return {u: zipped(u, site) for u in set(self.requests) if u.startswith(site) and not u.endswith("/")}

    def wear(self, theme: str) -> None:
        """Give the page the other theme, as its own button does, and wait until every figure that was drawn wears it."""
        self.page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        self.page.wait_for_function("""theme => [...document.querySelectorAll(".tl-figure")]
            .every(({ tiedlib: f }) => !f.drawn || (f.worn === theme && !f.busy))""", arg=theme, polling=50)  # fmt: skip

    def violations(self, axe: str, rules: Sequence[str] = ()) -> list[dict[str, Any]]:
        """What axe-core (its source, `axe`) objects to, by all its rules or by these, with every fold of the page opened, laid
        out and at rest: text that is still fading in has no contrast yet."""
        if not self.page.evaluate("!!window.axe"):
            self.page.add_style_tag(content="""*, ::before, ::after { animation: none !important; transition: none !important;
                content-visibility: visible !important; }""")  # fmt: skip
            self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            self.page.evaluate(axe)
        options = {
            "resultTypes": ["violations"],
            **({"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}),
        }
        return self.page.evaluate("options => axe.run(document, options)", options)["violations"]


def late(address: str) -> bool:
    """Whether this file comes only when a figure is near: its states, or plotly.js."""
    return "/states/" in address or "plotly.min.js" in address


def zipped(address: str, site: str) -> int:
    """Bytes of a file of the book as a server that compresses sends it."""
    file = BOOK / re.sub(r"[?#].*", "", address.removeprefix(site))
    content = file.read_bytes()
    return len(content) if file.suffix in PACKED else len(gzip.compress(content, 6))


def packed(element: Any, book: Path = BOOK) -> str:
    """The states of a figure (its element in the page), as `tiedlib.lab.figures.states.pack` wrote them."""
    text = (book / "_static" / "states" / f"{element.get_attribute('data-states')}.js").read_text()
    return json.loads(text[text.index(",") + 1 : text.rindex(")")])


def axe_source(outdir: Path) -> str:
    """axe-core, fetched once. Raises OSError when it cannot be had."""
    return assets.npm_file(*AXE, assets.cache_folder(outdir)).read_text(encoding="utf-8")
