"""Source in place, and a fallback that nobody can miss."""

import pytest

from tiedlib.lab.notebook import chapter
from tiedlib.tying import TiedSoftmax


@pytest.fixture
def shown(monkeypatch):
    things = []
    monkeypatch.setattr(chapter, "_show", things.append)
    return things


def test_source_shows_the_librarys_own_lines(shown):
    chapter.source(TiedSoftmax, TiedSoftmax.forward)
    whole, method = (thing.data for thing in shown)
    assert "self.read(embedding)" in whole and whole.count("```") == 2
    assert "\ndef forward(self" in method, "methods are shown without their indent"


def test_what_can_be_had_is_the_real_thing_without_a_banner(shown, tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("one two three four five six seven eight nine ten\n" * 20)
    corpus, real = chapter.corpus_or(str(path), "manual")
    assert real and len(corpus.train) > 100 and shown == []


def test_fallback_stands_under_a_banner_with_the_reason(shown, tmp_path, monkeypatch):
    monkeypatch.setenv("TIEDLIB_DATA", str(tmp_path))  # a folder without the set
    corpus, real = chapter.corpus_or("ptb", "manual", tokens=1000)
    assert not real and corpus.name == "manual"
    (banner,) = shown
    assert "ptb could not be had" in banner.data and "“manual”" in banner.data and "warning" in banner.data


def test_other_errors_are_not_swallowed():
    with pytest.raises((ValueError, TypeError)):
        chapter.corpus_or("manual", "manual", tokens=-1)
