"""Vocabulary, batching, windows, reading text, the sets that need no download, and `load` itself."""

import codecs
import gzip
import math
import pickle
import re
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from tests.places import ROOT
from tiedlib.lab import data
from tiedlib.lab.data import (
    EOS,
    UNK,
    BadByteError,
    Corpus,
    DataError,
    EmptyFileError,
    FormatError,
    MissingFileError,
    Store,
    ToyLanguage,
    UnknownNameError,
    Vocabulary,
    contiguous_batches,
    load,
    load_corpus,
    tokenize,
    windows,
)
from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.text import decode_text, lines, read_gzip, read_member, read_text, stream_words, words_with_eos

WORDS = st.lists(st.sampled_from(["the", "a", "of", "dog", "cat", "runs", "far", "UNK", "é", "漢"]), max_size=60)


# Vocabulary


def test_vocabulary_order_is_by_count_then_alphabet() -> None:
    vocabulary = Vocabulary.from_tokens(["b", "a", "c", "b", "a", "d"])
    assert vocabulary.to_list() == ["a", "b", "c", "d", UNK]
    assert vocabulary.counts == (2, 2, 1, 1, 0)
    assert vocabulary["b"] == 1 and vocabulary[1] == "b" and vocabulary["zebra"] == vocabulary[UNK] == 4


def test_vocabulary_cut_counts_what_it_cuts_as_unk() -> None:
    vocabulary = Vocabulary.from_tokens(["a", "a", "a", "b", "b", "c", "d", "e"], size=3)
    assert vocabulary.to_list() == [UNK, "a", "b"]  # <unk> stands for c, d and e: as often as a, and before it
    assert vocabulary.counts == (3, 3, 2)
    assert Vocabulary.from_tokens(["a", "a", "b"], min_count=2).to_list() == ["a", UNK]


