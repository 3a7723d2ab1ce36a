"""The built book in a real browser: every page, both themes, wide and phone; every control moved; nothing missing,
nothing from outside, nothing that axe objects to.

The pages come from `_build/html` (or the folder that TIEDLIB_BOOK names); `make test` builds them first. Skipped where
no Chromium or no built book is there, but never where CI=true."""

import contextlib
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
from plotly.colors import sample_colorscale

from tests.browser.visit import (
    BOOK,
    FLAGS,
    PAGES,
    PHONE,
    ROOT,
    START_MS,
    WIDE,
    Visit,
    axe_source,
    chromium,
    late,
    leads_on,
    packed,
    served,
)
from tests.lab.figures.legal_figures import FIGURES
from tiedlib.lab.figures import plots, states
from tiedlib.lab.notebook.explorer import show
from tiedlib.lab.page.figures import figure_html, write_states

# A window that gets no frame for half a minute, on a machine that is busy elsewhere, is tried once more in a new browser;
# what the page does wrong is an AssertionError, which nothing repeats.
pytestmark = [pytest.mark.browser, pytest.mark.flaky(reruns=1, only_rerun=["TimeoutError"])]
COLOURS = ["color-contrast", "link-in-text-block"]  # axe's rules that a theme can break; the others see no difference
FIRST_VIEW, STATES, PLOTLY = 500_000, 200_000, 500_000  # bytes, gzipped


def missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; in CI the browser tests must run")
    pytest.skip(what)


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of the built book on a server of this test's own."""
    if not PAGES:
        missing(f"there is no built book in {BOOK}: run `make book` first")
    with served(BOOK) as address:
        yield address


