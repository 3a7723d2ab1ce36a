"""Words and their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tiedlib import _arguments as arguments

UNK = "<unk>"
EOS = "<eos>"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of a model, numbered 0, 1, 2, …: most frequent first, ties in alphabetical order.

    `words[i]` is word number i and `counts[i]` how often it was seen. A word outside the vocabulary stands as `<unk>`
    where `<unk>` is one of the words, and is an error where it is not. Build one with `from_tokens` or `from_list`.

    Raises ValueError where a word occurs twice, or where counts and words differ in number.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]
    _index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.words):
            raise ValueError(
                f"counts has {len(self.counts)} numbers for {len(self.words)} words: give one for each word"
            )
        index = {word: number for number, word in enumerate(self.words)}
        if len(index) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ValueError(f"words holds {twice!r} twice: each word may stand once")
        object.__setattr__(self, "_index", index)

    @classmethod
    def from_tokens(
        cls, tokens: Iterable[str], size: int | None = None, min_count: int = 1, specials: Sequence[str] = (UNK,)
    ) -> Vocabulary:
        """The words of a text, cut by frequency.

        size: keep at most this many words, specials among them (None: no cut). min_count: keep words seen at least so
        often. specials: words that are kept whatever their count. What is cut counts as `<unk>`, if that is one of the
        words kept. Raises ValueError for size < max(1, number of specials) or min_count < 1.
        """
        kept_always = dict.fromkeys(specials)
        if size is not None and size < max(1, len(kept_always)):
            raise ValueError(f"size is {size}; it must be at least 1 and leave room for specials = {tuple(specials)}")
        arguments.whole("min_count", min_count)
        seen = Counter(tokens)
        ranked = sorted((w for w, n in seen.items() if n >= min_count and w not in kept_always), key=_rank(seen))
        kept = ranked if size is None else ranked[: size - len(kept_always)]
        counts = Counter({word: seen[word] for word in (*kept_always, *kept)})
        if UNK in counts:
            counts[UNK] += seen.total() - counts.total()
        words = sorted(counts, key=_rank(counts))
        return cls(tuple(words), tuple(counts[word] for word in words))

    @classmethod
    def from_list(cls, words: Sequence[str], counts: Sequence[int] | None = None) -> Vocabulary:
        """The vocabulary of these words in this order, as `to_list` gave them; counts are 0 where none are given."""
        return cls(tuple(words), tuple(counts) if counts is not None else (0,) * len(words))

    def encode(self, tokens: Iterable[str]) -> Int[Tensor, " n"]:
        """The numbers of these words (int64). Raises ValueError for a word outside a vocabulary without `<unk>`."""
        if isinstance(tokens, str):
            raise TypeError(f"tokens is {tokens[:40]!r}; it must be a sequence of words; split the text first")
        index = self._index
        unknown = index.get(UNK)
        if unknown is not None:
            return torch.tensor([index.get(token, unknown) for token in tokens], dtype=torch.int64)
        try:
            return torch.tensor([index[token] for token in tokens], dtype=torch.int64)
        except KeyError as error:
            raise _unknown(error.args[0]) from None

    def decode(self, numbers: Int[Tensor, "*shape"] | Iterable[int]) -> list[str]:
        """The words of these numbers. Raises ValueError for a number outside 0 … len − 1."""
        flat = numbers.flatten().tolist() if isinstance(numbers, Tensor) else list(numbers)
        words = self.words
        wrong = next((number for number in flat if not 0 <= number < len(words)), None)
        if wrong is not None:
            raise _no_such_number(wrong, len(words))
        return [words[number] for number in flat]

    def frequencies(self) -> Float[Tensor, " vocab"]:
        """counts divided by their sum (float32). Raises ValueError where every count is 0."""
        if not any(self.counts):
            raise ValueError("counts are all 0: this vocabulary was made from a list, not from a text")
        counts = torch.tensor(self.counts, dtype=torch.float64)
        return (counts / counts.sum()).to(torch.float32)

    def to_list(self) -> list[str]:
        """The words in order; `from_list` makes the vocabulary again."""
        return list(self.words)

    @overload
    def __getitem__(self, key: str) -> int: ...
    @overload
    def __getitem__(self, key: int) -> str: ...
    def __getitem__(self, key: str | int) -> int | str:
        """The number of a word (`<unk>`'s for an unknown one), or the word of a number."""
        if isinstance(key, str):
            number = self._index.get(key, self._index.get(UNK))
            if number is None:
                raise _unknown(key)
            return number
        if not 0 <= key < len(self.words):
            raise _no_such_number(key, len(self.words))
        return self.words[key]

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)


def _rank(counts: Counter[str]) -> Callable[[str], tuple[int, str]]:
    return lambda word: (-counts[word], word)


def _unknown(word: str) -> ValueError:
    return ValueError(f"word is {word!r}; it must be in the vocabulary, which has no {UNK!r} to stand for it")


def _no_such_number(number: int, words: int) -> ValueError:
    return ValueError(f"number is {number}; it must be from 0 to {words - 1}, the last word's")
