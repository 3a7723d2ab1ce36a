"""No word of a hidden check leaves a grader, however an error has written it out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlib.homework.grading.hidden import without, words

FUNCTIONS = """
@test_case(points=1, hidden=True)
def test_it(env):
    check(env["f"], "a sentence of the teacher's", also=["another long text"])
    check(env["g"], "short")
"""
DOCTEST = {"suites": [{"cases": [{"code": ">>> check(f, 'the secret of the course')\n", "hidden": True}]}]}


def test_the_words_of_both_kinds_of_test():
    assert words(FUNCTIONS) == ["a sentence of the teacher's", "another long text"]
    assert words(f"OK_FORMAT = True\ntest = {DOCTEST!r}\n") == ["the secret of the course"]
    shown = {"suites": [{"cases": [{"code": ">>> assert mean(2) == 2, 'the mean of a number is it'\n"}]}]}
    assert words(f"test = {shown!r}\n") == [], "what a check says is said"
    assert words("def broken(", "a secret") == ["a secret"] and words("x = 1") == []


SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\"'\\"), min_size=12, max_size=30).filter(
    str.isprintable
)


@given(secret=SECRETS, before=st.text(max_size=9), after=st.text(max_size=9))
@pytest.mark.parametrize("written", [str, repr, json.dumps, lambda s: s.encode().hex(), lambda s: f"KeyError: {s!r}"])
def test_a_secret_is_taken_out_of_every_form(written, secret, before, after):
    left = without({"messages": [before + written(secret) + after]}, [secret])
    assert written(secret) not in json.dumps(left, ensure_ascii=False) and secret not in str(left)