@pytest.fixture(scope="module")  # not longer: another playwright, of the PDF's tests, must be able to begin
def browsers() -> Iterator[Callable[..., Any]]:
    """Gives the browser that all tests share, or a new one in its stead."""
    found = chromium()
    if found is None:
        missing("no Chromium or Chrome is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    opened: list[Any] = []
    with sync_api.sync_playwright() as play:

        def give(anew: bool) -> Any:
            if anew or not opened:
                for one in opened:
                    one.close()
                opened[:] = [play.chromium.launch(executable_path=found, args=FLAGS, timeout=START_MS)]
            return opened[0]

        yield give
        for one in opened:
            one.close()


@pytest.fixture
def browser(browsers: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    return browsers(anew=getattr(request.node, "execution_count", 1) > 1)


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        return axe_source(tmp_path_factory.mktemp("axe") / "html")
    except OSError as error:
        missing(f"axe-core cannot be had: {error}")
        raise


class TestEveryPage:  # half of this file's time; a class of its own, which another worker may take
    @pytest.mark.parametrize("path", PAGES or ["(no book)"])
    def test_every_page_is_whole_light_and_accessible_in_both_themes(self, site, browser, axe, path):
        if leads_on(path):
            pytest.skip("index.html only leads to the title page")
        with Visit(browser, site + path, "light") as visit:
            visit.draw_all()
            is_light(visit, site)
            is_whole(visit, site, "light", visit.violations(axe))
            visit.wear("dark")
            is_whole(visit, site, "dark", visit.violations(axe, COLOURS))

    @pytest.mark.parametrize("path", PAGES or ["(no book)"])
    def test_every_page_is_whole_and_accessible_on_a_phone(self, site, browser, axe, path):
        if leads_on(path):
            pytest.skip("index.html only leads to the title page")
        with Visit(browser, site + path, "dark", PHONE) as visit:
            visit.draw_all()
            is_whole(visit, site, "dark", visit.violations(axe))
            visit.wear("light")
            is_whole(visit, site, "light", [])


def is_whole(visit: Visit, site: str, theme: str, violations: list[dict[str, Any]]) -> None:
    page = visit.page
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, "the page scrolls sideways"
    assert page.locator(".tl-figure.tl-failed").count() == 0
    told = [(v["id"], v["impact"], [n["html"][:120] for n in v["nodes"]][:3]) for v in violations]
    assert told == [], f"in the {theme} theme"
    assert visit.outside() == []
    assert visit.problems == []


def is_light(visit: Visit, site: str) -> None:
    sizes = visit.weights(site)
    after = {u: s for u, s in sizes.items() if late(u)}
    assert sum(sizes.values()) - sum(after.values()) <= FIRST_VIEW, sorted(sizes.items(), key=lambda i: -i[1])[:8]
    assert all(s <= (STATES if "/states/" in u else PLOTLY) for u, s in after.items()), after
    assert sum("plotly.min.js" in u for u in visit.requests) <= 1
    if visit.page.locator("[class~=math]").count() == 0:
        assert not any("mathjax" in u for u in visit.requests)


@pytest.mark.parametrize("path", PAGES or ["(no book)"])
def test_from_a_folder_without_a_server(site, browser, path):
    with Visit(browser, (BOOK / path).as_uri()) as visit:
        visit.draw_all()
        assert visit.page.locator(".tl-figure.tl-failed").count() == 0
        assert [u for u in visit.requests if not u.startswith(("file:", "data:", "blob:"))] == []
        assert visit.problems == []


def figures() -> Iterator[tuple[str, str]]:
    """Each figure of the book: its page and its name there."""
    for path in PAGES:
        for name in re.findall(r'class="tl-figure" id="([\w-]+)"', (BOOK / path).read_text(encoding="utf-8")):
            yield path, name


def drawn(element: Any, state: int) -> dict[str, Any]:
    """Wait until the figure shows the state; returns what plotly has drawn: its data and the paths on the screen."""
    element.page.wait_for_function("([id, state]) => document.getElementById(id).dataset.drawn === String(state)",
                                   arg=[element.get_attribute("id"), state], polling=20)  # fmt: skip
    return element.evaluate(SEEN)


SEEN = """(figure) => {
    const plot = figure.querySelector(".tl-plot");
    const row = (r) => (ArrayBuffer.isView(r) || Array.isArray(r) ? Array.from(r) : r);
    const list = (v) => (v === undefined ? null : Array.from(v, row));
    const title = figure.querySelector(".tl-title");
    const vertices = (trace) => {  // of the line on the screen, as values and as places 0…1 of its axes' lengths
        const line = plot.querySelector(`.trace${trace.uid} path.js-line`);
        const [x, y] = ["xaxis", "yaxis"].map((k) => plot._fullLayout[trace[k][0] + "axis" + trace[k].slice(1)]);
        if (!line || x.type === "category" || y.type === "category") return null;
        const pairs = [...(line.getAttribute("d") || "").matchAll(/[ML]([-\\d.]+),([-\\d.]+)/g)].map((m) => [+m[1], +m[2]]);
        return { at: pairs.map(([a, b]) => [a / x._length, 1 - b / y._length]), x: [x.type, x.range], y: [y.type, y.range] };
    };
    return {title: title && title.textContent, lines: plot._fullData.map((t) => (t.type === "scatter" ? vertices(t) : null)),
            data: plot.data.map((t) => ({x: list(t.x), y: list(t.y), z: list(t.z)})),
            marks: [...plot.querySelectorAll("svg path, svg image, svg text, svg use")].map((e) =>
                (e.getAttribute("d") || e.getAttribute("href") || e.textContent) + " " + e.getAttribute("transform"))
                .join("|")};
}"""


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
    for line, true in zip(shown["lines"], expected["data"], strict=True):
        follows(line, true)


def follows(line: dict[str, Any] | None, trace: dict[str, Any]) -> None:
    """Every corner of a line on the screen is one of Python's points (plotly leaves out those that the eye would miss)."""
    if line is None or not line["at"]:
        return
    places = []
    for axis in "xy":
        kind, (low, high) = line[axis]
        values = np.array([np.nan if v is None else v for v in trace[axis]], dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            units = np.log10(values) if kind == "log" else values
        places.append((units - low) / (high - low))
    true = np.stack(places, axis=-1)
    gaps = np.abs(np.array(line["at"])[:, None, :] - true[None]).max(axis=-1)
    assert np.nanmin(gaps, axis=1).max() < 0.005, "a corner of the line is not where Python puts it"


MOVING = sorted({path for path, _ in figures()}) or ["(no book)"]


@pytest.mark.parametrize("path", MOVING)
def test_every_control_moves_its_figure_to_pythons_values(site, browser, path):
    with Visit(browser, site + path) as visit:
        names = [name for page, name in figures() if page == path]
        assert visit.draw_all() == len(names) > 0
        for name in names:
            every_control_moves(visit, visit.page.locator(f"#{name}"))
        assert visit.problems == []


def seen(value: Any) -> Any:
    """The same with four digits a number: two states may differ in what rounding left, which no picture shows."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: seen(one) for key, one in value.items()}
    return [seen(one) for one in value] if isinstance(value, list) else value


def every_control_moves(visit: Visit, figure: Any) -> None:
    visit.bring(figure)
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
        if json.dumps(seen(after["data"])) != json.dumps(seen(before["data"])):
            assert after["marks"] != before["marks"], f"{control.get_attribute('id')}: the picture did not change"
        before = after


def test_a_figure_follows_the_readers_theme_without_a_reload(site, browser):
    found = list(figures())
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
    path = next((p for p, _ in figures()), None)
    if path is None:
        missing("the built book has no figure")
    with Visit(browser, site + path, java_script_enabled=False) as visit:
        figure = visit.page.locator(".tl-figure").first
        assert figure.locator(".tl-alt").is_visible() and figure.locator(".tl-table table").first.is_visible()
        assert visit.page.locator(".tl-still .tl-area").first.is_visible(), "a picture needs no script"
        assert not figure.locator(".tl-table-button").is_visible()


def test_the_table_is_one_click_away_and_follows_the_state(site, browser):
    found = list(figures())
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


def walks(sizes: list[int]) -> Iterator[list[int]]:
    """For each control, three neighbouring states along it, the others in the middle of their range."""
    middle = [n // 2 for n in sizes]
    for i, n in enumerate(sizes):
        for k in [range(min(3, n)), range(max(n - 3, 0), n)]:
            places = [[*middle[:i], at, *middle[i + 1 :]] for at in k]
            yield [
                functools.reduce(lambda at, pair: at * pair[0] + pair[1], zip(sizes, p, strict=True), 0) for p in places
            ]


STEPS = """async (figure, walks) => {  // walks whose last picture is not the one that a whole redraw makes
    const seen = ($SEEN);
    const settled = () => {
        const { title, data, marks } = seen(figure);
        return JSON.stringify([title, data, marks.split("|").sort()]);
    };
    const wrong = [];
    for (const walk of walks) {
        for (const state of walk) await figure.tiedlib.paint(state);
        const stepped = settled();
        await figure.tiedlib.paint(walk.at(-1), true);
        if (stepped !== settled()) wrong.push(walk);
    }
    return wrong;
}""".replace("$SEEN", SEEN)


@pytest.mark.parametrize("path", MOVING)
def test_a_quick_step_draws_what_a_whole_redraw_draws(site, browser, path):
    """Where only the points of lines change, the script redraws these alone; the picture must be the same."""
    with Visit(browser, site + path) as visit:
        visit.draw_all()
        for one in visit.page.locator(".tl-figure:has([data-texts])").all():
            sizes = one.evaluate("f => f.tiedlib.controls.map((c) => c.texts.length)")
            assert one.evaluate(STEPS, list(walks(sizes))) == [], one.get_attribute("id")
        assert visit.problems == []


def test_a_link_leads_to_its_place(site, browser):
    """Although what lies between is not laid out yet: on arrival, and within the page."""
    path = max(PAGES, key=lambda p: len((BOOK / p).read_text(encoding="utf-8")))
    anchors = re.findall(r'<section id="([\w-]+)"', (BOOK / path).read_text(encoding="utf-8"))[2:]
    top = "a => { const t = document.getElementById(a).getBoundingClientRect().top; return 0 <= t && t < 150; }"
    for anchor in {anchors[0], anchors[len(anchors) // 2]}:
        with Visit(browser, f"{site}{path}#{anchor}", size=PHONE) as visit:
            visit.page.wait_for_function(top, arg=anchor)
            visit.page.evaluate("location.hash = ''; scrollTo(0, 0)")
            visit.page.evaluate("a => { location.hash = a; }", anchor)
            visit.page.wait_for_timeout(500)
            assert visit.page.evaluate(f"({top})({json.dumps(anchor)})"), f"{path}#{anchor}"


def test_a_still_picture_stands_until_somebody_comes(site, browser):
    pages = {path: (BOOK / path).read_text(encoding="utf-8") for path, _ in figures()}
    found = [
        p
        for p, text in pages.items()
        if "data-autoplay" not in text and text.count('tl-figure"') == text.count('tl-still"')
    ]
    if not found:
        missing("the built book has no page of still pictures")
    path = next((p for p in found if p.endswith("tying.html")), found[0])
    with Visit(browser, site + path) as visit:
        name = visit.page.locator(".tl-figure:has(.tl-still)").first.get_attribute("id")
        figure = visit.page.locator(f"#{name}")
        assert figure.locator(".tl-area svg").is_visible() and figure.locator(".tl-alt").count() == 1
        assert not any("plotly.min.js" in u for u in visit.requests), "plotly.js came before it was needed"
        visit.bring(figure)
        visit.page.mouse.move(200, 200)
        figure.locator("svg.main-svg").first.wait_for()
        assert figure.locator(".tl-still").count() == 0
        assert visit.problems == []


QUIZZED = [path for path in PAGES if 'class="tl-question"' in (BOOK / path).read_text(encoding="utf-8")]


def explained(question: Any) -> list[str]:
    """The explanations of a question that can be seen, without the word that opens them."""
    return [one.inner_text().split(maxsplit=2)[-1] for one in question.locator(".tl-why").all() if one.is_visible()]


def answer_every_way(visit: Visit, question: Any) -> None:
    """With the keyboard alone: each answer, or each number that is known, shows its own explanation and no other's."""
    keys, buttons = visit.page.keyboard, question.locator(".tl-answer > input")
    own = [one.text_content().strip() for one in question.locator(".tl-why").all()]
    assert len(set(own)) == len(own) and explained(question) == []
    if buttons.count():
        ticked = buttons.first.get_attribute("type") == "checkbox"
        buttons.first.focus()
        for k in range(buttons.count()):
            keys.press("Space" if ticked or k == 0 else "ArrowDown")
            assert buttons.nth(k).is_checked() and question.locator(".tl-why").nth(k).is_visible()
            assert len(explained(question)) == 1
            assert buttons.nth(k).evaluate("e => getComputedStyle(e).outlineStyle") == "solid", "the focus can be seen"
            if ticked:
                keys.press("Space")
                keys.press("Tab")
        return
    field, said = question.locator("input"), question.locator("[data-low]")
    for k in range(said.count()):
        ends = [float(said.nth(k).get_attribute(name)) for name in ("data-low", "data-high")]
        answer(visit, field, repr(sum(ends) / 2))
        assert said.nth(k).is_visible() and len(explained(question)) == 1
    answer(visit, field, repr(7 * ends[1] + 123.456))
    assert question.locator(".tl-other").is_visible() and len(explained(question)) == 1


def answer(visit: Visit, field: Any, text: str, key: str = "Enter") -> None:
    field.focus()
    visit.page.keyboard.press("Control+A")
    visit.page.keyboard.press("Delete")
    visit.page.keyboard.type(text)
    assert explained(field.locator("xpath=ancestor::fieldset")) == [], "nothing is said while somebody types"
    visit.page.keyboard.press(key)


@pytest.mark.parametrize("path", QUIZZED or ["(no book)"])
def test_every_question_is_answered_by_keyboard_from_a_folder_without_a_server(browser, path):
    if not QUIZZED:
        missing("the built book has no question")
    with Visit(browser, (BOOK / path).as_uri()) as visit:
        asked = len(visit.requests)
        for question in visit.page.locator(".tl-question").all():
            visit.bring(question)
            answer_every_way(visit, question)
        on_the_way = ("/states/", "plotly.min.js", ".woff", "favicon")  # figures that are passed, fonts, the tab
        fetched = [u for u in visit.requests[asked:] if not any(part in u for part in on_the_way)]
        assert [u for u in visit.requests if not u.startswith(("file:", "data:", "blob:"))] == []
        assert fetched == [] and visit.problems == []


def test_no_two_questions_of_the_book_have_one_id():
    found = [
        i for path in QUIZZED for i in re.findall(r' id="(question-[\w-]+)"', (BOOK / path).read_text(encoding="utf-8"))
    ]
    assert found and len(found) == len(set(found))


def test_answered_questions_are_accessible_in_both_themes(site, browser, axe):
    if not QUIZZED:
        missing("the built book has no question")
    with Visit(browser, site + QUIZZED[0]) as visit:
        visit.page.add_style_tag(content=".tl-question .tl-why { display: block !important; }")
        is_whole(visit, site, "light", visit.violations(axe))
        visit.wear("dark")
        is_whole(visit, site, "dark", visit.violations(axe, COLOURS))


NOTEBOOK = """
import numpy as np
from tiedlib.lab.figures import plots
from tiedlib.lab.notebook.explorer import explore

x = np.linspace(0, 6, 30)
explore(
    lambda rate: plots.lines(x, {"wave": np.sin(rate * x)}), {"rate": [1.0, 2.0, 3.5]}, alt="A wave.", caption="Waves"
)
"""


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab of its own with a small notebook and the book's first, stopped at the end."""
    pytest.importorskip("jupyterlab")
    tmp_path = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK.strip())])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "wave.ipynb")
    sample = nbformat.read(ROOT / "tests" / "sample_book" / "figures.ipynb", 4)
    asking = [cell for cell in sample.cells if "questions." in cell.source]
    asking[0].source = "import numpy as np\n" + asking[0].source
    nbformat.write(nbformat.v4.new_notebook(cells=asking, metadata=notebook.metadata), tmp_path / "questions.ipynb")
    shutil.copy(ROOT / "book" / "intro.ipynb", tmp_path)
    if (homework := BOOK / "homework" / "optimizers.ipynb").is_file():
        shutil.copy(homework, tmp_path)
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
            for _ in range(1800):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=2):
                    break
                assert process.poll() is None, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def run_cells(browser: Any, address: str, count: int) -> Any:
    """A notebook in JupyterLab after its first `count` cells were run."""
    page = browser.new_context(viewport=WIDE).new_page()
    page.set_default_timeout(600_000)
    page.goto(address)
    page.locator(".jp-Notebook .jp-Cell").first.click()
    page.keyboard.press("Escape")
    page.locator(".jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(state="attached")
    for _ in range(count):
        page.keyboard.press("Shift+Enter")
    return page


def test_in_jupyterlab_the_slider_runs_python_again(jupyterlab, browser):
    page = run_cells(browser, f"{jupyterlab}/lab/tree/wave.ipynb?reset", 1)
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
    page.context.close()


def test_in_jupyterlab_the_books_own_notebook_runs_and_moves(jupyterlab, browser):
    page = run_cells(
        browser, f"{jupyterlab}/lab/tree/intro.ipynb?reset", 3
    )  # words, the cell that installs, the figure
    line = page.locator(".js-plotly-plot .scatterlayer path.js-line").first
    line.wait_for(state="attached")
    before = line.get_attribute("d")
    page.locator(".noUi-handle").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    changed = "d => document.querySelector('.js-plotly-plot .scatterlayer path.js-line').getAttribute('d') !== d"
    page.wait_for_function(changed, arg=before)
    assert page.locator(".jp-OutputArea-output .jp-RenderedText[data-mime-type*=stderr]").count() == 0
    page.context.close()


def test_in_jupyterlab_a_homework_runs_and_its_check_speaks(site, jupyterlab, browser):
    """The student version that lies beside the pages, untouched: set-up, imports, an empty answer and its check."""
    page = run_cells(browser, f"{jupyterlab}/lab/tree/optimizers.ipynb?reset", 6)
    said = page.locator(".jp-OutputArea-output", has_text="returns nothing yet")
    said.first.wait_for()
    assert "momentum_step" in said.first.text_content()
    page.context.close()


def test_in_jupyterlab_questions_are_answered_by_keyboard(jupyterlab, browser):
    """Its own keys (arrows, Enter, letters) are commands of a notebook; inside a question they are the reader's."""
    page = run_cells(browser, f"{jupyterlab}/lab/tree/questions.ipynb?reset", 3)
    page.locator(".tl-question").nth(2).wait_for()
    visit, cells = SimpleNamespace(page=page), page.locator(".jp-Notebook .jp-Cell")
    before = cells.count()
    for k in range(3):
        answer_every_way(visit, page.locator(".tl-question").nth(k))
    assert cells.count() == before, "no key has made or cut a cell"
    page.context.close()


@pytest.fixture(scope="session")
def teachers_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Jupyter Book of somebody else's, without our look, that loads the extension; built with warnings as errors."""
    source = tmp_path_factory.mktemp("teacher") / "book"
    shutil.copytree(ROOT / "tests" / "sample_book", source, ignore=shutil.ignore_patterns("_build"))
    tool = Path(sys.executable).with_name("jupyter-book")
    done = subprocess.run([tool, "build", "-W", "--keep-going", source], capture_output=True, text=True, timeout=1800)
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


def test_a_glued_figure_is_drawn_in_a_dropdown_and_in_a_tab(teachers_book, browser):
    """Closed, then opened as a reader opens it; the moving one moves there."""
    with served(teachers_book) as home, Visit(browser, home + "glued.html") as visit:
        page = visit.page
        assert page.locator(".tl-figure").count() == 3 and page.locator(".tl-question").count() == 1
        closed = page.locator("details .tl-figure")
        page.get_by_text("Open me").click()
        visit.bring(closed)
        closed.locator(".tl-plot svg .trace").first.wait_for()
        moving = page.locator(".tl-figure:has(input[type=range])")
        visit.bring(moving)
        line = moving.locator(".tl-plot svg .trace path.js-line").first
        line.wait_for()
        before = line.get_attribute("d")
        moving.locator("input[type=range]").press("ArrowRight")
        page.wait_for_function("([e, d]) => e.querySelector('.trace path.js-line').getAttribute('d') !== d",
                               arg=[moving.locator(".tl-plot").element_handle(), before])  # fmt: skip
        page.get_by_text("Second", exact=True).click()
        second = page.locator(".sd-tab-content .tl-figure").nth(1)
        visit.bring(second)
        second.locator(".tl-plot svg .trace").first.wait_for()
        assert page.locator(".tl-question").is_visible()
        assert page.locator(".tl-figure.tl-failed").count() == 0 and visit.problems == []


def test_what_begins_to_scroll_later_can_be_reached_by_keyboard(browser, tmp_path):
    """Its own size stays: what is in it grows (a formula that is typeset late), or is wider in a web font that comes late."""
    script = (ROOT / "tiedlib" / "lab" / "page" / "static" / "reach.js").read_text(encoding="utf-8")
    box = '<div class="math" id="{}" style="width:200px;height:40px;overflow:auto"><span {}>short</span></div>'
    boxes = box.format("formula", 'style="display:inline-block"') + box.format("font", "")
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset=utf-8><body>{boxes}<script>{script}</script>", "utf-8"
    )
    with Visit(browser, (tmp_path / "page.html").as_uri()) as visit:
        reached = "name => document.getElementById(name).tabIndex === 0"
        assert not visit.page.evaluate(reached, "formula") and not visit.page.evaluate(reached, "font")
        grow = "name => { document.querySelector(`#${name} > span`).textContent = 'x'.repeat(200); }"
        visit.page.evaluate(grow, "formula")
        visit.page.wait_for_function(reached, arg="formula", polling=50, timeout=60_000)
        visit.page.evaluate(grow, "font")
        visit.page.evaluate("document.fonts.dispatchEvent(new Event('loadingdone'))")
        assert visit.page.evaluate(reached, "font")
        visit.page.evaluate("document.querySelector('#formula > span').textContent = 'short'")
        visit.page.wait_for_function(f"name => !({reached})(name)", arg="formula", polling=50, timeout=60_000)


