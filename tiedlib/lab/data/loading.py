"""`load`, `load_corpus`, `names` and `fetch`: from the name of a set to its data."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

from tiedlib.lab.data import corpora, images, sentences, toy, trees, words
from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.corpora import Corpus, Dataset
from tiedlib.lab.data.errors import DataError, MissingFileError, UnknownNameError
from tiedlib.lab.data.images import Images
from tiedlib.lab.data.sentences import SentencePairs, TextClassification, Translations
from tiedlib.lab.data.store import Store
from tiedlib.lab.data.toy import ToyLanguage
from tiedlib.lab.data.trees import SentimentTrees, Treebank
from tiedlib.lab.data.words import Analogies, WordSimilarity

Where = Literal["comes with Python or is made here", "downloaded", "in TIEDLIB_DATA", "not downloaded", "partly"]

_FROM_FILES: dict[str, Callable[..., Dataset]] = {
    "ptb": corpora.ptb,
    "wikitext-2": corpora.wikitext_2,
    "text8": corpora.text8,
    "tinyshakespeare": corpora.tinyshakespeare,
    "wordsim": words.wordsim,
    "analogy": words.analogy,
    "multi30k": sentences.multi30k,
    "ud-ewt": trees.ud_ewt,
    "mnist": images.mnist,
    "sick": sentences.sick,
    "sst": trees.sst,
    "trec": sentences.trec,
    "ag_news": sentences.ag_news,
}
_BUILT_IN: dict[str, Callable[..., Dataset]] = {
    "digits": images.digits,
    "manual": corpora.manual,
    "toy_language": toy.toy_language,
}
_CORPORA = ("ptb", "wikitext-2", "text8", "tinyshakespeare", "manual", "toy_language")


@dataclass(frozen=True)
class SetInfo:
    """A line of `tiedlib data list`. megabytes: of all files (0: nothing to download). where: whether it is here."""

    name: str
    description: str
    megabytes: float
    terms: str
    where: Where


@overload
def load(
    name_or_path: Literal["ptb", "wikitext-2", "text8", "tinyshakespeare", "manual"],
    *,
    store: Store | None = None,
    **options: Any,
) -> Corpus: ...
@overload
def load(name_or_path: Literal["toy_language"], *, store: Store | None = None, **options: Any) -> ToyLanguage: ...
@overload
def load(name_or_path: Literal["wordsim"], *, store: Store | None = None, **options: Any) -> WordSimilarity: ...
@overload
def load(name_or_path: Literal["analogy"], *, store: Store | None = None, **options: Any) -> Analogies: ...
@overload
def load(name_or_path: Literal["multi30k"], *, store: Store | None = None, **options: Any) -> Translations: ...
@overload
def load(name_or_path: Literal["ud-ewt"], *, store: Store | None = None, **options: Any) -> Treebank: ...
@overload
def load(name_or_path: Literal["sst"], *, store: Store | None = None, **options: Any) -> SentimentTrees: ...
@overload
def load(name_or_path: Literal["sick"], *, store: Store | None = None, **options: Any) -> SentencePairs: ...
@overload
def load(
    name_or_path: Literal["trec", "ag_news"], *, store: Store | None = None, **options: Any
) -> TextClassification: ...
@overload
def load(name_or_path: Literal["mnist", "digits"], *, store: Store | None = None, **options: Any) -> Images: ...
@overload
def load(name_or_path: Path, *, store: Store | None = None, **options: Any) -> Corpus: ...
@overload
def load(name_or_path: str, *, store: Store | None = None, **options: Any) -> Dataset: ...
def load(name_or_path: str | Path, *, store: Store | None = None, **options: Any) -> Dataset:
    """A data set by name, fetched first where it has to be, or a plain text file of the user's own by path.

    Names: see `names`. options: those of the set's loader; the texts take vocabulary_size and tokens (toy_language also
    seed; text8 and a path also unit="word"|"character"; a path also punctuation), multi30k form="tok"|"raw", trec
    labels="coarse"|"fine". A path's last 10 % are `valid` and its `test` is None: hold a test text back yourself. A
    name goes before a file of the same name. store: where files come from (None: `Store.from_environment()`).

    Raises UnknownNameError, TypeError for an option that the set does not have, or another DataError.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in _BUILT_IN:
        return _call(name, _BUILT_IN[name], (), options)
    if isinstance(name_or_path, str) and name in _FROM_FILES:
        return _call(name, _FROM_FILES[name], (store or Store.from_environment(),), options)
    path = Path(name_or_path).expanduser()
    if _is_file(path):
        return _call(name, corpora.plain_text, (path,), options)
    if isinstance(name_or_path, Path) or "/" in name or "\\" in name or path.suffix:
        raise MissingFileError(f"there is no file {name!r}: check the path, or choose a set: {', '.join(CATALOGUE)}")
    raise _unknown(name)


def load_corpus(name_or_path: str | Path, *, store: Store | None = None, **options: Any) -> Corpus:
    """As `load`, for a text to train a language model on; a set that is none is a DataError, before it is fetched."""
    if isinstance(name_or_path, str) and name_or_path in CATALOGUE and name_or_path not in _CORPORA:
        raise DataError(
            f"{name_or_path!r} is not a text to train a language model on: choose one of {', '.join(_CORPORA)}, "
            "or the path of a text file"
        )
    corpus = load(name_or_path, store=store, **options)
    if not isinstance(corpus, Corpus):
        raise TypeError(f"name_or_path is {name_or_path!r}; it must name a text, and names a {type(corpus).__name__}")
    return corpus


def names(*, store: Store | None = None) -> list[SetInfo]:
    """All sets, with what they are and whether they are here."""
    store = store or Store.from_environment()
    return [
        SetInfo(entry.name, entry.description, entry.megabytes, entry.terms, _where(entry.name, store))
        for entry in CATALOGUE.values()
    ]


def fetch(name: str, *, store: Store | None = None, progress: bool = True) -> list[Path]:
    """All files of a set, downloaded where they are not here yet; empty for a set that needs none.

    Raises UnknownNameError, or another DataError.
    """
    if name not in CATALOGUE:
        raise _unknown(name)
    if name in _BUILT_IN:
        return []
    store = store or Store.from_environment()
    files = store.files(name)
    if not files:
        raise MissingFileError(f"there is no file of {name!r} in {store.root}: put them there, or unset TIEDLIB_DATA")
    return [store.path(file, progress=progress) for file in files]


def _where(name: str, store: Store) -> Where:
    if name in _BUILT_IN:
        return "comes with Python or is made here"
    wanted = store.files(name, every=True)
    here = [file for file in wanted if store.has(file)]
    if len(here) == len(wanted):
        return "downloaded" if store.folder is None else "in TIEDLIB_DATA"
    return "partly" if here else "not downloaded"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for a file
        return False


def _call(name: str, loader: Callable[..., Dataset], arguments: tuple[Any, ...], options: dict[str, Any]) -> Dataset:
    allowed = [key for key, p in inspect.signature(loader).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in allowed:
            raise TypeError(f"option {option!r}: {name!r} has no such option; it has {', '.join(allowed) or 'none'}")
    return loader(*arguments, **options)


def _unknown(name: str) -> UnknownNameError:
    near = difflib.get_close_matches(name.lower().replace("_", "-"), CATALOGUE, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownNameError(f"there is no data set {name!r}: {hint}The sets are {', '.join(CATALOGUE)}")