def test_vocabulary_without_unk_names_the_unknown_word() -> None:
    vocabulary = Vocabulary.from_tokens("abc", specials=())
    assert vocabulary.to_list() == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"'x'; it must be in the vocabulary, which has no '<unk>'"):
        vocabulary.encode(["a", "x"])
    with pytest.raises(ValueError, match="'x'"):
        vocabulary["x"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vocabulary(("a",), (1, 2)), "counts has 2 numbers for 1 words"),
        (lambda: Vocabulary.from_list(["a", "b", "a"]), "words holds 'a' twice"),
        (lambda: Vocabulary.from_tokens("ab", size=1, specials=(UNK, EOS)), "size is 1; .* leave room for specials"),
        (lambda: Vocabulary.from_tokens("ab", size=0, specials=()), "size is 0; it must be at least 1"),
        (lambda: Vocabulary.from_tokens("ab", min_count=0), "min_count is 0; it must be at least 1"),
        (lambda: Vocabulary.from_tokens("ab")[3], "number is 3; it must be from 0 to 2"),
        (lambda: Vocabulary.from_tokens("ab")[-1], "number is -1"),
        (lambda: Vocabulary.from_tokens("ab").decode([0, 7]), "number is 7"),
        (lambda: Vocabulary.from_list(["a"]).frequencies(), "counts are all 0"),
    ],
)
def test_vocabulary_bad_input(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_vocabulary_refuses_a_text_that_is_not_split() -> None:
    with pytest.raises(TypeError, match="split the text first"):
        Vocabulary.from_tokens(["a"]).encode("a b")


@given(WORDS, st.integers(1, 12), st.integers(1, 3))
def test_vocabulary_properties(tokens, size, min_count) -> None:
    vocabulary = Vocabulary.from_tokens(tokens, size, min_count)
    seen = Counter(tokens)
    assert len(vocabulary) <= size and UNK in vocabulary
    assert sum(vocabulary.counts) == len(tokens)
    pairs = list(zip(vocabulary.words, vocabulary.counts, strict=True))
    assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    assert all(count == seen[word] >= min_count for word, count in pairs if word != UNK)
    numbers = vocabulary.encode(tokens)
    assert numbers.dtype == torch.int64 and numbers.shape == (len(tokens),)
    assert vocabulary.decode(numbers) == [token if token in vocabulary else UNK for token in tokens]


@given(WORDS)
def test_vocabulary_round_trips(tokens) -> None:
    vocabulary = Vocabulary.from_tokens(tokens)
    for again in (
        pickle.loads(pickle.dumps(vocabulary)),
        Vocabulary.from_list(vocabulary.to_list()),
        Vocabulary.from_list(vocabulary.to_list(), vocabulary.counts),
    ):
        assert again == vocabulary and hash(again) == hash(vocabulary) and list(again) == list(vocabulary)
        assert torch.equal(again.encode(tokens), vocabulary.encode(tokens))


def test_vocabulary_is_immutable_and_gives_frequencies() -> None:
    vocabulary = Vocabulary.from_tokens(["a", "a", "a", "b"], specials=())
    with pytest.raises(AttributeError):
        vocabulary.words = ()  # type: ignore[misc]
    torch.testing.assert_close(vocabulary.frequencies(), torch.tensor([0.75, 0.25]))


# Batches and windows


@given(st.integers(2, 200), st.integers(1, 20))
def test_contiguous_batches(n, batch_size) -> None:
    tokens = torch.arange(n)
    if n // batch_size < 2:
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}; {n} tokens give rows of"):
            contiguous_batches(tokens, batch_size)
        return
    rows = contiguous_batches(tokens, batch_size)
    assert rows.shape == (batch_size, n // batch_size)
    assert rows.flatten().tolist() == list(range(batch_size * (n // batch_size)))
    assert rows.data_ptr() == tokens.data_ptr()


@given(st.integers(1, 5), st.integers(2, 40), st.integers(1, 45))
def test_windows_predict_every_token_but_the_first_once(batch, steps, unroll) -> None:
    rows = torch.arange(batch * steps).view(batch, steps)
    cut = windows(rows, unroll)
    for _ in range(2):  # it can be gone through again
        pairs = list(cut)
        assert torch.equal(torch.cat([targets for _, targets in pairs], 1), rows[:, 1:])
        assert torch.equal(torch.cat([inputs for inputs, _ in pairs], 1), rows[:, :-1])
    assert all(torch.equal(targets, inputs + 1) for inputs, targets in pairs)
    assert all(inputs.shape == (batch, unroll) for inputs, _ in pairs[:-1]) and pairs[-1][0].shape[1] <= unroll
    assert all(inputs.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr() for inputs, _ in pairs)
    assert len(cut) == len(pairs) and cut.tokens == batch * (steps - 1)
    for i in range(-len(cut), len(cut)):
        assert all(torch.equal(a, b) for a, b in zip(cut[i], pairs[i], strict=True))


@given(st.integers(2, 40), st.integers(1, 10), st.slices(12))
def test_windows_slices(steps, unroll, part) -> None:
    cut = windows(torch.arange(steps).view(1, steps), unroll)
    pairs = list(cut)[part]
    some = cut[part]
    assert len(some) == len(pairs) and some.tokens == sum(targets.numel() for _, targets in pairs)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(some, pairs, strict=True))


@given(st.integers(2, 40), st.integers(1, 10))
def test_windows_without_the_last(steps, unroll) -> None:
    cut = windows(torch.arange(steps).view(1, steps), unroll, keep_last=False)
    assert len(cut) == (steps - 1) // unroll  # as in the code of Zaremba et al.
    assert all(inputs.shape == (1, unroll) for inputs, _ in cut)


def test_batches_bad_input() -> None:
    rows = torch.arange(10).view(2, 5)
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        contiguous_batches(torch.arange(10), 0)
    with pytest.raises(ValueError, match="unroll is 0; it must be at least 1"):
        windows(rows, 0)
    with pytest.raises(ValueError, match=r"batched has shape \(2, 1\)"):
        windows(rows[:, :1], 3)
    with pytest.raises(IndexError, match="window 4: there are 4 windows"):
        windows(rows, 1)[4]
    assert "4 windows of 2 rows × up to 1 steps, 8 tokens" in repr(windows(rows, 1))


# Text


def test_words_with_eos_ends_each_line() -> None:
    assert words_with_eos(" a b \n\n c\n") == ["a", "b", EOS, EOS, "c", EOS]
    assert words_with_eos("a") == ["a", EOS]


TEXT = "Grüße\n\nan Zoë\nund 北京\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_every_line_end_in_every_encoding_is_the_same_text(end, encoding) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    assert decode_text(mark + TEXT.replace("\n", end).encode(encoding), "x") == TEXT


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a\r\nb\rc\nd", "a\nb\nc\nd"),  # mixed
        (b"a\r\r\nb\n\rc", "a\n\nb\n\nc"),
        (b"a\r", "a\n"),
        (b"\r\na", "\na"),
        ("a\ufeff b\n\ufeffc\r\ufeffd".encode(), "a\ufeff b\nc\nd"),  # files that were joined; within a line it stays
        ("\ufeff\ufeffa".encode(), "\ufeffa"),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g".encode(), "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g"),  # no line ends
        (b"a", "a"),
        ("é".encode() * 700_000, "é" * 700_000),  # one long line, of letters of two bytes
        ("𝄞\n".encode("utf-16"), "𝄞\n"),
    ],
)
def test_what_ends_a_line_and_what_does_not(raw, text) -> None:
    assert decode_text(raw, "x") == text


@pytest.mark.parametrize(
    ("raw", "encoding", "byte", "offset", "line"),
    [
        ("grüß ".encode() * 10 + b"\xff and so on", "utf-8", 0xFF, 70, 1),
        (b"ab\r\ncd\ref\n" + "naïve".encode("latin-1"), "utf-8", 0xEF, 12, 4),
        (codecs.BOM_UTF8 + b"a\nb\xe9", "utf-8", 0xE9, 6, 2),
        (b"caf\xc3", "utf-8", 0xC3, 3, 1),  # cut within a letter
        (b"a" * 2**20 + b"\r\xf0\x9f\x98", "utf-8", 0xF0, 2**20 + 1, 2),
        (b"\xed\xa0\x80", "utf-8", 0xED, 0, 1),  # half of a surrogate pair
        (b"\xc0\xaf", "utf-8", 0xC0, 0, 1),  # a letter in more bytes than it needs
        ("hello\n".encode("utf-16-le"), "utf-8", 0, 1, 1),
        ("hello\n".encode("utf-16-be"), "utf-8", 0, 0, 1),
        (codecs.BOM_UTF8 + "grüß\rx\0".encode(), "utf-8", 0, 11, 2),
        ("hello".encode("utf-32"), "utf-16", 0, 2, 1),
        (codecs.BOM_UTF16_LE + b"a\0\n\0b", "utf-16", ord("b"), 6, 2),  # cut within a letter
        (codecs.BOM_UTF16_BE + b"\0a\0\r\xd8\x00\0b", "utf-16", 0xD8, 6, 2),  # half of a pair
        (codecs.BOM_UTF16_BE + b"\0a\0\r\0\0", "utf-16", 0, 6, 2),
        (gzip.compress(b"a text\n" * 9, mtime=0), "utf-8", 0x8B, 1, 1),
        (b"PK\x03\x04\x14\x00", "utf-8", 0, 5, 1),  # a zip archive, as a word processor's file is
    ],
)
def test_a_byte_that_does_not_belong_there_is_named_with_its_place(tmp_path, raw, encoding, byte, offset, line) -> None:
    file = tmp_path / "letter.txt"
    file.write_bytes(raw)
    message = f"{file} is not {encoding}: byte 0x{byte:02x} at offset {offset}, in line {line}, does not belong there"
    with pytest.raises(BadByteError, match=re.escape(message)):
        load(file)


def test_the_encoding_of_a_set_is_its_own() -> None:
    assert decode_text("þÿ\r\n".encode("latin-1"), "x", "latin-1") == "þÿ\n", "these two bytes are UTF-16's mark"
    with pytest.raises(BadByteError, match="x is not ascii: byte 0xc3 at offset 2, in line 2,"):
        decode_text("a\ré".encode(), "x", "ascii")


@pytest.mark.parametrize(
    "content", [b"", b" \r\n\n\t", b"\r", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF8 + b"\x0c\r"]
)
def test_empty_file(tmp_path, content) -> None:
    file = tmp_path / "nothing.txt"
    file.write_bytes(content)
    with pytest.raises(EmptyFileError, match=r"nothing\.txt is empty"):
        load(str(file))


def test_broken_archives_are_named(tmp_path) -> None:
    file = tmp_path / "x.gz"
    file.write_bytes(b"no gzip")
    with pytest.raises(FormatError, match=r"x\.gz is not a whole gzip file"):
        read_gzip(file)
    with pytest.raises(FormatError, match=r"y\.zip is not a zip archive with a file 'text8'"):
        read_member(b"no zip", "text8", "y.zip")
    with pytest.raises(DataError, match="cannot read"):
        read_text(tmp_path)


@given(st.text(st.sampled_from("ab \n"), max_size=30))
def test_stream_words_equals_split(text) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiedlib.lab.data.text._PIECE", 3)
        assert list(stream_words(text)) == text.split()


def test_lines_are_cut_at_line_feeds_only() -> None:
    assert lines("a\x85b\u2028c\nd\n") == ["a\x85b\u2028c", "d"]


def test_tokenize() -> None:
    assert tokenize("It's well-kept: 3.14 (<unk>)!") == ["It's", "well-kept", ":", "3.14", "(", UNK, ")", "!"]


# A text of the user's own


@pytest.fixture
def story(tmp_path) -> Path:
    file = tmp_path / "story.txt"
    file.write_text("Once, a dog.\r\n\r\n" * 25, encoding="utf-8")
    return file


def test_own_text_holds_out_its_last_tenth(story) -> None:
    corpus = load(story)
    assert isinstance(corpus, Corpus) and corpus.test is None and corpus.name == "story.txt"
    assert (len(corpus.train), len(corpus.valid)) == (90, 10)
    assert corpus.vocabulary.decode(corpus.valid[-4:]) == ["Once,", "a", "dog.", EOS]
    assert list(corpus.sha256) == ["story.txt"] and len(corpus.sha256["story.txt"]) == 64
    split = load(story, punctuation=True)
    assert split.vocabulary.decode(split.train[:6]) == ["Once", ",", "a", "dog", ".", EOS]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("unit", ["word", "character"])
def test_an_own_text_is_the_same_tokens_however_it_was_saved(tmp_path, encoding, end, unit) -> None:
    """A text with carriage returns alone was one long line, without a single <eos>."""
    text = "Once, a dog.\n\nIt was größer\x0bthan\u2028he.\n" * 25
    file, same = tmp_path / "story.txt", tmp_path / "same.txt"
    file.write_bytes(text.replace("\n", end).encode(encoding))
    same.write_bytes(text.encode())
    corpus, wanted = load(file, unit=unit), load(same, unit=unit)
    assert torch.equal(corpus.train, wanted.train) and torch.equal(corpus.valid, wanted.valid)
    assert corpus.vocabulary == wanted.vocabulary
    if unit == "word":
        found = corpus.vocabulary.decode(torch.cat([corpus.train, corpus.valid]))
        assert found == ["Once,", "a", "dog.", EOS, "It", "was", "größer", "than", "he.", EOS] * 25


def test_own_text_by_characters(story) -> None:
    corpus = load(str(story), unit="character")
    text = story.read_text(encoding="utf-8")
    assert "".join(corpus.vocabulary.decode(torch.cat([corpus.train, corpus.valid]))) == text
    assert UNK not in corpus.vocabulary and corpus.unit == "character"


def test_own_text_with_a_character_only_in_the_held_out_part(tmp_path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a" * 95 + "z" * 5)
    corpus = load(file, unit="character")
    assert corpus.vocabulary.to_list() == ["a", UNK] and corpus.valid.tolist() == [0] * 5 + [1] * 5


def test_vocabulary_is_cut_from_the_training_tokens_that_are_kept(tmp_path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("x y\n" * 5 + "a b c\n" * 40)
    corpus = load(file, tokens=15)
    assert corpus.vocabulary.to_list() == [EOS, "x", "y", UNK] and len(corpus.train) == 15
    assert corpus.vocabulary.decode(corpus.valid[-4:]) == [UNK, UNK, UNK, EOS]
    cut = load(file, vocabulary_size=3)
    assert len(cut.vocabulary) == 3 and {UNK, EOS} <= set(cut.vocabulary)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tokens": 1}, ValueError, "tokens is 1; it must be at least 2"),
        ({"vocabulary_size": 2}, ValueError, "vocabulary_size is 2; it must be at least 3, <unk> and <eos> among them"),
        ({"vocab": 2}, TypeError, "option 'vocab': .* has no such option; it has vocabulary_size, tokens, unit"),
    ],
)
def test_own_text_bad_options(story, options, error, message) -> None:
    with pytest.raises(error, match=message):
        load(story, **options)


@pytest.mark.usefixtures("unchecked")
def test_bad_choices_name_the_choices(story, tmp_path) -> None:
    store = Store(tmp_path / "registry.txt", tmp_path)
    with pytest.raises(ValueError, match="unit is 'letter'; it must be one of 'word', 'character'"):
        load(story, unit="letter")
    with pytest.raises(ValueError, match="form is 'x'; it must be one of 'tok', 'raw'"):
        load("multi30k", store=store, form="x")
    with pytest.raises(ValueError, match="labels is 'x'; it must be one of 'coarse', 'fine'"):
        load("trec", store=store, labels="x")


def test_short_text_is_refused(tmp_path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("only three words")
    with pytest.raises(DataError, match=r"short\.txt holds 4 tokens: at least 20 are needed"):
        load(file)


# Names


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("pbt", "ptb"),
        ("PTB", "ptb"),
        ("wikitext2", "wikitext-2"),
        ("ag-news", "ag_news"),
        ("toylanguage", "toy_language"),
    ],
)
def test_unknown_name_suggests_the_nearest(wrong, near) -> None:
    with pytest.raises(UnknownNameError, match=f"no data set '{wrong}': did you mean '{near}'"):
        load(wrong)
    with pytest.raises(UnknownNameError, match=f"did you mean '{near}'"):
        data.fetch(wrong)