@pytest.fixture
def legal_page(teachers_book: Path) -> Iterator[str]:
    """One page with every legal figure in it, beside the pages of that book and with its scripts."""
    parts = []
    for k, make in enumerate(FIGURES.values()):
        payload = show(make(), alt="A figure.").payload
        write_states(payload, teachers_book)
        parts.append(f"<section>{figure_html(payload, f'figure-{k}')}</section>")
    style = '<link rel="stylesheet" href="_static/tiedlib/figures.css">'
    script = '<script defer src="_static/tiedlib/figures.js"></script>'
    page = teachers_book / "legal.html"
    body = f"<body><article>{''.join(parts)}</article></body>"
    page.write_text(
        f'<html lang="en" data-content_root="./"><head><meta charset="utf-8">{style}{script}</head>{body}</html>'
    )
    with served(teachers_book) as home:
        yield home + "legal.html"
    page.unlink()


def test_every_legal_figure_is_drawn_and_says_what_python_says(legal_page, browser):
    """plotly takes each as it is unpacked by the page's script, and what stands in the figure is what stands in the table."""
    with Visit(browser, legal_page) as visit:
        assert visit.draw_all() == len(FIGURES)
        failed = visit.page.evaluate(
            "[...document.querySelectorAll('.tl-figure')].map((e) => e.classList.contains('tl-failed'))"
        )
        assert [name for name, bad in zip(FIGURES, failed, strict=True) if bad] == []
        assert visit.problems == []
        drawn = visit.page.evaluate("""() => [...document.querySelectorAll(".tl-plot")].map((plot) => [
            plot._fullData.map(({ type, visible }) => visible && type),
            plot.querySelectorAll(".trace, .slice, image, .points > path, .contour, .hm > *").length])""")
        for (name, make), (types, marks) in zip(FIGURES.items(), drawn, strict=True):
            if name.startswith("kind "):
                assert types == [make().data[0].type] and marks, name
        rows = visit.page.evaluate("""() => Object.fromEntries(["data.0.z.3.3.2", "data.0.customdata.1.1.1"].map((path) => [path,
            [...document.querySelectorAll(".tl-plot")].map((plot) => path.split(".").reduce((at, key) => at?.[key], plot))]))""")
        assert rows["data.0.z.3.3.2"][list(FIGURES).index("kind image")] == 47
        assert rows["data.0.customdata.1.1.1"][list(FIGURES).index("numbers beside each cell")] == 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_questions_in_a_teachers_own_book_need_no_server_and_no_look(teachers_book, browser, axe, theme):
    with Visit(browser, (teachers_book / "figures.html").as_uri(), theme) as visit:
        questions = visit.page.locator(".tl-question")
        assert questions.count() == 3
        for k in range(3):
            answer_every_way(visit, questions.nth(k))
        visit.page.add_style_tag(content=".tl-question .tl-why { display: block !important; }")
        visit.violations(axe, COLOURS)  # brings axe into the page
        found = visit.page.evaluate("axe.run('.tl-question')")["violations"]
        assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found] == []
        assert [u for u in visit.requests if not u.startswith(("file:", "data:", "blob:"))] == []
        assert not [p for p in visit.problems if p.startswith("page error")]  # the theme's fonts want a server


