"""The real data: every count that is known of it. Reads the folder TIEDLIB_DATA; without it nothing is tested here.

And the formats: small files of our own with a fault in them, which need no data.
"""

import gzip
import hashlib
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiedlib.lab.data import EOS, UNK, FormatError, Store, Vocabulary, fetch, load, names
from tiedlib.lab.data.text import lines, read_text, words_with_eos

needs_data = pytest.mark.skipif(not os.environ.get("TIEDLIB_DATA"), reason="TIEDLIB_DATA names no folder with the data")


@pytest.fixture(scope="module")
def real() -> Store:
    return Store.from_environment()


def read(store: Store, file: str) -> str:
    return read_text(store.path(file))


@needs_data
def test_every_file_of_the_folder_has_the_registered_hash(real) -> None:
    here = [file for info in names(store=real) if info.megabytes for file in real.files(info.name)]
    for file in here:
        assert hashlib.sha256((real.root / file).read_bytes()).hexdigest() == real.sha256(file), file
    assert len(here) >= 42
    assert len(fetch("wordsim", store=real)) == 6


# Texts


@needs_data
@pytest.mark.parametrize(
    ("name", "pattern", "counts", "line_counts", "types", "unknown"),
    [
        ("ptb", "ptb/ptb.{}.txt", (929_589, 73_760, 82_430), (42_068, 3_370, 3_761), 10_000, None),
        (
            "wikitext-2",
            "wikitext-2/{}.txt",
            (2_088_628, 217_646, 245_569),
            (36_718, 3_760, 4_358),
            33_278,
            (54_625, 11_718, 15_218),
        ),
    ],
)
def test_corpora(real, name, pattern, counts, line_counts, types, unknown) -> None:
    corpus = load(name, store=real)
    parts = (corpus.train, corpus.valid, corpus.test)
    assert tuple(len(part) for part in parts) == counts
    assert len(corpus.vocabulary) == types and all(count > 0 for count in corpus.vocabulary.counts)
    eos, unk = corpus.vocabulary[EOS], corpus.vocabulary[UNK]
    assert tuple(int((part == eos).sum()) for part in parts) == line_counts
    if unknown:
        assert tuple(int((part == unk).sum()) for part in parts) == unknown
    for part, tensor in zip(("train", "valid", "test"), parts, strict=True):
        words = words_with_eos(read(real, pattern.format(part)))
        assert corpus.vocabulary.decode(tensor) == words  # no type outside train: nothing became <unk>
    assert corpus.partial is None and len(corpus.sha256) == 3


@needs_data
def test_ptb_cut(real) -> None:
    assert "N" in load("ptb", store=real).vocabulary
    cut = load("ptb", store=real, tokens=50_000, vocabulary_size=2_000)
    assert len(cut.train) == 50_000 and len(cut.vocabulary) == 2_000
    assert (len(cut.valid), len(cut.test)) == (73_760, 82_430)
    assert sum(cut.vocabulary.counts) == 50_000
    assert torch.equal(torch.bincount(cut.train, minlength=2_000), torch.tensor(cut.vocabulary.counts))


@needs_data
def test_text8(real) -> None:
    if not real.has("text8/text8.head") or real.has("text8/text8.zip"):
        pytest.skip("the counts are those of the prefix text8.head")
    corpus = load("text8", store=real)
    assert corpus.partial == "a prefix: the first 6,877,825 of 100,000,000 characters"
    text = read(real, "text8/text8.head")
    words = text.split()
    assert len(text) == 6_877_825 and len(words) == 1_171_946 and len(set(words)) == 57_993 and len(set(text)) == 27
    assert len(corpus.train) + len(corpus.valid) + len(corpus.test) == 1_171_946
    assert corpus.vocabulary.decode(corpus.train) == words[: len(corpus.train)]
    assert len(corpus.train) == 1_171_946 * 90 // 100 and abs(len(corpus.valid) - len(corpus.test)) <= 1
    known = set(corpus.vocabulary)
    rest = [word if word in known else UNK for word in words[len(corpus.train) :]]
    assert corpus.vocabulary.decode(torch.cat([corpus.valid, corpus.test])) == rest


