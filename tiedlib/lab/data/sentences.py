"""Sets of sentences: with a class each, in pairs, and in two languages."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from tiedlib import _arguments as arguments
from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.corpora import Dataset
from tiedlib.lab.data.errors import FormatError
from tiedlib.lab.data.store import Store
from tiedlib.lab.data.text import decode_text, lines, read_gzip, read_text

Entailment = Literal["NEUTRAL", "ENTAILMENT", "CONTRADICTION"]
_ENTAILMENT = ("NEUTRAL", "ENTAILMENT", "CONTRADICTION")


class LabelledTexts(NamedTuple):
    """Texts and the class of each: labels[i] is the place of its class in `classes`."""

    texts: tuple[str, ...]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextClassification(Dataset):
    """Texts in classes. `train` is None where only the test part is at hand, and `partial` says so."""

    classes: tuple[str, ...]
    train: LabelledTexts | None
    test: LabelledTexts


class SentencePair(NamedTuple):
    """Two sentences of SICK: how related they are, 1 … 5, and what the first says about the second."""

    number: int
    first: str
    second: str
    relatedness: float
    entailment: Entailment


@dataclass(frozen=True, kw_only=True, eq=False)
class SentencePairs(Dataset):
    """SICK in three parts."""

    train: tuple[SentencePair, ...]
    valid: tuple[SentencePair, ...]
    test: tuple[SentencePair, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Translations(Dataset):
    """Pairs (English, German) of sentences in three parts. form: "tok" or "raw", as `multi30k` was asked for."""

    form: Literal["tok", "raw"]
    train: tuple[tuple[str, str], ...]
    valid: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]


def multi30k(store: Store, *, form: Literal["tok", "raw"] = "tok") -> Translations:
    """Multi30k: 29,000 / 1,014 / 1,000 pairs. form: "tok" is lower-cased, normalised and tokenised,
    "raw" as written.
    """
    arguments.choice("form", form, ("tok", "raw"))
    sha256: dict[str, str] = {}
    parts = []
    for part in ("train", "val", "test_2016_flickr"):
        sides = []
        for language in ("en", "de"):
            file = (
                f"multi30k/raw/{part}.{language}.gz" if form == "raw" else f"multi30k/tok/{part}.lc.norm.tok.{language}"
            )
            path = store.path(file)
            text = decode_text(read_gzip(path), str(path)) if form == "raw" else read_text(path)
            sides.append([line.strip() for line in lines(text)])
            sha256[file] = store.sha256(file)
        if len(sides[0]) != len(sides[1]):
            raise FormatError(f"multi30k {part}: {len(sides[0])} English and {len(sides[1])} German sentences")
        parts.append(tuple(zip(*sides, strict=True)))
    train, valid, test = parts
    return Translations(
        name="multi30k",
        form=form,
        train=train,
        valid=valid,
        test=test,
        sha256=sha256,
        terms=CATALOGUE["multi30k"].terms,
    )


def sick(store: Store) -> SentencePairs:
    """SICK: 4,500 / 500 / 4,927 pairs with relatedness 1 … 5 and entailment (SemEval-2014 task 1)."""
    files = [f"sick/SICK_{part}.txt" for part in ("train", "trial", "test_annotated")]
    train, valid, test = (_read_sick(store, file) for file in files)
    return SentencePairs(
        name="sick",
        train=train,
        valid=valid,
        test=test,
        sha256={file: store.sha256(file) for file in files},
        terms=CATALOGUE["sick"].terms,
    )


def _read_sick(store: Store, file: str) -> tuple[SentencePair, ...]:
    path = store.path(file)
    pairs = []
    for number, line in enumerate(lines(read_text(path))[1:], 2):
        columns = line.split("\t")
        if len(columns) != 5 or columns[4].strip() not in _ENTAILMENT:
            raise FormatError(f"{path}, line {number}: {line!r} has not the five columns of SICK")
        try:
            number_of_pair, relatedness = int(columns[0]), float(columns[3])
        except ValueError as error:
            raise FormatError(f"{path}, line {number}: {error}") from None
        entailment: Entailment = columns[4].strip()  # type: ignore[assignment]  # checked above
        pairs.append(SentencePair(number_of_pair, columns[1], columns[2], relatedness, entailment))
    return tuple(pairs)


def trec(store: Store, *, labels: Literal["coarse", "fine"] = "coarse") -> TextClassification:
    """TREC questions: 5,452 / 500 in 6 coarse or 50 fine classes. The files are latin-1."""
    arguments.choice("labels", labels, ("coarse", "fine"))
    files = ["trec/TREC.train", "trec/TREC.test"]
    train, test = (_read_trec(store, file, labels) for file in files)
    classes = tuple(sorted({label for label, _ in train}))
    return TextClassification(
        name="trec",
        classes=classes,
        train=_labelled(train, classes),
        test=_labelled(test, classes),
        sha256={file: store.sha256(file) for file in files},
        terms=CATALOGUE["trec"].terms,
    )


def _read_trec(store: Store, file: str, labels: str) -> list[tuple[str, str]]:
    path = store.path(file)
    found = []
    for number, line in enumerate(lines(read_text(path, "latin-1")), 1):
        label, _, question = line.partition(" ")
        if ":" not in label or not question:
            raise FormatError(f"{path}, line {number}: {line!r} does not begin with a label such as NUM:dist")
        found.append((label.split(":")[0] if labels == "coarse" else label, question.strip()))
    return found


def ag_news(store: Store) -> TextClassification:
    """AG News: title and description of news items, 120,000 / 7,600, in 4 classes.

    The texts are as in the files: a backslash often stands for a line's end, and `#39;` for an apostrophe. Where
    `TIEDLIB_DATA` holds no train.csv, `train` is None and `partial` says so.
    """
    names, test_file, train_file = (f"ag_news/{file}" for file in ("classes.txt", "test.csv", "train.csv"))
    classes = tuple(line.strip() for line in lines(read_text(store.path(names))))
    alone = store.folder is not None and not store.has(train_file)
    files = [names, test_file] if alone else [names, test_file, train_file]
    return TextClassification(
        name="ag_news",
        classes=classes,
        train=None if alone else _labelled(_read_ag_news(store, train_file, classes), classes),
        test=_labelled(_read_ag_news(store, test_file, classes), classes),
        sha256={file: store.sha256(file) for file in files},
        terms=CATALOGUE["ag_news"].terms,
        partial="the test part only" if alone else None,
    )


def _read_ag_news(store: Store, file: str, classes: tuple[str, ...]) -> list[tuple[str, str]]:
    path = store.path(file)
    found = []
    for number, row in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), 1):
        if len(row) != 3 or row[0] not in {str(i + 1) for i in range(len(classes))}:
            raise FormatError(f"{path}, row {number}: {row!r} is not class, title, description")
        found.append((classes[int(row[0]) - 1], f"{row[1]} {row[2]}"))
    return found


def _labelled(rows: list[tuple[str, str]], classes: tuple[str, ...]) -> LabelledTexts:
    place = {label: i for i, label in enumerate(classes)}
    unknown = {label for label, _ in rows} - set(place)
    if unknown:
        raise FormatError(f"label {sorted(unknown)[0]!r} is in the test part but not in the training part")
    return LabelledTexts(tuple(text for _, text in rows), torch.tensor([place[label] for label, _ in rows]))