def test_unknown_name_without_a_near_one_lists_all() -> None:
    with pytest.raises(UnknownNameError, match=r"no data set 'zzzzzz': The sets are ptb, wikitext-2, .*toy_language"):
        load("zzzzzz")


@pytest.mark.parametrize("path", ["no/such/text", "missing.txt", Path("ptb")])
def test_missing_path(path) -> None:
    with pytest.raises(MissingFileError, match=f"there is no file '{path}'"):
        load(path)


def test_a_name_too_long_for_a_file() -> None:
    with pytest.raises(UnknownNameError):
        load("x" * 5000)


def test_load_corpus_refuses_what_is_no_text_before_fetching(tmp_path) -> None:
    with pytest.raises(DataError, match="'mnist' is not a text to train a language model on: choose one of ptb"):
        load_corpus("mnist", store=Store(tmp_path / "none", tmp_path))
    assert load_corpus("toy_language", tokens=100).name == "toy_language"


def test_options_of_sets_are_checked() -> None:
    with pytest.raises(TypeError, match="option 'tokens': 'digits' has no such option; it has none"):
        load("digits", tokens=5)


def test_names_lists_every_set(tmp_path) -> None:
    infos = data.names(store=Store(data.Store.from_environment().registry, tmp_path))
    assert [info.name for info in infos] == list(CATALOGUE) and len(infos) == 16
    assert all(info.description and info.terms and (info.megabytes > 0) == ("download" in info.where) for info in infos)
    assert data.fetch("digits") == []