@needs_data
def test_text8_by_characters(real) -> None:
    corpus = load("text8", store=real, unit="character", tokens=200_000)
    assert sorted(corpus.vocabulary) == sorted(" abcdefghijklmnopqrstuvwxyz") and corpus.unit == "character"
    assert len(corpus.train) == 200_000
    assert "".join(corpus.vocabulary.decode(corpus.train[:30])).startswith(" anarchism originated as a")


@needs_data
def test_tinyshakespeare(real) -> None:
    corpus = load("tinyshakespeare", store=real)
    both = torch.cat([corpus.train, corpus.valid])
    assert len(both) == 1_115_394 and len(corpus.train) == 1_003_854 and corpus.test is None
    assert len(corpus.vocabulary) == 65 and int((both == corpus.vocabulary["\n"]).sum()) == 40_000
    assert "".join(corpus.vocabulary.decode(corpus.train[:14])) == "First Citizen:"


# Words


@needs_data
@pytest.mark.parametrize(
    ("name", "count", "types", "scale", "twice"),
    [
        ("simlex-999", 999, 1_028, (0, 10), {("sly", "strange")}),
        ("verb-143", 144, 117, (0, 1), set()),
        ("men", 3_000, 751, (0, 50), set()),
        ("rare-words", 2_034, 2_951, (0, 10), {("discovery", "rediscovery")}),
        ("mturk-771", 771, 1_113, (1, 5), set()),
        ("ws-353", 353, 437, (0, 10), {("cash", "money"), ("bank", "money")}),
    ],
)
def test_wordsim(real, name, count, types, scale, twice) -> None:
    everything = load("wordsim", store=real)
    pairs = everything[name]
    assert len(everything) == 6 and pairs.name == name
    assert len(pairs) == len(pairs.ratings) == count and pairs.scale == scale
    assert len({word for pair in pairs.pairs for word in pair}) == types
    assert not any("\r" in word for pair in pairs.pairs for word in pair)
    assert scale[0] <= pairs.ratings.min() and pairs.ratings.max() <= scale[1]
    seen = Counter(tuple(sorted(pair)) for pair in pairs.pairs)
    assert {pair for pair, number in seen.items() if number > 1 and pair[0] != pair[1]} == twice


@needs_data
def test_wordsim_within_a_vocabulary(real) -> None:
    pairs = load("wordsim", store=real)["ws-353"]
    vocabulary = Vocabulary.from_tokens(["love", "sex", "jerusalem", "israel", UNK])
    some = pairs.within(vocabulary)
    assert set(some.pairs) == {("love", "sex"), ("jerusalem", "israel")} and len(some.ratings) == len(some) < len(pairs)
    assert some.ratings[some.pairs.index(("love", "sex"))] == pytest.approx(6.77)
    assert vocabulary.decode(some.encode(vocabulary)) == [word for pair in some.pairs for word in pair]
    assert set(pairs.within(vocabulary, lower=False).pairs) == {("love", "sex")}
    with pytest.raises(ValueError, match="'tiger'; it must be in the vocabulary"):
        pairs.encode(vocabulary)
    assert pairs.within(Vocabulary.from_tokens(["x"])).encode(vocabulary).shape == (0, 2)


@needs_data
def test_analogy(real) -> None:
    sections = load("analogy", store=real).sections
    assert len(sections) == 14 and sum(map(len, sections.values())) == 19_544
    assert sections["capital-common-countries"][0] == ("Athens", "Greece", "Baghdad", "Iraq")


# Sentences


@needs_data
@pytest.mark.parametrize("form", ["tok", "raw"])
def test_multi30k(real, form) -> None:
    pairs = load("multi30k", store=real, form=form)
    assert [len(part) for part in (pairs.train, pairs.valid, pairs.test)] == [29_000, 1_014, 1_000]
    assert all(english and german for part in (pairs.train, pairs.valid, pairs.test) for english, german in part)
    if form == "tok":
        words = [
            tuple(sum(len(pair[side].split()) for pair in part) for side in (0, 1))
            for part in (pairs.train, pairs.valid, pairs.test)
        ]
        assert words == [(377_534, 360_706), (13_308, 12_828), (12_968, 12_103)]
    else:
        assert pairs.valid[1] == (
            "A man sleeping in a green room on a couch.",
            "Ein Mann schläft in einem grünen Raum auf einem Sofa.",
        )


