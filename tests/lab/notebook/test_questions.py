"""Questions: what is right comes from a computation, every answer is explained, and what is shown needs nothing else."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.ideas.calls import Call
from tiedlib.lab.notebook import questions
from tiedlib.lab.notebook.questions import Answer, Question, QuestionError, choice, number, right, wrong
from tiedlib.lab.outputs import BUILD_VARIABLE
from tiedlib.lab.page import cards, formulas

GOOD = right("Both.", True, "They add.")
BAD = wrong("Neither $a<b$.", False, "That forgets `x & y`.")
TEXTS = st.text(min_size=1, max_size=30).filter(lambda t: t.strip() and not set(t) & set("$`"))
NUMBERS = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-3)


class Elements(HTMLParser):
    """Every element with its attributes and the text directly below it; raises where the nesting is broken."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        if tag != "input":
            self.open.append((tag, self.found[-1]))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.open[-1][1][2].append(data)

    def all(self, tag):
        return [(attrs, "".join(text)) for name, attrs, text in self.found if name == tag]


@pytest.fixture
def page(monkeypatch):
    """What a question looks like in a built page, where the style sheet is the page's."""
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    return lambda question: Elements(question._repr_html_())


def how_large(**options):
    given = {
        "value": 0.25,
        "why": "a half of a half",
        "wrong": [(0.5, "only once"), (0.75, "the rest")],
        "absolute": 0.01,
    }
    return number("How large?", **{**given, **options})


# The author's word and the computation's


@pytest.mark.parametrize("truth", [True, np.bool_(True), torch.tensor(True)])
def test_any_librarys_truth_will_do(truth):
    assert right("a", truth, "b") == Answer("a", True, "b") and wrong("a", ~torch.tensor(True), "b").true is False


@pytest.mark.parametrize(("make", "truth"), [(right, False), (wrong, True)])
def test_an_answer_that_the_computation_contradicts_is_refused(make, truth):
    with pytest.raises(QuestionError, match=r"'It grows.' is called (right|wrong); the computation says"):
        make("It grows.", truth, "why")
    assert issubclass(QuestionError, AssertionError), "a build fails as it does for any other assertion"


@pytest.mark.parametrize("truth", [1, 0.0, None, "yes", np.float64(1), torch.tensor(1)])
def test_a_truth_is_true_or_false(truth):
    with pytest.raises(TypeError, match=r"truth is .*must be True or False"):
        right("a", truth, "b")


# Bad input


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("make", [right, wrong])
@pytest.mark.parametrize(("text", "why", "name"), [("", "b", "text"), ("a", " \n", "why")])
def test_an_empty_text_is_refused(make, text, why, name):
    with pytest.raises(ValueError, match=f"{name} is .*must not be empty"):
        make(text, make is right, why)
    with pytest.raises(TypeError, match=f"{name} is 3; it must be text"):
        make(*({"text": (3, True, "b"), "why": ("a", True, 3)}[name]))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ((), ValueError, "answers holds 0; it must be 2 to 5"),
        ((GOOD,), ValueError, "answers holds 1"),
        ((GOOD, *(wrong(str(k), False, "no") for k in range(5))), ValueError, "answers holds 6"),
        ((BAD, wrong("c", False, "no")), ValueError, "must be right, and one wrong"),
        ((GOOD, right("c", True, "yes")), ValueError, "must be right, and one wrong"),
        ((GOOD, BAD, wrong(" Both. ", False, "no")), ValueError, "no two of them may be alike"),
        ((GOOD, "Neither."), TypeError, "answers holds 'Neither.'"),
    ],
)
def test_bad_answers_are_refused(answers, error, words):
    with pytest.raises(error, match=words):
        choice("Which?", *answers)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "make", [lambda text: choice(text, GOOD, BAD), lambda text: number(text, 1.0, "w", [], absolute=0)]
)
def test_a_question_has_words(make):
    with pytest.raises(ValueError, match="question is ' '"):
        make(" ")
    with pytest.raises(TypeError, match="question is None"):
        make(None)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"value": math.nan}, ValueError, "value is nan; it must be finite"),
        ({"value": math.inf}, ValueError, "value is inf"),
        ({"value": "0.25"}, TypeError, "value is '0.25'; it must be a number"),
        ({"value": True}, TypeError, "value is True"),
        ({"value": torch.tensor(math.nan)}, ValueError, "value is nan"),
        ({"wrong": [(math.inf, "why")]}, ValueError, "wrong is inf"),
        ({"wrong": [(0.5, "")]}, ValueError, "wrong is ''; it must not be empty"),
        (
            {"wrong": [(0.2501, "rounded")]},
            ValueError,
            r"wrong holds 0.2501; with the absolute tolerance 0.01 .* from 0.25",
        ),
        ({"wrong": [(0.5, "a"), (0.505, "b")]}, ValueError, "wrong holds 0.505"),
        ({"wrong": [(0.26, "on the edge")]}, ValueError, "wrong holds 0.26"),
        ({"why": " "}, ValueError, "why is ' '"),
        ({"unit": 3}, TypeError, "unit is 3"),
        ({"absolute": None}, ValueError, "absolute is None, relative is None; one of the two"),
        ({"relative": 0.1}, ValueError, "absolute is 0.01, relative is 0.1; one of the two"),
        ({"absolute": -0.1}, ValueError, "absolute is -0.1"),
        ({"absolute": math.nan}, ValueError, "absolute is nan"),
        ({"absolute": "wide"}, TypeError, "absolute is 'wide'"),
        ({"absolute": None, "relative": 0.0}, ValueError, "relative is 0.0; it must be positive"),
        (
            {"absolute": None, "relative": 0.1, "value": 0.0},
            ValueError,
            "for the value 0 the tolerance must be absolute",
        ),
    ],
)
def test_bad_numbers_are_refused(bad, error, words):
    with pytest.raises(error, match=words):
        how_large(**bad)