def test_readme_gives_the_terms_of_every_set() -> None:
    readme = ROOT / "data" / "README.md"
    rows = re.findall(r"^\| `([\w-]+)` \| .* \| (.*) \|$", readme.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == {name: entry.terms for name, entry in CATALOGUE.items()}


def test_everything_public_is_documented() -> None:
    for name in data.__all__:
        assert isinstance(getattr(data, name), str) or getattr(data, name).__doc__, name


# Sets that need no download


def test_manual_is_english_without_repeated_paragraphs() -> None:
    corpus = load("manual")
    everything = torch.cat([corpus.train, corpus.valid, corpus.test])
    assert 25_000 < len(everything) < 120_000 and len(corpus.vocabulary) > 1_500
    assert abs(len(corpus.train) / len(everything) - 0.8) < 1e-3
    assert corpus.vocabulary.words[0] == "the" and {UNK, EOS} <= set(corpus.vocabulary)
    paragraphs = " ".join(load("manual", tokens=10_000).vocabulary.decode(everything[:8])).split(EOS)
    assert all("===" not in paragraph for paragraph in paragraphs)
    ends = (everything == corpus.vocabulary[EOS]).nonzero().squeeze(1).tolist()
    pieces = [tuple(everything[a + 1 : b + 1].tolist()) for a, b in zip([-1, *ends], ends, strict=False)]
    long = [piece for piece in pieces if len(piece) > 25]
    assert len(long) > 300 and len(set(long)) == len(long)


def test_digits_equal_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    digits = load("digits")
    assert len(digits.train) == 1437 and len(digits.test) == 360 and digits.classes == tuple("0123456789")
    theirs = load_digits()
    assert torch.cat([digits.train.images, digits.test.images]).tolist() == theirs.images.tolist()
    assert torch.cat([digits.train.labels, digits.test.labels]).tolist() == theirs.target.tolist()
    assert digits.train.scaled().min() == 0 and digits.train.scaled().max() == 1


@pytest.fixture(scope="module")
def toy() -> ToyLanguage:
    return load("toy_language", tokens=40_000, vocabulary_size=300)


def test_toy_language_is_repeatable(toy) -> None:
    again = load("toy_language", tokens=40_000, vocabulary_size=300)
    other = load("toy_language", tokens=40_000, vocabulary_size=300, seed=1)
    assert again.vocabulary == toy.vocabulary and torch.equal(again.train, toy.train)
    assert other.vocabulary != toy.vocabulary
    assert len(toy.vocabulary) == 300 and [len(p) for p in (toy.train, toy.valid, toy.test)] == [40_000, 4_000, 4_000]


def test_toy_language_words_follow_zipf_within_each_class(toy) -> None:
    counts = torch.tensor(toy.vocabulary.counts, dtype=torch.float64)
    for c in range(len(toy.classes)):
        of_class = counts[toy.word_classes == c].sort(descending=True).values
        expected = of_class.sum() / torch.arange(1, len(of_class) + 1) / (1 / torch.arange(1, len(of_class) + 1)).sum()
        top = slice(0, 3)  # sampling noise is small there: 5 standard deviations of a binomial
        assert ((of_class - expected)[top].abs() <= 5 * expected[top].sqrt()).all()


def test_toy_language_depends_on_the_class_of_the_word_before_alone(toy) -> None:
    """Counted transitions between classes agree with what `class_similarity` was made from."""
    classes = toy.word_classes[torch.cat([toy.train, toy.valid, toy.test])]
    k = len(toy.classes)
    seen = torch.bincount(classes[:-1] * k + classes[1:], minlength=k * k).view(k, k).double()
    after, before = seen / seen.sum(1, keepdim=True), (seen / seen.sum(0)).T
    similarity = (after.sqrt() @ after.sqrt().T + before.sqrt() @ before.sqrt().T) / 2
    torch.testing.assert_close(similarity.float(), toy.class_similarity, atol=0.03, rtol=0)


def test_toy_language_entropy_rate_is_what_the_true_model_pays(toy) -> None:
    """The loss of the bigram model of classes with Zipf's words, counted on the text, agrees with the closed form."""
    text = torch.cat([toy.train, toy.valid, toy.test])
    classes = toy.word_classes[text]
    k = len(toy.classes)
    seen = torch.bincount(classes[:-1] * k + classes[1:], minlength=k * k).view(k, k).double()
    log_next = (seen / seen.sum(1, keepdim=True)).log()
    count = torch.bincount(text, minlength=len(toy.vocabulary)).double()
    share = count / torch.zeros(k).double().index_add(0, toy.word_classes, count)[toy.word_classes]
    nll = -(log_next[classes[:-1], classes[1:]] + share[text[1:]].log())
    assert abs(nll.mean() - toy.entropy_rate) < 5 * nll.std() / math.sqrt(len(nll))


def test_toy_language_similarity(toy) -> None:
    by_class = {c: [w for w, k in zip(toy.vocabulary, toy.word_classes, strict=True) if k == c] for c in range(8)}
    assert toy.similarity(by_class[3][0], by_class[3][-1]) == pytest.approx(1)
    for first in by_class.values():
        for second in by_class.values():
            value = toy.similarity(first[0], second[0])
            assert value == pytest.approx(toy.similarity(second[0], first[0]))
            assert (value == pytest.approx(1)) if first is second else 0 <= value < 0.9
    with pytest.raises(ValueError, match="'kitten'"):
        toy.similarity("kitten", by_class[3][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary_size": 39}, "vocabulary_size is 39; it must be from 40 to 5000"),
        ({"vocabulary_size": 5001}, "vocabulary_size is 5001"),
        ({"tokens": 19}, "tokens is 19; it must be at least 20"),
    ],
)
def test_toy_language_bad_input(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        load("toy_language", **options)


@pytest.mark.parametrize("size", [40, 5000])
def test_toy_language_at_its_ends(size) -> None:
    toy = load("toy_language", vocabulary_size=size, tokens=20)
    assert len(toy.vocabulary) == size and len(toy.word_classes) == size