@needs_data
def test_sick(real) -> None:
    pairs = load("sick", store=real)
    expected = [(4_500, 2_536, 1_299, 665), (500, 282, 144, 74), (4_927, 2_793, 1_414, 720)]
    for part, (total, *by_class) in zip((pairs.train, pairs.valid, pairs.test), expected, strict=True):
        seen = Counter(pair.entailment for pair in part)
        assert len(part) == total
        assert [seen["NEUTRAL"], seen["ENTAILMENT"], seen["CONTRADICTION"]] == by_class
        assert all(1 <= pair.relatedness <= 5 and pair.first and pair.second for pair in part)
    numbers = [pair.number for part in (pairs.train, pairs.valid, pairs.test) for pair in part]
    assert len(set(numbers)) == 9_927


@needs_data
def test_trec(real) -> None:
    coarse, fine = load("trec", store=real), load("trec", store=real, labels="fine")
    assert len(coarse.classes) == 6 and len(fine.classes) == 50
    for part, expected in (
        (coarse.train, {"ENTY": 1_250, "HUM": 1_223, "DESC": 1_162, "NUM": 896, "LOC": 835, "ABBR": 86}),
        (coarse.test, {"DESC": 138, "NUM": 113, "ENTY": 94, "LOC": 81, "HUM": 65, "ABBR": 9}),
    ):
        assert Counter(coarse.classes[label] for label in part.labels.tolist()) == expected
        assert len(part.texts) == sum(expected.values())
    assert len(set(fine.test.labels.tolist())) == 42
    assert sum(ord(c) > 127 for text in coarse.train.texts for c in text) == 1  # latin-1, read as such
    assert fine.train.texts == coarse.train.texts


@needs_data
def test_ag_news(real) -> None:
    news = load("ag_news", store=real)
    assert news.classes == ("World", "Sports", "Business", "Sci/Tech")
    assert len(news.test.texts) == 7_600 and torch.bincount(news.test.labels).tolist() == [1_900] * 4
    assert news.test.texts[0].startswith("Fears for T N pension after talks Unions representing workers")
    assert not any('""' in text for text in news.test.texts)  # doubled quotes are one
    if real.folder and not real.has("ag_news/train.csv"):
        assert news.train is None and news.partial == "the test part only"
    else:
        assert len(news.train.texts) == 120_000 and news.partial is None


# Trees


@needs_data
def test_ud_ewt(real) -> None:
    bank = load("ud-ewt", store=real)
    expected = [(540, 12_544, 204_577, 2_614, 37), (318, 2_001, 25_147, 359, 4), (316, 2_077, 25_094, 354, 2)]
    for part, counts in zip((bank.train, bank.valid, bank.test), expected, strict=True):
        found = (
            len({sentence.document for sentence in part}),
            len(part),
            sum(map(len, part)),
            sum(len(sentence.multiword) for sentence in part),
            sum(sentence.empty_nodes for sentence in part),
        )
        assert found == counts
        assert all(sentence.heads.count(0) == 1 for sentence in part)
    assert len({tag for sentence in bank.train for tag in sentence.upos}) == 17
    assert len({relation for sentence in bank.train for relation in sentence.deprels}) == 51
    first = bank.valid[0]
    assert first.text == "From the AP comes this story :" and first.heads[:4] == (3, 3, 4, 0)
    assert first.upos[0] == "ADP" and first.xpos[0] == "IN" and first.lemmas[3] == "come" and first.document
    merged = next(sentence for sentence in bank.valid if sentence.multiword)
    start, end, form = merged.multiword[0]
    assert 1 <= start < end <= len(merged) and form in merged.text


@needs_data
def test_sst(real) -> None:
    bank = load("sst", store=real)
    # three words of train hold a no-break space: whoever cuts at white space counts 163,560 leaves
    expected = [(8_544, 163_563, 318_582, 6_920), (1_101, 21_274, 41_447, 872), (2_210, 42_405, 82_600, 1_821)]
    for part, (trees, leaves, nodes, polar) in zip((bank.train, bank.valid, bank.test), expected, strict=True):
        assert len(part) == trees and len(bank.polar(part)) == polar
        assert sum(len(tree.words()) for tree in part) == leaves == (nodes + trees) // 2  # the trees are binary
        assert sum(1 for tree in part for _ in tree.nodes()) == nodes
    assert Counter(tree.label for tree in bank.train) == {0: 1_092, 1: 2_218, 2: 1_624, 3: 2_322, 4: 1_288}
    assert " ".join(bank.valid[0].words()) == "It 's a lovely film with lovely performances by Buy and Accorsi ."
    assert sum("\xa0" in word for tree in bank.train for word in tree.words()) == 3


