"""A made-up language whose truth is known: the class of each word, how alike two words are, the best loss there is.

Sentences are drawn from a Markov chain over word classes; within its class a word is drawn with Zipf's frequencies,
p(rank r) ∝ 1/r, whatever the words around it are. So two words of one class differ in frequency and in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.corpora import Corpus
from tiedlib.lab.data.vocabulary import EOS, Vocabulary

# From each class (first column) to the next one, in tenths. `<eos>` ends a sentence and begins the next one.
_CLASSES = (EOS, "article", "adjective", "animal", "thing", "moves", "takes", "how")
_NEXT = (
    (0, 7, 1, 2, 0, 0, 0, 0),  # <eos>
    (0, 0, 3, 4, 3, 0, 0, 0),  # article
    (0, 0, 1, 5, 4, 0, 0, 0),  # adjective
    (1, 0, 0, 0, 0, 4, 4, 1),  # animal
    (7, 0, 0, 0, 0, 1, 0, 2),  # thing
    (5, 0, 0, 0, 0, 0, 0, 5),  # moves
    (0, 6, 2, 0, 2, 0, 0, 0),  # takes
    (9, 0, 0, 0, 0, 0, 0, 1),  # how
)
_SHARE = (0, 0, 15, 20, 30, 10, 15, 10)  # of the open words, in hundredths
_ARTICLES = 4
_SMALLEST, _LARGEST = 40, 5000  # some words for each class; not more than there are short words to make


@dataclass(frozen=True, kw_only=True, eq=False)
class ToyLanguage(Corpus):
    """A corpus of `toy_language`.

    classes: names of the word classes; word_classes[i]: the class of word i. class_similarity: how alike the classes
    are in what stands before and after them, 0 … 1 (see `similarity`). entropy_rate: nats per token; no model of this
    language can have a lower expected loss, however it is trained.
    """

    classes: tuple[str, ...]
    word_classes: Int[Tensor, " vocab"]
    class_similarity: Float[Tensor, "classes classes"]
    entropy_rate: float

    def similarity(self, first: str, second: str) -> float:
        """½ Σ_c √(p(c after a) p(c after b)) + ½ Σ_c √(p(c before a) p(c before b)) over classes c: 1 for one class,
        0 where the two words share no context at all. Raises ValueError for a word outside the language.
        """
        a, b = (int(self.word_classes[self.vocabulary[word]]) for word in (first, second))
        return float(self.class_similarity[a, b])


def toy_language(*, vocabulary_size: int = 500, tokens: int = 20_000, seed: int = 0) -> ToyLanguage:
    """A made-up language of `vocabulary_size` words (`<eos>` among them) and `tokens` training tokens of it.

    Validation and test part have a tenth as many tokens each. The same arguments give the same language and text.
    Raises ValueError where vocabulary_size is outside 40 … 5000 or tokens < 20.
    """
    if not _SMALLEST <= vocabulary_size <= _LARGEST:
        raise ValueError(f"vocabulary_size is {vocabulary_size}; it must be from {_SMALLEST} to {_LARGEST}")
    if tokens < 20:
        raise ValueError(f"tokens is {tokens}; it must be at least 20")
    generator = torch.Generator().manual_seed(seed)
    sizes = _class_sizes(vocabulary_size)
    words = _names(vocabulary_size - 1, generator)
    words.insert(0, EOS)
    chain = torch.tensor(_NEXT, dtype=torch.float64) / 10
    drawn = [words[i] for i in _sample(chain, sizes, tokens + 2 * (tokens // 10), generator)]
    train, valid, test = drawn[:tokens], drawn[tokens : tokens + tokens // 10], drawn[tokens + tokens // 10 :]
    vocabulary = Vocabulary.from_tokens(train, specials=words)
    class_of = dict(zip(words, (c for c, size in enumerate(sizes) for _ in range(size)), strict=True))
    return ToyLanguage(
        name="toy_language",
        vocabulary=vocabulary,
        train=vocabulary.encode(train),
        valid=vocabulary.encode(valid),
        test=vocabulary.encode(test),
        sha256={},
        terms=CATALOGUE["toy_language"].terms,
        classes=_CLASSES,
        word_classes=torch.tensor([class_of[word] for word in vocabulary]),
        class_similarity=_similarity(chain),
        entropy_rate=_entropy_rate(chain, sizes),
    )


def _class_sizes(vocabulary_size: int) -> list[int]:
    open_words = vocabulary_size - 1 - _ARTICLES
    sizes = [1, _ARTICLES, *(open_words * share // 100 for share in _SHARE[2:])]
    sizes[4] += vocabulary_size - sum(sizes)  # what rounding left over
    return sizes


def _names(number: int, generator: torch.Generator) -> list[str]:
    """Different words of two or three syllables, in random order."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < number:
        picks = torch.randint(len(syllables), (3,), generator=generator).tolist()
        found["".join(syllables[i] for i in picks[: 2 + len(found) % 2])] = None
    return list(found)


def _zipf(size: int) -> Float[Tensor, " words"]:
    weights = 1 / torch.arange(1, size + 1, dtype=torch.float64)
    return weights / weights.sum()


def _sample(chain: Tensor, sizes: list[int], length: int, generator: torch.Generator) -> list[int]:
    """Word numbers; words of a class stand side by side, the most frequent first. The text begins a sentence."""
    following = torch.multinomial(chain, length, replacement=True, generator=generator).tolist()
    classes, now = [], 0
    for t in range(length):
        now = following[now][t]
        classes.append(now)
    at = torch.tensor(classes)
    chosen = torch.zeros(length, dtype=torch.int64)
    for c, size in enumerate(sizes):
        here = (at == c).nonzero().squeeze(1)
        if len(here):
            chosen[here] = sum(sizes[:c]) + torch.multinomial(_zipf(size), len(here), True, generator=generator)
    return [int(number) for number in chosen.tolist()]


def _stationary(chain: Tensor) -> Float[Tensor, " classes"]:
    return torch.linalg.matrix_power(chain, 1024)[0]


def _entropy_rate(chain: Tensor, sizes: list[int]) -> float:
    """H = Σ_c π(c) Σ_d T(c, d) [−ln T(c, d) + H(words of d)]: a word shows its class, so words are a Markov chain."""
    within = torch.stack([torch.special.entr(_zipf(size)).sum() for size in sizes])
    return float(_stationary(chain) @ (torch.special.entr(chain).sum(1) + chain @ within))


def _similarity(chain: Tensor) -> Float[Tensor, "classes classes"]:
    share = _stationary(chain)
    before = (share[:, None] * chain / share).T  # p(class before | class)
    after, before = chain.sqrt(), before.sqrt()
    return ((after @ after.T + before @ before.T) / 2).to(torch.float32)