def test_several_right_answers_are_all_to_be_ticked(teachers_book, browser):
    with Visit(browser, (teachers_book / "figures.html").as_uri()) as visit:
        question = visit.page.locator(".tl-question").nth(1)
        done, (zero, one, two) = question.locator(".tl-all"), question.locator("input").all()
        seen = []
        for box in (zero, two, one, one):
            box.press("Space")
            seen.append(done.is_visible())
        assert seen == [False, True, False, True]


SPELLINGS = {  # what is typed, by what is heard: the place among the known numbers, or the kind of message
    0: ["1.25", "1,25", "5/4", " 125e-2 ", "+1.25", "1.26"],
    1: ["1.118"],
    2: ["5/3"],
    "other": ["−1.25", "1,250", "1,250.5", "1.2611"],
    "unread": ["", "five", "1/0", "1/", "1/2/3", "/4"],
}


def test_a_number_may_be_written_in_many_ways(teachers_book, browser):
    with Visit(browser, (teachers_book / "figures.html").as_uri()) as visit:
        question = visit.page.locator(".tl-question").nth(2)
        field, check = question.locator("input"), question.locator("button")
        for text, heard in [(text, heard) for heard, texts in SPELLINGS.items() for text in texts]:
            answer(visit, field, text, "Tab")
            visit.page.keyboard.press("Space")  # the button
            assert check.evaluate("e => e === document.activeElement")
            said = question.locator(f".tl-{heard}" if isinstance(heard, str) else f"[data-low] >> nth={heard}")
            assert said.is_visible() and len(explained(question)) == 1, text