# Images


@needs_data
def test_mnist(real) -> None:
    mnist = load("mnist", store=real)
    for part, n, mean in ((mnist.train, 60_000, 0.130660), (mnist.test, 10_000, 0.132515)):
        assert part.images.shape == (n, 28, 28) and part.images.dtype == torch.uint8
        assert part.labels.shape == (n,) and set(part.labels.tolist()) == set(range(10))
        assert part.images.double().mean().item() / 255 == pytest.approx(mean, abs=5e-7)
        assert part.scaled().max() == 1
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]


# Faults in the formats: small files of our own


@pytest.fixture
def made(tmp_path) -> Callable[..., Store]:
    """A store over files with this content, all of them in its registry."""

    def make(**contents: bytes | str) -> Store:
        rows = []
        for file, content in contents.items():
            path = tmp_path / "files" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            rows.append(f"{file} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
        (tmp_path / "registry.txt").write_text("\n".join(rows))
        return Store(tmp_path / "registry.txt", tmp_path / "cache", tmp_path / "files")

    return make


def idx(*shape: int, values: int | None = None, kind: int = 8) -> bytes:
    count = torch.Size(shape).numel() if values is None else values
    return gzip.compress(bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(count))


def zipped(path: Path, **members: str) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.read_bytes()


CONLLU = "# sent_id = s\n1\ta\ta\tDET\tDT\t_\t2\tdet\t_\t_\n2\tdog\tdog\tNOUN\tNN\t_\t0\troot\t_\t_\n\n"


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        (
            "wordsim",
            {"wordsim/EN-SIMLEX-999.txt": "a b 1\na b\n"},
            r"SIMLEX-999\.txt, line 2: 'a b' is not two words and",
        ),
        (
            "analogy",
            {"analogy/questions-words.txt": ": x\na b c\n"},
            r"line 2: 'a b c' is not a question of four words",
        ),
        ("analogy", {"analogy/questions-words.txt": "a b c d\n"}, r"line 1: .* below a section's name"),
        (
            "sick",
            {"sick/SICK_train.txt": "head\n1\ta\tb\t3.0\tMAYBE\n"},
            r"line 2: .* has not the five columns of SICK",
        ),
        ("sick", {"sick/SICK_train.txt": "head\n1\ta\tb\thigh\tNEUTRAL\n"}, r"line 2: could not convert .* 'high'"),
        (
            "trec",
            {"trec/TREC.train": "NUM:x Why ?\nwhat\n"},
            r"TREC\.train, line 2: 'what' does not begin with a label",
        ),
        ("trec", {"trec/TREC.train": "A:a x ?", "trec/TREC.test": "B:b y ?"}, r"label 'B' is in the test part but not"),
        (
            "ag_news",
            {"ag_news/classes.txt": "A\nB", "ag_news/test.csv": '"3","t","d"'},
            r"row 1: .* is not class, title",
        ),
        ("mnist", {"mnist/train-images-idx3-ubyte.gz": idx(2, 3, 3, kind=9)}, "is not an idx file of unsigned bytes"),
        (
            "mnist",
            {"mnist/train-images-idx3-ubyte.gz": idx(2, 3, 3, values=17)},
            r"holds 17 values: its shape \(2, 3, 3\)",
        ),
        ("mnist", {"mnist/train-images-idx3-ubyte.gz": gzip.compress(b"")}, "is not an idx file"),
        ("ud-ewt", {"ud-ewt/en_ewt-ud-train.conllu": CONLLU.replace("2\tdog", "3\tdog")}, "must be numbered 1, 2, 3"),
        ("ud-ewt", {"ud-ewt/en_ewt-ud-train.conllu": CONLLU.replace("\t2\tdet", "\t7\tdet")}, "a head lies outside"),
        ("ud-ewt", {"ud-ewt/en_ewt-ud-train.conllu": CONLLU + CONLLU[:-9]}, "sentence at line 5 is not CoNLL-U"),
        ("sst", {"sst/trainDevTestTrees_PTB.zip": b"no zip"}, "is not a zip archive with a file 'trees/train.txt'"),
        ("multi30k", {"multi30k/raw/train.en.gz": b"no gzip"}, "is not a whole gzip file"),
    ],
)
def test_format_errors_name_file_and_line(made, name, contents, message) -> None:
    with pytest.raises(FormatError, match=message):
        load(name, store=made(**contents), **({"form": "raw"} if name == "multi30k" else {}))


