"""What myst-nb calls for the bench's own mime types and for plotly's figures, through the entry point group
`myst_nb.mime_renderers`. In a book that does not load `tiedlib.lab.page` it leaves every output alone."""

import json
from typing import Any, ClassVar

from docutils import nodes
from sphinx.util import logging

from tiedlib.lab.figures import kinds, states
from tiedlib.lab.outputs import AGREE, CLAIM, FIGURE, PLOTLY
from tiedlib.lab.page import cards
from tiedlib.lab.page.figures import FigureNode

log = logging.getLogger(__name__)
BUILDERS = ("html", "dirhtml", "singlehtml", "latex", "epub")


def _data(content: Any) -> Any:
    return json.loads(content) if isinstance(content, (str, bytes)) else content


def _plain_figure(content: dict[str, Any]) -> dict[str, Any]:
    """The payload of a figure that was simply the last line of a cell."""
    figure = states.spec(content)
    title = figure["layout"].get("title", {})
    text = title.get("text") if isinstance(title, dict) else title
    alt = f"Figure: {text}." if text else "Figure."
    return {
        "alt": f"{alt} Its data stand in the table below it.",
        "caption": None,
        "packed": states.pack([figure]),
        "parameters": [],
        "play": None,
    }


def _caption(renderer: Any, text: str, line: int | None) -> list[nodes.Node]:
    """A caption's Markdown as the children of one paragraph."""
    holder = nodes.Element()
    with renderer.current_node_context(holder):
        renderer.nested_render_text(text, line or 0)
    return list(holder.children[0].children) if holder.children else []


class TiedlibRenderer:
    """myst-nb's protocol for a renderer of mime types."""

    mime_priority_overrides: ClassVar[list[tuple[str, str, int | None]]] = [
        (builder, mime, priority)
        for builder in BUILDERS
        for mime, priority in ((FIGURE, 1), (CLAIM, 2), (AGREE, 3), (PLOTLY, 35))
    ]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Node] | None:
        """The nodes of one output, or None for what is not ours."""
        env = getattr(renderer.renderer, "sphinx_env", None)
        if inline or env is None or not hasattr(env.config, "tiedlib_address"):
            return None
        if data.mime_type == CLAIM:
            claim = _data(data.content)
            recorded = getattr(env, "tiedlib_claims", None)
            if recorded is not None:
                recorded.setdefault(env.docname, {})[claim["id"]] = claim
            return [cards.card(claim)]
        if data.mime_type == AGREE:
            return [cards.agreement(_data(data.content))]
        if data.mime_type == PLOTLY and (why := kinds.refusal(_data(data.content))):
            place = f"{env.docname}, cell {data.cell_index}" if data.cell_index is not None else env.docname
            log.warning("%s: the figure %s", place, why, type="tiedlib", subtype="figure")
            return [nodes.warning("", nodes.paragraph(text=f"This figure {why}"))]
        if data.mime_type == PLOTLY:
            return [FigureNode(payload=_plain_figure(_data(data.content)), autoplay=False)]
        if data.mime_type == FIGURE:
            return [_figure(renderer.renderer, _data(data.content), data)]
        return None


def _figure(renderer: Any, payload: dict[str, Any], data: Any) -> nodes.Element:
    """The figure, in a docutils figure with its caption where it has one; a cell's tag `fig-…` becomes its label."""
    tags = data.cell_metadata.get("tags", [])
    node = FigureNode(payload=payload, autoplay="autoplay" in tags)
    if not payload["caption"]:
        return node
    caption = nodes.caption(payload["caption"], "", *_caption(renderer, payload["caption"], data.line))
    figure = nodes.figure("", node, caption, classes=["tl-captioned"])
    label = next((tag for tag in tags if tag.startswith("fig-")), f"fig-{data.cell_index}-{data.output_index}")
    if data.cell_index is None:  # glued: it may stand in many places
        renderer.document.set_id(figure)
        return figure
    figure["names"].append(nodes.fully_normalize_name(label))
    renderer.document.note_explicit_target(figure, figure)
    return figure
