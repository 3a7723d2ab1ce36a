"""The look of the book (`tiedlib_look = True`): own style sheet, icons without an icon font, no script that a page
does not use."""

from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from docutils import nodes

UNUSED = ("thebe", "embed-amd", "require.min.js", "comments.js")
SERVICES = {
    "colab_url": "https://colab.research.google.com",
    "binderhub_url": "https://mybinder.org",
    "notebook_interface": "jupyterlab",
}


def _package_file(*names: str) -> Path:
    return Path(str(resources.files("tiedlib.lab.page"))).joinpath(*names)


def configure(app: Any, config: Any) -> None:
    """Before the build: our template for icons and scripts; links to the repository only where it has an address."""
    if not config.tiedlib_look:
        return
    config.templates_path.insert(0, str(_package_file("templates")))
    options = dict(config.html_theme_options)
    address = config.tiedlib_address.rstrip("/")
    if address:
        options |= {
            "repository_url": address,
            "repository_branch": "main",
            "path_to_docs": "",
            "use_repository_button": True,
        }
        options |= {"launch_buttons": SERVICES, "use_source_button": True}
    else:
        for name in ("repository_url", "launch_buttons", "use_repository_button", "use_issues_button"):
            options.pop(name, None)
    config.html_theme_options = options


def write(app: Any, folder: Path) -> None:
    """The style sheet of the look, the picture of the tab, and the script that every page runs."""
    if app.config.tiedlib_look:
        for name in ("look.css", "favicon.svg", "reach.js"):
            text = _package_file("static", name).read_text(encoding="utf-8")
            (folder / name).write_text(text, encoding="utf-8")
        app.add_css_file("tiedlib/look.css", priority=900)


def _name(asset: Any) -> str:
    return str(getattr(asset, "filename", None) or "")


def _needed(script: Any, body: str) -> bool:
    """Whether something on the page uses this script."""
    name = _name(script)
    text = str(getattr(script, "attributes", {}).get("body", "")).lower()
    if any(part in name + text for part in UNUSED):
        return False
    if "mathjax" in name + text:
        return False  # formulas are typeset already: see formulas.py
    if "toggle" in name + text:
        return "toggle" in body or "dropdown" in body
    return "design" not in name or 'class="sd-' in body


def _deferred(script: Any) -> Any:
    """The same script, run after the text has been shown (the theme writes to the options' while the page is
    parsed)."""
    if (
        not _name(script)
        or _name(script).endswith("documentation_options.js")
        or "defer" in script.attributes
        or "async" in script.attributes
    ):
        return script
    return type(script)(script.filename, priority=script.priority, **script.attributes, defer="defer")


def _description(doctree: Any) -> str:
    """The page's first paragraph, for search engines and for people who share a link."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        text = " ".join(paragraph.astext().split())
        if len(text) > 40:
            return f'<meta name="description" content="{escape(text[:157] + "…" if len(text) > 158 else text)}" />\n'
    return ""


def _spoken(body: str) -> str:
    """The page as a screen reader should hear it: two habits of the tools are corrected."""
    body = body.replace(' aria-label="Toggle hidden content"', "")  # hides the words "Show code" that readers see
    return body.replace('role="doc-biblioentry"', 'role="listitem"')  # deprecated, and not what a list may hold


def page(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """One page: each script once; with our look, a description, and no script that nothing on the page uses."""
    if "script_files" not in context:
        return
    scripts = {(_name(s), str(getattr(s, "attributes", {}).get("body", ""))): s for s in context["script_files"]}
    context["script_files"] = list(scripts.values())
    if not app.config.tiedlib_look:
        return
    body = context["body"] = _spoken(context.get("body", ""))
    kept = [script for script in scripts.values() if _needed(script, body)]
    # the search page runs its own script while it is parsed, and that one needs the others before it
    context["script_files"] = kept if pagename == "search" else [_deferred(script) for script in kept]
    context["css_files"] = [s for s in context.get("css_files", []) if _needed(s, body)]
    context["metatags"] = context.get("metatags", "") + _description(doctree)
    context["favicon_url"] = context["pathto"]("_static/tiedlib/favicon.svg", resource=True)
