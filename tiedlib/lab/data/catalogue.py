"""What each data set is, how large it is, and under which terms its source gives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One data set. megabytes: what a download of all its files moves (0: made here). terms:
    as the source states them.
    """

    name: str
    title: str
    description: str
    megabytes: float
    terms: str


_ENTRIES = (
    Entry(
        "ptb",
        "Penn Treebank, word level",
        "929,589 words of newspaper text with a vocabulary of 10,000, prepared by Mikolov",
        6.0,
        "licence of the data not stated in the source; the Wall Street Journal text underneath belongs to the LDC. "
        "Do not redistribute it.",
    ),
    Entry(
        "wikitext-2",
        "WikiText-2, word level",
        "2,088,628 words of good Wikipedia articles with a vocabulary of 33,278",
        13.2,
        "not stated in the source's folder; the Salesforce/wikitext data card states CC BY-SA 3.0 and GFDL.",
    ),
    Entry(
        "text8",
        "text8",
        "the first 100,000,000 characters of cleaned English Wikipedia: a to z and spaces",
        31.3,
        "licence of the data not stated in the source; the text comes from English Wikipedia.",
    ),
    Entry(
        "tinyshakespeare",
        "Tiny Shakespeare",
        "1,115,394 characters of Shakespeare's plays",
        1.1,
        "terms of the text not stated; the plays are in the public domain (the repository is MIT).",
    ),
    Entry(
        "wordsim",
        "Word similarity: SimLex-999, Verb-143, MEN, Rare Words, MTurk-771, WordSim-353",
        "7,301 pairs of words, each with people's rating of how similar they are",
        0.2,
        "terms of each set not stated in the source, which asks to cite the paper of each set (the repository is MIT).",
    ),
    Entry(
        "analogy",
        "Google analogy questions",
        "19,544 questions of the form Athens : Greece = Oslo : ?",
        0.6,
        "the file carries no terms of its own (the repository is Apache-2.0).",
    ),
    Entry(
        "multi30k",
        "Multi30k, English and German, task 1",
        "31,014 descriptions of pictures in English and German",
        5.6,
        "solely for researchers and educators, for non-commercial research and educational purposes; derived in part "
        "from Flickr30K.",
    ),
    Entry(
        "ud-ewt",
        "Universal Dependencies English EWT, release 2.16",
        "16,622 sentences from the web with parts of speech and dependency trees",
        17.8,
        "CC BY-SA 4.0, for annotations and database rights; the texts come from the sources of the LDC English Web "
        "Treebank.",
    ),
    Entry(
        "mnist",
        "MNIST",
        "70,000 handwritten digits of 28 × 28 pixels",
        11.6,
        "licence of the data not stated in the source.",
    ),
    Entry(
        "sick",
        "SICK, the split of SemEval-2014 task 1",
        "9,927 pairs of sentences with relatedness and entailment",
        1.1,
        "not stated in the source; the data card of SICK states CC BY-NC-SA 3.0.",
    ),
    Entry(
        "sst",
        "Stanford Sentiment Treebank",
        "11,855 sentences of film reviews as trees with a sentiment at every node",
        0.8,
        "licence of the data not stated in the source.",
    ),
    Entry(
        "trec",
        "TREC question classification",
        "5,952 questions in 6 coarse and 50 fine classes",
        0.4,
        "terms of the data not stated in the source.",
    ),
    Entry(
        "ag_news",
        "AG News",
        "127,600 news items in 4 classes",
        31.3,
        "provided by the academic community for research purposes and other non-commercial activity.",
    ),
    Entry(
        "digits",
        "scikit-learn's digits",
        "1,797 handwritten digits of 8 × 8 pixels; comes with scikit-learn",
        0.0,
        "BSD-3-Clause, as a part of scikit-learn; from the UCI repository (CC BY 4.0).",
    ),
    Entry(
        "manual",
        "the English of Python's own manual",
        "about 40,000 words; comes with Python",
        0.0,
        "PSF License Version 2, as a part of Python.",
    ),
    Entry(
        "toy_language",
        "a made-up language",
        "sentences of words with Zipf's frequencies and known word classes; made here from a seed",
        0.0,
        "made by this program: no terms.",
    ),
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
