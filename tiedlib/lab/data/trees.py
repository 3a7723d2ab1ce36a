"""Sets of trees: dependency trees with parts of speech (UD), and phrases with sentiments (SST)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.corpora import Dataset
from tiedlib.lab.data.errors import FormatError
from tiedlib.lab.data.store import Store
from tiedlib.lab.data.text import decode_text, lines, read_bytes, read_member, read_text

_SST_TOKEN = re.compile(r"\(([0-4]) (?:([^() ]+)\)|(?=\())|\)| ")  # "(2 word)", "(2 " before a part, ")", space


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a UD treebank; the i-th entry of each tuple belongs to syntactic word i + 1.

    heads[i] is the number of the word above it, 0 for the root. multiword: (first, last, form) of written words that
    are several syntactic words, such as (1, 2, "don't"). empty_nodes: how many the enhanced tree adds; they are left
    out here.
    """

    identifier: str
    document: str
    text: str
    forms: tuple[str, ...]
    lemmas: tuple[str, ...]
    upos: tuple[str, ...]
    xpos: tuple[str, ...]
    heads: tuple[int, ...]
    deprels: tuple[str, ...]
    multiword: tuple[tuple[int, int, str], ...]
    empty_nodes: int

    def __len__(self) -> int:
        return len(self.forms)


@dataclass(frozen=True, kw_only=True, eq=False)
class Treebank(Dataset):
    """Sentences with dependency trees in three parts."""

    train: tuple[Sentence, ...]
    valid: tuple[Sentence, ...]
    test: tuple[Sentence, ...]


class Tree(NamedTuple):
    """A phrase of SST: its sentiment 0 (very negative) … 4 (very positive), and a word or the phrases it is made of."""

    label: int
    word: str | None
    children: tuple[Tree, ...]

    def nodes(self) -> Iterator[Tree]:
        """This phrase and all phrases in it, each before its parts."""
        waiting = [self]
        while waiting:
            tree = waiting.pop()
            yield tree
            waiting += reversed(tree.children)

    def words(self) -> list[str]:
        """The words from left to right."""
        return [tree.word for tree in self.nodes() if tree.word is not None]


@dataclass(frozen=True, kw_only=True, eq=False)
class SentimentTrees(Dataset):
    """The Stanford Sentiment Treebank in three parts."""

    train: tuple[Tree, ...]
    valid: tuple[Tree, ...]
    test: tuple[Tree, ...]

    @staticmethod
    def polar(trees: tuple[Tree, ...]) -> tuple[Tree, ...]:
        """The trees whose root is not neutral: what the two-class task uses (label > 2 is positive)."""
        return tuple(tree for tree in trees if tree.label != 2)


def ud_ewt(store: Store) -> Treebank:
    """Universal Dependencies English EWT 2.16: 12,544 / 2,001 / 2,077 sentences."""
    files = [f"ud-ewt/en_ewt-ud-{part}.conllu" for part in ("train", "dev", "test")]
    train, valid, test = (tuple(_read_conllu(store.path(file))) for file in files)
    return Treebank(
        name="ud-ewt",
        train=train,
        valid=valid,
        test=test,
        sha256={file: store.sha256(file) for file in files},
        terms=CATALOGUE["ud-ewt"].terms,
    )


def _read_conllu(path: Path) -> Iterator[Sentence]:
    """CoNLL-U: ten columns a word, `#` before comments, an empty line after each sentence."""
    document, start = "", 1
    block: list[str] = []
    for number, line in enumerate([*lines(read_text(path)), ""], 1):
        if line:
            block.append(line)
            continue
        if block:
            comments = dict(_comment(entry) for entry in block if entry.startswith("#"))
            document = comments.get("newdoc id", document)
            try:
                yield _sentence([entry.split("\t") for entry in block if not entry.startswith("#")], comments, document)
            except (ValueError, IndexError) as error:
                raise FormatError(f"{path}, sentence at line {start} is not CoNLL-U: {error}") from None
        block, start = [], number + 1


def _comment(line: str) -> tuple[str, str]:
    key, _, value = line[1:].partition("=")
    return key.strip(), value.strip()


def _sentence(rows: list[list[str]], comments: dict[str, str], document: str) -> Sentence:
    words = [row for row in rows if row[0].isdigit()]
    ranges = [row for row in rows if "-" in row[0]]
    if any(len(row) != 10 for row in rows) or [int(row[0]) for row in words] != list(range(1, len(words) + 1)):
        raise ValueError("words must be numbered 1, 2, 3, … and have ten columns")
    if not all(0 <= int(row[6]) <= len(words) for row in words):
        raise ValueError("a head lies outside the sentence")
    return Sentence(
        identifier=comments.get("sent_id", ""),
        document=document,
        text=comments.get("text", ""),
        forms=tuple(row[1] for row in words),
        lemmas=tuple(row[2] for row in words),
        upos=tuple(row[3] for row in words),
        xpos=tuple(row[4] for row in words),
        heads=tuple(int(row[6]) for row in words),
        deprels=tuple(row[7] for row in words),
        multiword=tuple((*map(int, row[0].split("-")), row[1]) for row in ranges),  # type: ignore[misc]  # two numbers
        empty_nodes=len(rows) - len(words) - len(ranges),
    )


def sst(store: Store) -> SentimentTrees:
    """Stanford Sentiment Treebank: 8,544 / 1,101 / 2,210 trees (Socher et al. 2013).

    Brackets in the text are written -LRB- and -RRB-. Three words hold a no-break space.
    """
    file = "sst/trainDevTestTrees_PTB.zip"
    path = store.path(file)
    archive = read_bytes(path)
    parts = []
    for part in ("train", "dev", "test"):
        source = f"{path}:trees/{part}.txt"
        text = decode_text(read_member(archive, f"trees/{part}.txt", str(path)), source)
        parts.append(tuple(_read_trees(text, source)))
    train, valid, test = parts
    return SentimentTrees(
        name="sst", train=train, valid=valid, test=test, sha256={file: store.sha256(file)}, terms=CATALOGUE["sst"].terms
    )


def _read_trees(text: str, source: str) -> Iterator[Tree]:
    leaves: dict[tuple[str, str], Tree] = {}
    for number, line in enumerate(lines(text), 1):
        try:
            yield _read_tree(line, leaves)
        except ValueError as error:
            raise FormatError(f"{source}, line {number} is not a tree: {error}") from None


def _read_tree(line: str, leaves: dict[tuple[str, str], Tree]) -> Tree:
    """One tree such as `(3 (2 a) (4 joy))`; equal words with equal labels are one object, kept in `leaves`."""
    whole: list[Tree] = []
    parts, opened = whole, list[tuple[str, list[Tree]]]()  # phrases still open: label, and the parts of the one above
    at = 0
    for match in _SST_TOKEN.finditer(line):
        if match.start() != at:
            break
        at = match.end()
        label, word = match.groups()
        if word is not None:
            leaf = leaves.get((label, word))
            parts.append(leaf or leaves.setdefault((label, word), Tree(int(label), word, ())))
        elif label is not None:
            opened.append((label, parts))
            parts = []
        elif match[0] == ")":
            if not opened or not parts:
                raise ValueError(f"column {at}: a bracket closes a phrase without parts")
            label, above = opened.pop()
            above.append(Tree(int(label), None, tuple(parts)))
            parts = above
    if at != len(line):
        raise ValueError(f"column {at + 1}: {line[at : at + 20]!r} is neither a phrase (label word) nor a bracket")
    if opened or len(whole) != 1:
        raise ValueError("a line must hold one whole tree")
    return whole[0]