def test_without_scripts_a_choice_still_answers_and_a_number_can_be_opened(teachers_book, browser):
    with Visit(browser, (teachers_book / "figures.html").as_uri(), java_script_enabled=False) as visit:
        questions = visit.page.locator(".tl-question")
        answer_every_way(visit, questions.first)
        number = questions.nth(2)
        assert not number.locator("input").is_visible() and explained(number) == []
        number.locator("summary").press("Enter")
        assert len(explained(number)) == 3


def test_on_paper_all_that_is_said_stands_after_the_answers(teachers_book, browser):
    with Visit(browser, (teachers_book / "figures.html").as_uri()) as visit:
        visit.page.emulate_media(media="print")
        for k, count in enumerate((3, 3, 3)):
            question = visit.page.locator(".tl-question").nth(k)
            whys = [one for one in question.locator(".tl-why").all() if one.is_visible()]
            before = question.locator(".tl-answer > label, legend").all()
            assert len(whys) == count and not question.locator("input").first.is_visible()
            assert min(one.bounding_box()["y"] for one in whys) > max(one.bounding_box()["y"] for one in before)
            letters = [
                one.evaluate("e => getComputedStyle(e, '::before').content") for one in question.locator("label").all()
            ]
            assert letters == (['"A. "', '"B. "', '"C. "'] if k < 2 else ["none"])


