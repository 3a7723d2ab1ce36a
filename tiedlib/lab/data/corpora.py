"""Texts to train a language model on.

Every loader takes `vocabulary_size` (keep only the most frequent words, `<unk>` among them; the others become `<unk>`)
and `tokens` (keep only this number of training tokens, from the start). The vocabulary is made from the training tokens that
are kept, and from nothing else; validation and test text stay whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from tiedlib import _arguments as arguments
from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.errors import DataError
from tiedlib.lab.data.store import Store
from tiedlib.lab.data.text import (
    decode_text,
    lines,
    read_bytes,
    read_member,
    read_text,
    stream_words,
    tokenize,
    words_with_eos,
)
from tiedlib.lab.data.vocabulary import EOS, UNK, Vocabulary

Unit = Literal["word", "character"]
_SHORTEST = 20  # tokens in a text of the user's own: enough for a training part and a held-out tenth of 2 tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """What every loaded set says about itself.

    sha256: of each file that was read. terms: what its source says about its use. partial: what is missing, None if the
    set is whole.
    """

    name: str
    sha256: dict[str, str]
    terms: str
    partial: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus(Dataset):
    """A text as word numbers (int64), in three parts. unit: what one token is."""

    vocabulary: Vocabulary
    train: Int[Tensor, " train"]
    valid: Int[Tensor, " valid"]
    test: Int[Tensor, " test"] | None
    unit: Unit = "word"


def ptb(store: Store, *, vocabulary_size: int | None = None, tokens: int | None = None) -> Corpus:
    """Penn Treebank (Mikolov's preparation), one `<eos>` a line: 929,589 / 73,760 / 82,430 tokens, 10,000 types."""
    return _three_files(store, "ptb", "ptb/ptb.{}.txt", vocabulary_size, tokens)


def wikitext_2(store: Store, *, vocabulary_size: int | None = None, tokens: int | None = None) -> Corpus:
    """WikiText-2, one `<eos>` a line, empty lines too: 2,088,628 / 217,646 / 245,569 tokens, 33,278 types."""
    return _three_files(store, "wikitext-2", "wikitext-2/{}.txt", vocabulary_size, tokens)


def _three_files(store: Store, name: str, pattern: str, vocabulary_size: int | None, tokens: int | None) -> Corpus:
    files = [pattern.format(part) for part in ("train", "valid", "test")]
    train, valid, test = (words_with_eos(read_text(store.path(file))) for file in files)
    return _corpus(
        name,
        [train, valid, test],
        vocabulary_size=vocabulary_size,
        tokens=tokens,
        specials=(UNK, EOS),
        sha256={file: store.sha256(file) for file in files},
    )


def text8(
    store: Store, *, vocabulary_size: int | None = None, tokens: int | None = None, unit: Unit = "word"
) -> Corpus:
    """text8: 90 % to train on, then 5 % to validate and 5 % to test, without sentence ends.

    Where `TIEDLIB_DATA` holds no text8.zip but its prefix text8.head, that is read, and `partial` says so.
    """
    _check_unit(unit)
    file, partial = "text8/text8.zip", None
    if store.folder is not None and not store.has(file) and store.has("text8/text8.head"):
        file, partial = "text8/text8.head", "a prefix: the first 6,877,825 of 100,000,000 characters"
    path = store.path(file)
    raw = read_bytes(path)
    if file.endswith(".zip"):
        raw = read_member(raw, "text8", str(path))
    text = decode_text(raw, str(path), "ascii")
    total = len(text) if unit == "character" else sum(1 for _ in stream_words(text))
    first, second = total * 90 // 100, total * 95 // 100
    whole: Callable[[], Iterable[str]] = (lambda: text) if unit == "character" else (lambda: stream_words(text))
    kept = _limit(first, tokens)
    parts = [islice(whole(), 0, kept), islice(whole(), first, second), islice(whole(), second, None)]
    known = unit == "character" and vocabulary_size is None and set(text[:kept]) == set(text)
    vocabulary = _vocabulary(islice(whole(), 0, kept), vocabulary_size, () if known else (UNK,))
    train, valid, test = (vocabulary.encode(part) for part in parts)
    return Corpus(
        name="text8",
        vocabulary=vocabulary,
        train=train,
        valid=valid,
        test=test,
        unit=unit,
        sha256={file: store.sha256(file)},
        terms=CATALOGUE["text8"].terms,
        partial=partial,
    )


def tinyshakespeare(store: Store, *, vocabulary_size: int | None = None, tokens: int | None = None) -> Corpus:
    """Tiny Shakespeare by characters: the first 90 % to train on, the last 10 % to validate, no test part."""
    file = "tinyshakespeare/input.txt"
    return _corpus(
        "tinyshakespeare",
        _hold_out(list(read_text(store.path(file))), file),
        vocabulary_size=vocabulary_size,
        tokens=tokens,
        unit="character",
        sha256={file: store.sha256(file)},
    )


def manual(*, vocabulary_size: int | None = None, tokens: int | None = None) -> Corpus:
    """The English of Python's manual (`pydoc_data.topics`), lower-cased, one `<eos>` a paragraph; 80 / 10 / 10 %.

    Headings, code and tables are left out, and a paragraph that several topics share is kept once. The text is that of
    the running Python; `sha256` tells them apart.
    """
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[key] for key in sorted(topics))
    found: list[str] = []
    for paragraph in dict.fromkeys(map(str.rstrip, text.split("\n\n"))):
        if _is_prose(paragraph):
            found += [*tokenize(_plain(paragraph)), EOS]
    first, second = len(found) * 80 // 100, len(found) * 90 // 100
    return _corpus(
        "manual",
        [found[:first], found[first:second], found[second:]],
        vocabulary_size=vocabulary_size,
        tokens=tokens,
        specials=(UNK, EOS),
        sha256={"pydoc_data/topics": hashlib.sha256(text.encode()).hexdigest()},
    )