def test_unequal_sides_of_a_translation(made) -> None:
    store = made(**{"multi30k/tok/train.lc.norm.tok.en": "a\nb\n", "multi30k/tok/train.lc.norm.tok.de": "a\n"})
    with pytest.raises(FormatError, match="multi30k train: 2 English and 1 German sentences"):
        load("multi30k", store=store)


def test_images_and_labels_of_unequal_number(made) -> None:
    files = {f"mnist/{part}-images-idx3-ubyte.gz": idx(2, 3, 3) for part in ("train", "t10k")}
    files |= {f"mnist/{part}-labels-idx1-ubyte.gz": idx(5) for part in ("train", "t10k")}
    with pytest.raises(FormatError, match=r"images of shape \(2, 3, 3\) do not go with labels of shape \(5,\)"):
        load("mnist", store=made(**files))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("(3 (2 a) (4 b)", "a line must hold one whole tree"),
        ("(3 (2 a) (4 b)))", "column 16: a bracket closes a phrase without parts"),
        ("(3 a) (3 b)", "a line must hold one whole tree"),
        ("(7 a)", r"column 1: '\(7 a\)' is neither a phrase \(label word\) nor a bracket"),
        ("(3 (2 a) b)", "column 10: 'b"),
        ("(3 )", "column 1"),
        ("", "a line must hold one whole tree"),
    ],
)
def test_broken_sentiment_trees(made, tmp_path, tree, message) -> None:
    good = "(3 (2 a) (4 (1 b) (2 c)))"
    members = {"trees/train.txt": f"{good}\n{tree}\n{good}\n", "trees/dev.txt": good, "trees/test.txt": good}
    store = made(**{"sst/trainDevTestTrees_PTB.zip": zipped(tmp_path / "a.zip", **members)})
    with pytest.raises(FormatError, match=rf"trees/train\.txt, line 2 is not a tree: {message}"):
        load("sst", store=store)


def test_sentiment_tree_by_hand(made, tmp_path) -> None:
    good = "(3 (2 a) (4 (1 b) (2 c)))"
    members = dict.fromkeys(("trees/train.txt", "trees/dev.txt", "trees/test.txt"), good)
    (tree,) = load("sst", store=made(**{"sst/trainDevTestTrees_PTB.zip": zipped(tmp_path / "a.zip", **members)})).train
    assert [(node.label, node.word) for node in tree.nodes()] == [(3, None), (2, "a"), (4, None), (1, "b"), (2, "c")]
    assert tree.words() == ["a", "b", "c"]


def test_text8_from_the_zip(made, tmp_path) -> None:
    text = " one two three" * 100
    corpus = load("text8", store=made(**{"text8/text8.zip": zipped(tmp_path / "a.zip", text8=text)}))
    assert corpus.partial is None and list(corpus.sha256) == ["text8/text8.zip"]
    assert [len(part) for part in (corpus.train, corpus.valid, corpus.test)] == [270, 15, 15]
    assert " ".join(corpus.vocabulary.decode(corpus.train[:3])) == "one two three" and UNK in corpus.vocabulary
    few = load("text8", store=made(**{"text8/text8.zip": zipped(tmp_path / "b.zip", text8=text)}), tokens=2)
    assert few.vocabulary.to_list() == ["one", "two", UNK] and few.vocabulary.decode(few.valid[:3])[2] == UNK


def test_lines_of_a_file_with_crlf(made) -> None:
    store = made(**{"wordsim/a.txt": "a b 1\r\nc d 2\r\n"})
    assert lines(read(store, "wordsim/a.txt")) == ["a b 1", "c d 2"]
