"""Sets about single words: pairs with similarity ratings, and analogy questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.corpora import Dataset
from tiedlib.lab.data.errors import FormatError
from tiedlib.lab.data.store import Store
from tiedlib.lab.data.text import lines, read_text
from tiedlib.lab.data.vocabulary import Vocabulary

Question = tuple[str, str, str, str]

_SETS = {  # name: file, lowest and highest rating
    "simlex-999": ("EN-SIMLEX-999.txt", 0.0, 10.0),
    "verb-143": ("EN-VERB-143.txt", 0.0, 1.0),
    "men": ("EN-MEN-TR-3k.txt", 0.0, 50.0),
    "rare-words": ("EN-RW-STANFORD.txt", 0.0, 10.0),
    "mturk-771": ("EN-MTurk-771.txt", 1.0, 5.0),
    "ws-353": ("EN-WS-353-ALL.txt", 0.0, 10.0),
}


@dataclass(frozen=True, eq=False)
class WordPairs:
    """Pairs of words and people's rating of each, between the two ends of `scale`. A pair may stand twice."""

    name: str
    pairs: tuple[tuple[str, str], ...]
    ratings: Float[Tensor, " pairs"]
    scale: tuple[float, float]

    def within(self, vocabulary: Vocabulary, *, lower: bool = True) -> WordPairs:
        """The pairs whose words are both in the vocabulary; `<unk>` replaces none.

        lower: put the words in lower case first. The share of pairs that are covered is then
        `len(pairs.within(vocabulary)) / len(pairs)`.
        """
        pairs = [(a.lower(), b.lower()) if lower else (a, b) for a, b in self.pairs]
        kept = [i for i, (a, b) in enumerate(pairs) if a in vocabulary and b in vocabulary]
        return WordPairs(self.name, tuple(pairs[i] for i in kept), self.ratings[kept], self.scale)

    def encode(self, vocabulary: Vocabulary) -> Int[Tensor, "pairs two"]:
        """Word numbers of both words. Raises ValueError for a word outside the vocabulary; see `within`."""
        for word in (word for pair in self.pairs for word in pair):
            if word not in vocabulary:
                raise ValueError(
                    f"word is {word!r}; it must be in the vocabulary: keep the covered pairs with within() first"
                )
        return torch.tensor([[vocabulary[a], vocabulary[b]] for a, b in self.pairs], dtype=torch.int64).view(-1, 2)

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, kw_only=True, eq=False)
class WordSimilarity(Dataset, Mapping[str, WordPairs]):
    """The six sets by name: simlex-999, verb-143, men, rare-words, mturk-771, ws-353."""

    sets: dict[str, WordPairs]

    def __getitem__(self, name: str) -> WordPairs:
        return self.sets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sets)

    def __len__(self) -> int:
        return len(self.sets)


@dataclass(frozen=True, kw_only=True, eq=False)
class Analogies(Dataset):
    """Questions a : b = c : d by section, such as Athens : Greece = Oslo : Norway."""

    sections: dict[str, tuple[Question, ...]]


def wordsim(store: Store) -> WordSimilarity:
    """Six sets of word pairs with ratings of similarity or relatedness, as they are in the files.

    Pairs that stand twice are kept: `sly strange` in SimLex-999 (in both orders), `discovery rediscovery` in Rare
    Words, `money cash` and `money bank` in WordSim-353. Verb-143 has 144 pairs.
    """
    sets = {}
    for name, (file, low, high) in _SETS.items():
        sets[name] = _read_pairs(store, name, f"wordsim/{file}", (low, high))
    files = [f"wordsim/{file}" for file, _, _ in _SETS.values()]
    return WordSimilarity(
        name="wordsim",
        sets=sets,
        sha256={file: store.sha256(file) for file in files},
        terms=CATALOGUE["wordsim"].terms,
    )


def _read_pairs(store: Store, name: str, file: str, scale: tuple[float, float]) -> WordPairs:
    path = store.path(file)
    pairs, ratings = [], []
    for number, line in enumerate(lines(read_text(path)), 1):
        try:
            first, second, rating = line.split()
            ratings.append(float(rating))
        except ValueError:
            raise FormatError(f"{path}, line {number}: {line!r} is not two words and a number") from None
        pairs.append((first, second))
    return WordPairs(name, tuple(pairs), torch.tensor(ratings), scale)


def analogy(store: Store) -> Analogies:
    """Google's analogy questions: 19,544 in 14 sections (Mikolov et al. 2013, arXiv:1301.3781)."""
    file = "analogy/questions-words.txt"
    path = store.path(file)
    sections: dict[str, list[Question]] = {}
    here: list[Question] = []
    for number, line in enumerate(lines(read_text(path)), 1):
        if line.startswith(": "):
            here = sections.setdefault(line[2:].strip(), [])
            continue
        words = line.split()
        if len(words) != 4 or not sections:
            raise FormatError(f"{path}, line {number}: {line!r} is not a question of four words below a section's name")
        here.append((words[0], words[1], words[2], words[3]))
    return Analogies(
        name="analogy",
        sections={name: tuple(questions) for name, questions in sections.items()},
        sha256={file: store.sha256(file)},
        terms=CATALOGUE["analogy"].terms,
    )
