"""Data sets, by name and typed.

    from tiedlib.lab.data import contiguous_batches, load, windows

    corpus = load("ptb")                                  # Corpus: vocabulary, train, valid, test, sha256, terms
    rows = contiguous_batches(corpus.train, batch_size=20)        # (20, 46479), rows of consecutive tokens
    for inputs, targets in windows(rows, unroll=35):              # each (20, 35); targets one token later
        ...

- `load(name_or_path, **options)`: a set by name, or a text file of your own by path. `load_corpus` is the same for
  texts only.
- `names()`: all sets with description, size, terms and whether they are here; `fetch(name)` downloads one beforehand.
- `Corpus(name, vocabulary, train, valid, test, unit, sha256, terms, partial)`: texts as word numbers; every other set
  has a type of its own (`ToyLanguage`, `WordSimilarity`, `Analogies`, `TextClassification`, `SentencePairs`,
  `Translations`, `Treebank`, `SentimentTrees`, `Images`). All are frozen dataclasses with name, sha256 of the files
  read, terms, partial.
- `Vocabulary`: words by frequency, `encode`, `decode`, `<unk>`, `<eos>`.
- `contiguous_batches`, `windows`: batch first, views, for truncated back-propagation through time with carried state.
- `Store`: where files come from. `TIEDLIB_DATA=<folder>` reads them from a folder, with the paths of the registry, and
  never uses the network; `TIEDLIB_CACHE=<folder>` moves the cache that downloads go to.
- Errors: all are a `DataError` whose message says what to do.
"""

from tiedlib.lab.data.batches import Windows, contiguous_batches, windows
from tiedlib.lab.data.corpora import Corpus, Dataset
from tiedlib.lab.data.errors import (
    BadByteError,
    CacheError,
    DataError,
    DiskFullError,
    DownloadError,
    EmptyFileError,
    FormatError,
    MissingFileError,
    TruncatedFileError,
    UnknownNameError,
    WrongHashError,
)
from tiedlib.lab.data.images import Images, LabelledImages
from tiedlib.lab.data.loading import SetInfo, fetch, load, load_corpus, names
from tiedlib.lab.data.sentences import LabelledTexts, SentencePair, SentencePairs, TextClassification, Translations
from tiedlib.lab.data.store import Store
from tiedlib.lab.data.text import tokenize
from tiedlib.lab.data.toy import ToyLanguage
from tiedlib.lab.data.trees import Sentence, SentimentTrees, Tree, Treebank
from tiedlib.lab.data.vocabulary import EOS, UNK, Vocabulary
from tiedlib.lab.data.words import Analogies, WordPairs, WordSimilarity

__all__ = [
    "EOS",
    "UNK",
    "Analogies",
    "BadByteError",
    "CacheError",
    "Corpus",
    "DataError",
    "Dataset",
    "DiskFullError",
    "DownloadError",
    "EmptyFileError",
    "FormatError",
    "Images",
    "LabelledImages",
    "LabelledTexts",
    "MissingFileError",
    "Sentence",
    "SentencePair",
    "SentencePairs",
    "SentimentTrees",
    "SetInfo",
    "Store",
    "TextClassification",
    "ToyLanguage",
    "Translations",
    "Tree",
    "Treebank",
    "TruncatedFileError",
    "UnknownNameError",
    "Vocabulary",
    "Windows",
    "WordPairs",
    "WordSimilarity",
    "WrongHashError",
    "contiguous_batches",
    "fetch",
    "load",
    "load_corpus",
    "names",
    "tokenize",
    "windows",
]