def test_questions_are_large_enough_for_a_thumb(teachers_book, browser):
    with Visit(browser, (teachers_book / "figures.html").as_uri(), size=PHONE) as visit:
        for one in visit.page.locator(".tl-question :is(.tl-answer > label, .tl-entry > input, button, summary)").all():
            box = one.bounding_box()
            assert box["height"] >= 44 and box["width"] >= 44, one.evaluate("e => e.outerHTML")[:120]
        assert visit.page.evaluate("""[...document.querySelectorAll('.tl-question')]
            .every((q) => q.scrollWidth <= q.clientWidth && q.getBoundingClientRect().right <= innerWidth)""")


PIXELS = """async (figure, [rows, columns]) => {  // the middle of each cell of the image, from the lowest row
    const image = new Image();
    image.src = figure.querySelector("svg image").getAttribute("href");
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    const at = (k, n, size) => Math.floor(((k + 0.5) / n) * size);
    return Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) =>
        [...pen.getImageData(at(c, columns, image.width), at(rows - 1 - r, rows, image.height), 1, 1).data].slice(0, 3)));
}"""


def test_the_colour_of_a_cell_is_the_colour_of_its_number(teachers_book, browser):
    """Two panels, a colour bar, a logarithmic axis, a line more in some states than in others."""
    with served(teachers_book) as home, Visit(browser, home + "figures.html") as visit:
        visit.draw_all()
        figure = visit.page.locator(".tl-figure", has=visit.page.locator("svg image")).first
        text, seen = packed(figure, teachers_book), []
        for state in range(4):
            figure.evaluate("async (f, s) => { await f.tiedlib.paint(s); }", state)
            expected = states.unpack(text, state)
            agree(drawn(figure, state), expected)
            z = expected["data"][0]["z"]
            rows, columns = z.shape
            pixels = np.array(figure.evaluate(PIXELS, [rows, columns]))
            shades = sample_colorscale(plots.SEQUENTIAL, ((z - z.min()) / np.ptp(z)).ravel(), colortype="tuple")
            np.testing.assert_allclose(pixels, 255 * np.array(shades).reshape(rows, columns, 3), atol=3)
            seen.append((pixels.tolist(), len(expected["data"])))
        assert len({json.dumps(s) for s in seen}) == 4 and {n for _, n in seen} == {2, 3}
