"""The built book in a real browser: every page, both themes, wide and phone; every control moved; nothing missing,
nothing from outside, nothing that axe objects to.

The pages come from `_build/html` (or the folder that TIEDLIB_BOOK names); `make test` builds them first. Skipped where
no Chromium or no built book is there, but never where CI=true."""

import contextlib
import functools
import gzip
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from tiedlib.lab.page import assets, states

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parent.parent
BOOK = Path(os.environ.get("TIEDLIB_BOOK", ROOT / "_build" / "html"))
AXE = ("axe-core", "4.14.1", "package/axe.min.js", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c")
FIRST_VIEW, STATES, PLOTLY = 500_000, 200_000, 500_000  # bytes, gzipped
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
PAGES = sorted(p.relative_to(BOOK).as_posix() for p in BOOK.rglob("*.html") if "_static" not in p.parts)


def missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; in CI the browser tests must run")
    pytest.skip(what)


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the built book on a server of this test's own."""
    if not PAGES:
        missing(f"there is no built book in {BOOK}: run `make book` first")
    with served(BOOK) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    found = chromium()
    if found is None:
        missing("no Chromium or Chrome is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


class Visit:
    """One page in a window of its own, and everything that went wrong in it."""

    def __init__(self, browser: Any, address: str, theme: str = "light", size: dict[str, int] = WIDE, **options: Any):
        self.context = browser.new_context(
            viewport=size, color_scheme=theme, has_touch=size is PHONE, is_mobile=size is PHONE, **options
        )
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

    def draw_all(self) -> int:
        """Bring every figure near and wait until it is drawn; returns how many there are."""
        return self.page.evaluate("""async () => {
            const all = [...document.querySelectorAll(".tl-figure")];
            for (const one of all) { await one.tiedlib.near(); one.tiedlib.stop(); }
            return all.length;
        }""")

    def outside(self) -> list[str]:
        home = self.address.split("/", 3)[:3]
        return [u for u in self.requests if u.split("/", 3)[:3] != home and not u.startswith(("data:", "blob:"))]


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        folder = assets.cache_folder(tmp_path_factory.mktemp("axe") / "html")
        return assets.npm_file(*AXE, folder).read_text(encoding="utf-8")
    except OSError as error:
        missing(f"axe-core cannot be had: {error}")
        raise


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES or ["(no book)"])
def test_every_page_is_whole_and_accessible(site, browser, axe, path, theme, size):
    if path == "index.html" and "http-equiv" in (BOOK / path).read_text()[:600]:
        pytest.skip("index.html only leads to the title page")
    with Visit(browser, site + path, theme, size) as visit:
        visit.draw_all()
        page = visit.page
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, "the page scrolls sideways"
        assert page.locator(".tl-figure.tl-failed").count() == 0
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        told = [(v["id"], v["impact"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found]
        assert told == []
        assert visit.outside() == []
        assert visit.problems == []


@pytest.mark.parametrize("path", PAGES or ["(no book)"])
def test_from_a_folder_without_a_server(site, browser, path):
    with Visit(browser, (BOOK / path).as_uri()) as visit:
        visit.draw_all()
        assert visit.page.locator(".tl-figure.tl-failed").count() == 0
        assert [u for u in visit.requests if not u.startswith(("file:", "data:", "blob:"))] == []
        assert visit.problems == []


def zipped(address: str, site: str) -> int:
    file = BOOK / re.sub(r"[?#].*", "", address.removeprefix(site))
    content = file.read_bytes()
    return len(content) if file.suffix in {".woff", ".woff2", ".png", ".jpg"} else len(gzip.compress(content, 6))


@pytest.mark.parametrize("path", PAGES or ["(no book)"])
def test_pages_are_light(site, browser, path):
    with Visit(browser, site + path) as visit:
        visit.draw_all()
        sizes = {u: zipped(u, site) for u in set(visit.requests) if u.startswith(site) and not u.endswith("/")}
        late = {u: s for u, s in sizes.items() if "/states/" in u or "plotly.min.js" in u}
        assert sum(sizes.values()) - sum(late.values()) <= FIRST_VIEW, sorted(sizes.items(), key=lambda i: -i[1])[:8]
        assert all(s <= (STATES if "/states/" in u else PLOTLY) for u, s in late.items()), late
        assert sum("plotly.min.js" in u for u in visit.requests) <= 1
        if visit.page.locator("[class~=math]").count() == 0:
            assert not any("mathjax" in u for u in visit.requests)


def figures(site: str, browser: Any) -> Iterator[tuple[str, str]]:
    for path in PAGES:
        for name in re.findall(r'class="tl-figure" id="([\w-]+)"', (BOOK / path).read_text(encoding="utf-8")):
            yield path, name


def packed(element: Any) -> str:
    text = (BOOK / "_static" / "states" / f"{element.get_attribute('data-states')}.js").read_text()
    return json.loads(text[text.index(",") + 1 : text.rindex(")")])


def drawn(element: Any, state: int) -> dict[str, Any]:
    """Wait until the figure shows the state; returns what plotly has drawn: its data and the paths on the screen."""
    element.page.wait_for_function("([id, state]) => document.getElementById(id).dataset.drawn === String(state)",
                                   arg=[element.get_attribute("id"), state])  # fmt: skip
    return element.evaluate("""(figure) => {
        const plot = figure.querySelector(".tl-plot");
        const row = (r) => (ArrayBuffer.isView(r) || Array.isArray(r) ? Array.from(r) : r);
        const list = (v) => (v === undefined ? null : Array.from(v, row));
        const title = figure.querySelector(".tl-title");
        return {title: title && title.textContent, data: plot.data.map((t) => ({x: list(t.x), y: list(t.y), z: list(t.z)})),
                marks: [...plot.querySelectorAll("svg path, svg image, svg text, svg use")].map((e) =>
                    e.getAttribute("d") || e.getAttribute("href") || e.textContent).join("|")};
    }""")


def agree(shown: dict[str, Any], expected: dict[str, Any]) -> None:
    """What the browser drew is what Python packed for this state."""
    if shown["title"] is not None:
        assert shown["title"] == re.sub(r"<[^>]+>", "", expected["layout"].get("title", {}).get("text") or "")
    assert len(shown["data"]) == len(expected["data"])
    for mine, true in zip(shown["data"], expected["data"], strict=True):
        for axis in "xyz":
            if axis in true and mine[axis] is not None and isinstance(true[axis], np.ndarray):
                values = np.array([[np.nan if v is None else v for v in np.atleast_1d(np.array(r, dtype=object))]
                                   for r in mine[axis]], dtype=float)  # fmt: skip
                np.testing.assert_allclose(values.reshape(true[axis].shape), true[axis], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("path", "name"), list(figures("", None)) or [("(no book)", "")])
def test_every_control_moves_the_figure_to_pythons_values(site, browser, path, name):
    with Visit(browser, site + path) as visit:
        visit.draw_all()
        figure = visit.page.locator(f"#{name}")
        figure.scroll_into_view_if_needed()
        text = packed(figure)
        state = int(figure.get_attribute("data-drawn"))
        before = drawn(figure, state)
        agree(before, states.unpack(text, state))
        controls = figure.locator("[data-texts]")
        for i in range(controls.count()):
            control = controls.nth(i)
            texts = json.loads(control.get_attribute("data-texts"))
            if len(texts) < 2:
                continue
            kind = control.get_attribute("type") or "select"
            control.focus()
            if kind == "range":  # the keyboard moves it, and says the value
                at = int(control.input_value())
                visit.page.keyboard.press("ArrowRight" if at + 1 < len(texts) else "ArrowLeft")
                now = texts[int(control.input_value())]
                assert control.get_attribute("aria-valuetext") == now
                assert figure.locator(f"output[for={control.get_attribute('id')}]").text_content() == now
            elif kind == "checkbox":
                visit.page.keyboard.press("Space")
            else:
                control.select_option(index=(control.evaluate("c => c.selectedIndex") + 1) % len(texts))
            state = figure.evaluate("f => f.tiedlib.state")
            after = drawn(figure, state)
            agree(after, states.unpack(text, state))
            if json.dumps(after["data"]) != json.dumps(before["data"]):
                assert after["marks"] != before["marks"], f"{control.get_attribute('id')}: the picture did not change"
            before = after
        assert visit.problems == []


def test_a_figure_follows_the_readers_theme_without_a_reload(site, browser):
    found = list(figures("", None))
    if not found:
        missing("the built book has no figure")
    with Visit(browser, site + found[0][0]) as visit:
        visit.draw_all()
        ink = "() => getComputedStyle(document.querySelector('.tl-plot svg .xtick text, .tl-plot svg text')).fill"
        light = visit.page.evaluate(ink)
        visit.page.evaluate("document.documentElement.dataset.theme = 'dark'")
        visit.page.wait_for_function(f"before => ({ink})() !== before", arg=light)


def test_play_moves_the_slider_and_stops(site, browser):
    path = next((p for p in PAGES if "tl-play" in (BOOK / p).read_text(encoding="utf-8")), None)
    if path is None:
        missing("the built book has no play button")
    with Visit(browser, site + path, reduced_motion="reduce") as visit:
        visit.draw_all()
        button = visit.page.locator(".tl-play").first
        slider = button.locator("xpath=..").locator("[data-texts]")
        start = slider.input_value()
        assert button.get_attribute("aria-label").startswith("Play"), "with reduced motion nothing plays by itself"
        button.click()
        visit.page.wait_for_function("([id, v]) => document.getElementById(id).value !== v",
                                     arg=[slider.get_attribute("id"), start])  # fmt: skip
        assert button.get_attribute("aria-label").startswith("Pause")
        button.click()
        assert button.get_attribute("aria-label").startswith("Play")
        visit.page.wait_for_function("b => b.closest('.tl-figure').querySelector('.tl-live').textContent.length > 0",
                                     arg=button.element_handle())  # fmt: skip


def test_without_scripts_there_are_caption_words_and_table(site, browser):
    path = next((p for p, _ in figures("", None)), None)
    if path is None:
        missing("the built book has no figure")
    with Visit(browser, site + path, java_script_enabled=False) as visit:
        figure = visit.page.locator(".tl-figure").first
        assert figure.locator(".tl-alt").is_visible() and figure.locator(".tl-table table").first.is_visible()
        assert not figure.locator(".tl-table-button").is_visible()


def test_the_table_is_one_click_away_and_follows_the_state(site, browser):
    found = list(figures("", None))
    if not found:
        missing("the built book has no figure")
    with Visit(browser, site + found[0][0]) as visit:
        visit.draw_all()
        figure = visit.page.locator(f"#{found[0][1]}")
        button, table = figure.locator(".tl-table-button"), figure.locator(".tl-table")
        assert not table.is_visible()
        button.click()
        assert button.get_attribute("aria-expanded") == "true" and table.is_visible()
        assert table.locator("td").count() > 0
        button.click()
        assert not table.is_visible()


def test_claims_are_filtered_without_a_server(browser, site):
    path = next((p for p in PAGES if "tl-claims-filter" in (BOOK / p).read_text(encoding="utf-8")), None)
    if path is None:
        missing("the built book has no table of claims")
    with Visit(browser, (BOOK / path).as_uri()) as visit:
        entries, verdict = visit.page.locator(".tl-claim"), visit.page.locator("[data-filter=verdict]").first
        total = entries.count()
        verdict.select_option("wrong")
        shown = visit.page.locator(".tl-claim:not([hidden])")
        assert 0 < shown.count() < total
        assert shown.count() == visit.page.locator(".tl-claim.tl-verdict-wrong").count()
        assert visit.page.locator(".tl-claims-count").first.text_content() == f"{shown.count()} statements"


def test_controls_are_large_enough_for_a_thumb(site, browser):
    path = next((p for p in PAGES if "tl-control" in (BOOK / p).read_text(encoding="utf-8")), None)
    if path is None:
        missing("the built book has no control")
    with Visit(browser, site + path, size=PHONE) as visit:
        for one in visit.page.locator(
            ".tl-controls :is(input[type=range], select, button), .tl-table-button, .tl-switch label"
        ).all():
            assert one.bounding_box()["height"] >= 44, one.evaluate("e => e.outerHTML")[:120]


def test_a_quick_step_draws_what_a_whole_redraw_draws(site, browser):
    """Where only the points of lines change, the script redraws these alone; the picture must be the same."""
    quick = 0
    for path in sorted({p for p, _ in figures("", None)}):
        with Visit(browser, site + path) as visit:
            visit.draw_all()
            for one in visit.page.locator(".tl-figure:has([data-texts])").all():
                last = one.evaluate("f => f.tiedlib.states.head.states - 1")
                for state in {last // 2, last, 0}:
                    one.evaluate("async (f, s) => { await f.tiedlib.paint(s); }", state)
                    stepped = drawn(one, state)
                    one.evaluate("async (f, s) => { await f.tiedlib.paint(s, true); }", state)
                    whole = drawn(one, state)
                    assert stepped["data"] == whole["data"] and stepped["title"] == whole["title"]
                    assert sorted(stepped["marks"].split("|")) == sorted(whole["marks"].split("|")), (path, state)
                    quick += 1
            assert visit.problems == []
    assert quick or not PAGES


NOTEBOOK = """
import numpy as np
from tiedlib.lab import plots
from tiedlib.lab.explore import explore

x = np.linspace(0, 6, 30)
explore(
    lambda rate: plots.lines(x, {"wave": np.sin(rate * x)}), {"rate": [1.0, 2.0, 3.5]}, alt="A wave.", caption="Waves"
)
"""


@pytest.fixture
def jupyterlab(tmp_path) -> Iterator[str]:
    """A JupyterLab of its own with one notebook, stopped at the end."""
    pytest.importorskip("jupyterlab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK.strip())])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "wave.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "ServerApp.token": "''",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": tmp_path,
    }
    settings |= {"ServerApp.open_browser": False, "LabApp.news_url": "None", "ServerApp.allow_root": True}
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in settings.items())]
    environment = {k: v for k, v in os.environ.items() if k != "TIEDLIB_PAGE"} | {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config")
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path)
        try:
            for _ in range(240):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=2):
                    break
                assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def test_in_jupyterlab_the_slider_runs_python_again(jupyterlab, browser):
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{jupyterlab}/lab/tree/wave.ipynb")
    page.locator(".jp-Notebook .jp-CodeCell").first.click()
    page.locator(".jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(state="attached")
    page.keyboard.press("Shift+Enter")
    line = page.locator(".js-plotly-plot path.js-line").first
    line.wait_for(state="attached")
    before = line.get_attribute("d")
    assert page.locator(".widget-label", has_text="rate").count() == 1
    handle = page.locator(".noUi-handle").first
    handle.focus()
    for _ in range(5):  # between the grid's points: only Python knows these values
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "d => document.querySelector('.js-plotly-plot path.js-line').getAttribute('d') !== d", arg=before
    )
    rate = float(page.locator(".widget-readout").first.text_content())
    assert 1 < rate < 2
    shown = "Array.from(document.querySelector('.js-plotly-plot').data[0].y)"
    expected = np.sin(
        rate * np.linspace(0, 6, 30)
    ).tolist()  # the readout is rounded, so the figure is compared to 0.005
    page.wait_for_function(f"y => {shown}.every((v, i) => Math.abs(v - y[i]) < 0.005)", arg=expected)
    assert page.locator("p em", has_text="Waves").count() == 1
    context.close()


@pytest.fixture(scope="session")
def teachers_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Jupyter Book of somebody else's, without our look, that loads the extension; built with warnings as errors."""
    source = tmp_path_factory.mktemp("teacher") / "book"
    shutil.copytree(ROOT / "tests" / "sample_book", source, ignore=shutil.ignore_patterns("_build"))
    tool = Path(sys.executable).with_name("jupyter-book")
    done = subprocess.run([tool, "build", "-W", "--keep-going", source], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return source / "_build" / "html"


def test_the_figures_work_in_a_teachers_own_book(teachers_book, browser):
    with served(teachers_book) as home, Visit(browser, home + "figures.html", "dark") as visit:
        assert visit.draw_all() == 4
        assert visit.page.locator(".tl-figure.tl-failed").count() == 0
        assert visit.page.locator(".tl-plot svg .trace, .tl-plot svg image").count() >= 6
        assert visit.page.locator(".tl-card").count() == 3 and visit.page.locator(".tl-proof.tl-ok").count() == 1
        assert visit.page.locator("mjx-container").count() > 0
        assert visit.outside() == []
        assert visit.problems == []
