"""The register is well formed, and a proof that disagrees with it fails."""

import pytest

from tiedlib.lab.notebook import claims
from tiedlib.lab.notebook.claims import ClaimError, claim, waiting
from tiedlib.lab.outputs import CLAIM
from tiedlib.lab.register import Claim, register


@pytest.fixture
def small_register(monkeypatch):
    entries = {
        "sum": Claim("sum", "tying", "Gradients add: $g$.", "reading note", "holds"),
        "later": Claim("later", "tying", "It helps.", "reading note", "undecided", waits="a longer run"),
        "bad": Claim("bad", "other", "1 = 2", "lecture slides", "wrong", correction="1 = 1"),
    }
    monkeypatch.setattr(claims, "register", lambda: entries)
    shown = []
    monkeypatch.setattr(claims, "_display", shown.append)
    return shown


def test_a_proof_shows_its_card(small_register):
    with claim("sum") as c:
        c.verdict("holds", "largest difference\n   1e-12 < bound")
    (card,) = small_register
    bundle = card._repr_mimebundle_()
    assert bundle[CLAIM]["evidence"] == "largest difference 1e-12 < bound"
    assert bundle[CLAIM]["verdict"] == "holds" and "Gradients add" in bundle["text/plain"]
    assert "&lt; bound" in bundle["text/html"]


@pytest.mark.parametrize(
    ("id", "calls", "words"),
    [
        ("sum", [("wrong", "seen")], "proof says 'wrong', book/claims/tying.yml says 'holds'"),
        ("sum", [("true", "seen")], "verdict 'true'"),
        ("sum", [("holds", "  ")], "no evidence"),
        ("sum", [("holds", "a"), ("holds", "b")], "second verdict"),
        ("sum", [], "without a verdict"),
        ("later", [("undecided", "seen")], "waits for"),
    ],
)
def test_a_proof_that_does_not_match_raises_and_shows_nothing(small_register, id, calls, words):
    with pytest.raises(ClaimError, match=words), claim(id) as c:
        for verdict, evidence in calls:
            c.verdict(verdict, evidence)
    assert small_register == []


def test_a_skipped_proof_says_so(small_register):
    with claim("sum") as c:
        c.skip("no ptb here")
    assert small_register[0].evidence == "not checked in this build: no ptb here"
    with pytest.raises(ClaimError, match="with a reason"), claim("sum") as c:
        c.skip(" ")


def test_a_failed_assertion_inside_stays_itself(small_register):
    with pytest.raises(ZeroDivisionError), claim("sum"):
        1 / 0  # noqa: B018
    assert small_register == []


def test_unknown_ids_get_the_nearest_one(small_register):
    with pytest.raises(ValueError, match="did you mean 'later'"):
        claim("latter")


def test_waiting_shows_the_chapters_waiting_claims(small_register):
    waiting("tying")
    assert [card.claim.id for card in small_register] == ["later"]


def test_a_broken_entry_is_named(tmp_path, monkeypatch):
    def read(text):
        (tmp_path / "tying.yml").write_text(text)
        monkeypatch.setattr("tiedlib.lab.register.resource", lambda _: tmp_path)
        register.cache_clear()
        try:
            return register()
        finally:
            register.cache_clear()

    entry = "- {id: a, statement: s, source: note, verdict: %s}\n"
    assert read(entry % "holds")["a"].correction == ""
    with pytest.raises(ValueError, match="verdict 'true'"):
        read(entry % "'true'")
    with pytest.raises(ValueError, match="in the register twice"):
        read(entry % "holds" * 2)
    with pytest.raises(ValueError, match="'wrong' needs a correction"):
        read(entry % "wrong")
    with pytest.raises(ValueError, match=r"unknown fields \['colour'\]"):
        read("- {id: a, statement: s, source: n, verdict: holds, colour: red}\n")


def test_a_file_of_no_chapter_is_named(tmp_path, monkeypatch):
    (tmp_path / "cookery.yml").write_text("[]\n")
    monkeypatch.setattr("tiedlib.lab.register.resource", lambda _: tmp_path)
    register.cache_clear()
    with pytest.raises(ValueError, match=r"cookery.yml .*tiedlib/order.txt has no chapter of this name"):
        register()
    register.cache_clear()


def test_the_books_register_is_well_formed():
    entries = register()
    assert sum(c.chapter == "tying" for c in entries.values()) == 59
    for c in entries.values():
        assert c.statement and c.source and c.chapter