# What is shown


def test_a_choice_is_a_labelled_group_of_buttons(page):
    shown = page(choice("Which $x^2$?", GOOD, BAD))
    ((group, _),) = shown.all("fieldset")
    buttons, labels = [a for a, _ in shown.all("input")], [a for a, _ in shown.all("label")]
    assert group["id"] == choice("Which $x^2$?", GOOD, BAD).id and len(shown.all("legend")) == 1
    assert [b["type"] for b in buttons] == ["radio"] * 2 and {b["name"] for b in buttons} == {group["id"]}
    assert [b["id"] for b in buttons] == [label["for"] for label in labels] and len({b["id"] for b in buttons}) == 2
    assert "onchange" not in group and shown.all("script") == [] and shown.all("style") == []


def test_every_answer_has_its_explanation_in_a_live_region_after_its_button(page):
    shown = page(choice("Which?", BAD, GOOD))
    order = [(tag, attrs.get("class")) for tag, attrs, _ in shown.found if tag in ("input", "label", "p")]
    assert order == [
        ("input", None),
        ("label", None),
        ("p", "tl-why tl-no"),
        ("input", None),
        ("label", None),
        ("p", "tl-why tl-yes"),
    ]
    assert [a for a, _ in shown.all("div") if "class" not in a] == [{"aria-live": "polite"}] * 2
    words = [text for _, text in shown.all("p")]
    assert (
        "That forgets" in words[0] and "They add." in words[1] and [t for _, t in shown.all("b")] == ["No.", "Right."]
    )


def test_several_right_answers_make_boxes_to_tick(page):
    shown = page(choice("Which?", GOOD, BAD, right("Also.", True, "Too.")))
    assert [a["type"] for a, _ in shown.all("input")] == ["checkbox"] * 3
    assert "More than one answer is right." in [text for _, text in shown.all("p")]


def test_jupyterlab_leaves_the_keys_to_the_reader(page):
    for question in (choice("Which?", GOOD, BAD), how_large()):
        pressed = [a for tag, a, _ in page(question).found if tag in ("input", "button", "summary")]
        assert pressed and all(a["data-lm-suppress-shortcuts"] == "true" for a in pressed)


def test_text_is_escaped_and_its_math_and_code_are_marked():
    html = choice("Is <b> $a<b$ & `c<d`?", GOOD, BAD)._repr_html_()
    assert "Is &lt;b&gt; " in html and '<code class="literal notranslate">c&lt;d</code>' in html
    assert formulas.find(html) == [("a<b", False), ("a<b", False)], "in the form that the build typesets"


def test_a_notebook_gets_the_style_and_a_page_has_it(monkeypatch):
    question = choice("Which?", GOOD, BAD)
    monkeypatch.delenv(BUILD_VARIABLE, raising=False)
    assert question._repr_html_().startswith("<style>") and ".tl-question" in question._repr_html_()
    monkeypatch.setenv(BUILD_VARIABLE, "1")
    assert question._repr_html_().startswith("<fieldset")


def test_nothing_comes_from_elsewhere():
    for html in (choice("Which?", GOOD, BAD)._repr_html_(), how_large()._repr_html_()):
        assert not re.search(r"src=|href=|url\(|@import|fetch\(|https?:", html)