def _is_prose(paragraph: str) -> bool:
    """Sentences: not indented as code is, no ruler of a table or heading, some words, and a stop at the end."""
    return (
        not paragraph.startswith("   ")
        and not any(ruler in paragraph for ruler in ("===", "---", "+--", ">>>", "::="))
        and paragraph.endswith((".", ":", ";", ")"))
        and len(paragraph.split()) >= 5
    )


def _plain(paragraph: str) -> str:
    """Lower case, without marks of emphasis, quotation and notes; words broken at a line's end are joined."""
    joined = re.sub(r"-\n\s*", "-", paragraph.lower().replace("’", "'"))
    return re.sub(r"\[\d+\]|[*\"“”`|]", " ", joined)


def plain_text(
    path: Path,
    *,
    vocabulary_size: int | None = None,
    tokens: int | None = None,
    unit: Unit = "word",
    punctuation: bool = False,
) -> Corpus:
    """A text file of the user's own (UTF-8, or UTF-16 with a byte order mark): the first 90 % to train on, the last 10 % to
    validate; `test` is None.

    Words are separated by white space; punctuation=True makes each punctuation mark a word of its own. Every
    line with a word in it ends with `<eos>`. unit="character": every character is a token, line ends too.
    """
    _check_unit(unit)
    raw = read_bytes(path)
    text = decode_text(raw, str(path))
    if unit == "character":
        found = list(text)
    else:
        split = tokenize if punctuation else str.split
        found = [token for line in lines(text) if line.strip() for token in (*split(line), EOS)]
    return _corpus(
        path.name,
        _hold_out(found, str(path)),
        vocabulary_size=vocabulary_size,
        tokens=tokens,
        unit=unit,
        specials=(UNK, EOS) if unit == "word" else (),
        sha256={path.name: hashlib.sha256(raw).hexdigest()},
        terms="your own text: you know its terms",
    )


def _check_unit(unit: str) -> None:
    arguments.choice("unit", unit, ("word", "character"))


def _vocabulary(tokens: Iterable[str], vocabulary_size: int | None, specials: tuple[str, ...]) -> Vocabulary:
    if vocabulary_size is not None and vocabulary_size <= len(specials):
        raise ValueError(
            f"vocabulary_size is {vocabulary_size}; it must be at least {len(specials) + 1}, "
            f"{' and '.join(specials)} among them"
        )
    return Vocabulary.from_tokens(tokens, vocabulary_size, specials=specials)


def _limit(train: int, tokens: int | None) -> int:
    if tokens is not None and tokens < 2:
        raise ValueError(f"tokens is {tokens}; it must be at least 2, one to read and one to predict")
    return train if tokens is None else min(train, tokens)


def _hold_out(found: list[str], source: str) -> list[list[str]]:
    if len(found) < _SHORTEST:
        raise DataError(
            f"{source} holds {len(found)} tokens: at least {_SHORTEST} are needed to hold out a tenth of them"
        )
    cut = len(found) * 9 // 10
    return [found[:cut], found[cut:]]


def _corpus(
    name: str,
    parts: list[list[str]],
    *,
    vocabulary_size: int | None,
    tokens: int | None,
    sha256: dict[str, str],
    specials: tuple[str, ...] = (),
    unit: Unit = "word",
    terms: str | None = None,
) -> Corpus:
    """Cut the training part, make its vocabulary, number all parts."""
    kept = parts[0][: _limit(len(parts[0]), tokens)]
    if UNK not in specials and (vocabulary_size is not None or not set(kept).issuperset(*parts[1:])):
        specials = (*specials, UNK)  # some token will have no number of its own
    vocabulary = _vocabulary(kept, vocabulary_size, specials)
    encoded = [vocabulary.encode(part) for part in (kept, *parts[1:])]
    return Corpus(
        name=name,
        vocabulary=vocabulary,
        train=encoded[0],
        valid=encoded[1],
        test=encoded[2] if len(encoded) > 2 else None,
        unit=unit,
        sha256=sha256,
        terms=CATALOGUE[name].terms if terms is None else terms,
    )
