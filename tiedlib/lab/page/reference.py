"""The library reference: the directive `library` prints every public name with its signature and docstring.

Names enter Sphinx's Python domain, so that {py:obj}`tiedlib.tying.TiedSoftmax` in a chapter links here.
"""

import importlib
import inspect
import pkgutil
import re
import textwrap
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

log = logging.getLogger(__name__)
LAB = "tiedlib.lab"
# The Sphinx side, the start, and how figures are packed and drawn: no reader calls them.
SKIPPED = {LAB, f"{LAB}.page", "tiedlib.__main__", "tiedlib.homework", f"{LAB}.commands", f"{LAB}.outputs"} | {
    f"{LAB}.figures.{name}" for name in ("kinds", "printed", "specs", "states", "still", "themes")
}
WHOLE = {f"{LAB}.data"}  # a room whose names are those of its package
_CODE = re.compile(r"`([^`]+)`")


def modules(package: str = "tiedlib") -> list[ModuleType]:
    """The library's public modules: the ideas first, then the bench, room by room."""
    return [*_in(package), *_in(f"{package}.lab")]


def _in(package: str) -> list[ModuleType]:
    """The public modules of a package, and those of the packages in it."""
    found: list[ModuleType] = []
    paths = importlib.import_module(package).__path__
    for info in sorted(pkgutil.iter_modules(paths, f"{package}."), key=lambda i: i.name):
        if info.name in SKIPPED or info.name.rsplit(".", 1)[1].startswith("_"):
            continue
        rooms = info.ispkg and info.name not in WHOLE
        found += _in(info.name) if rooms else [importlib.import_module(info.name)]
    return found


def public(module: ModuleType) -> dict[str, Any]:
    """The public classes and functions that a module defines (those it only hands on stand at their own module)."""
    names = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
    objects = {name: getattr(module, name) for name in names}
    return {
        name: thing
        for name, thing in objects.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith(module.__name__)
    }


def signature(name: str, thing: Any) -> str:
    """`name(arguments) -> result` as one would write it, without module names and defaults' addresses."""
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        text = ""  # an exception, say
    text = re.sub(r"""(: |-> )(["'])(.*?)\2(?=[,)=]| =|$)""", r"\1\3", text)  # annotations that are strings
    text = re.sub(r"<(?:function|class|object) ?'?([\w.]+)[^>]*>", r"\1", text)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z_a-z])", "", text).replace("~", "")
    text = text.removesuffix(" -> None") if inspect.isclass(thing) else text
    return f"{'class ' if inspect.isclass(thing) else ''}{name}{text}"


def blocks(doc: str) -> list[nodes.Node]:
    """A docstring as paragraphs and, where lines are indented, literal blocks; `code` is code."""
    found: list[nodes.Node] = []
    for part in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        lines = part.splitlines()
        if any(line.startswith("    ") for line in lines):
            text = textwrap.dedent(part)
            found.append(nodes.literal_block(text, text, language="text"))
            continue
        text = " ".join(line.strip() for line in lines)
        pieces = _CODE.split(text)
        content = [nodes.literal(p, p) if i % 2 else nodes.Text(p) for i, p in enumerate(pieces) if p]
        found.append(nodes.paragraph("", "", *content, support_smartquotes=False))
    return found


class Library(SphinxDirective):
    """All public names of tiedlib, one section a module."""

    def run(self) -> list[nodes.Node]:
        for module in modules():
            self.env.note_dependency(str(module.__file__))
        return [self._section(module) for module in modules()]

    def _section(self, module: ModuleType) -> nodes.section:
        name = module.__name__
        section = nodes.section(
            "", nodes.title("", "", nodes.literal(name, name)), ids=[f"module-{name}"], names=[name]
        )
        section += blocks(module.__doc__ or "")
        self._note(name, "module", f"module-{name}")
        for short, thing in public(module).items():
            section += self._entry(f"{name}.{short}", short, thing)
        return section

    def _entry(self, full: str, short: str, thing: Any) -> nodes.container:
        text = signature(short, thing)
        code = nodes.literal_block(text, text, language="python", classes=["tl-signature"])
        entry = nodes.container("", code, *blocks(inspect.getdoc(thing) or ""), classes=["tl-name"], ids=[full])
        self._note(full, "class" if inspect.isclass(thing) else "function", full)
        if inspect.isclass(thing):
            for name, method in vars(thing).items():
                if inspect.isfunction(method) and not name.startswith("_") and method.__doc__:
                    inner = signature(name, method)
                    entry += nodes.container(
                        "",
                        nodes.literal_block(inner, inner, language="python", classes=["tl-signature"]),
                        *blocks(method.__doc__),
                        classes=["tl-method"],
                    )
        return entry

    def _note(self, full: str, kind: str, target: str) -> None:
        domain: Any = self.env.get_domain("py")
        domain.note_object(full, kind, target, location=self.get_location())