def test_a_number_has_a_labelled_field_and_a_range_for_each_message(page):
    shown = page(how_large(unit="nats"))
    ((field, _),) = shown.all("input")
    ((label, text),) = shown.all("label")
    assert field["id"] == label["for"] and text == "Your answer, in nats" and field["inputmode"] == "decimal"
    said = [(float(a["data-low"]), float(a["data-high"]), text) for a, text in shown.all("p") if "data-low" in a]
    assert [(low, high) for low, high, _ in said] == [(0.24, 0.26), (0.49, 0.51), (0.74, 0.76)]
    assert [text.strip() for *_, text in said] == [
        "0.25 nats: a half of a half",
        "0.5 nats: only once",
        "0.75 nats: the rest",
    ]
    assert "min" not in field and "max" not in field, "a screen reader would say them"
    assert [text for _, text in shown.all("summary")] == ["Show the answer"]


def test_the_plain_text_holds_everything():
    text = repr(how_large(unit="nats"))
    first, *said = text.splitlines()
    assert first == "How large?" and said[0] == "  right: 0.25 nats: a half of a half"
    assert said[1:] == ["  wrong: 0.5 nats: only once", "  wrong: 0.75 nats: the rest"]
    assert "wrong: Neither" in repr(choice("Which?", GOOD, BAD))


WRITTEN = {
    "0.6321": (0.63212, 0.005),
    "1,000": (1000.0, 0.005),
    "2,000,000": (2e6, 0.5),
    "−0.5": (-0.5, 0.01),
    "100": (100.0, 0.0),
    "0.1": (0.1, 0.0),
    "0.009999": (9.9995e-3, 4e-5),
    "1e−09": (1e-9, 1e-11),
    "650,000": (650_000.0, 6_500.0),
    "0": (0.0, 0.1),
    "5": (5.0, 30.0),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_numbers_are_written_as_one_would(text):
    assert questions._written(*WRITTEN[text]) == text


def test_the_marks_of_text_are_those_of_the_cards():
    """The same $math$ and `code` as in a claim; stars are left as they are."""
    text = "a $x^2$ b `c` d"
    assert [type(n).__name__ for n in cards.inline(text)] == ["Text", "math", "Text", "literal", "Text"]
    assert questions._marked(text).count("<span") == questions._marked(text).count("<code") == 1


# For any text and any number


@given(TEXTS, st.lists(TEXTS, min_size=2, max_size=5, unique_by=str.strip), st.data())
def test_any_choice_is_whole(question, texts, data):
    truths = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    assume(len(set(truths)) == 2)
    answers = [(right if t else wrong)(text, t, f"because {text}") for text, t in zip(texts, truths, strict=True)]
    made = choice(question, *answers)
    shown = Elements(made._repr_html_().partition("</style>")[2] or made._repr_html_())
    ids = [attrs["id"] for _, attrs, _ in shown.found if "id" in attrs]
    assert len(ids) == len(set(ids)) == len(texts) + 1
    kinds = [a["class"].split()[1] for a, _ in shown.all("p") if a["class"].startswith("tl-why")]
    assert kinds == ["tl-yes" if t else "tl-no" for t in truths]
    assert made.id == choice(question, *answers).id and isinstance(made, Question)


@given(NUMBERS, st.lists(NUMBERS, max_size=3), st.floats(1e-4, 0.5), st.booleans())
def test_any_number_is_told_from_its_wrong_values_or_refused(value, others, size, relative):
    assume(not relative or 0 not in (value, *others))
    tolerance = {"relative" if relative else "absolute": size}
    values = [value, *others]
    widths = [size * abs(v) if relative else size for v in values]
    if any(values[j] - widths[j] <= v <= values[j] + widths[j] for i, v in enumerate(values) for j in range(i)):
        with pytest.raises(ValueError, match="wrong holds"):
            number("How large?", value, "why", [(v, "no") for v in others], **tolerance)
        return
    html = number("How large?", value, "why", [(v, "no") for v in others], **tolerance)._repr_html_()
    ranges = [(float(a), float(b)) for a, b in re.findall(r'data-low="([^"]+)" data-high="([^"]+)"', html)]

    def heard(x):  # as the script looks: the first range that holds the number
        return next(k for k, (low, high) in enumerate(ranges) if low <= x <= high)

    assert [heard(v) for v in values] == list(range(len(values)))


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "right": Call(lambda: {"text": "Yes.", "truth": True, "why": "So it is."}),
    "wrong": Call(lambda: {"text": "No.", "truth": False, "why": "It is not."}),
    "choice": Call(
        lambda: {
            "question": "Is it?",
            "*": (questions.right("Yes.", True, "So it is."), questions.wrong("No.", False, "It is.")),
        }
    ),
    "number": Call(
        lambda: {
            "question": "How large?",
            "value": 0.5,
            "why": "A half.",
            "wrong": [(2.0, "The inverse.")],
            "absolute": 0.1,
        },
        absolute=(-0.1, 1.6),
    ),
}
