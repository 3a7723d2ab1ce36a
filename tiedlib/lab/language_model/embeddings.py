"""How good and how alike embeddings are: the scores that need a run's weights, for its record.

Measures of `tiedlib.tying` (Press & Wolf 2016, arXiv:1608.05859): cosines against people's ratings of word
pairs, and against the cosines of another embedding of the same words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlib.lab.data import EOS, UNK, Corpus, DataError, Vocabulary, WordPairs, load
from tiedlib.lab.resources import resource
from tiedlib.lab.runs import checkpoints
from tiedlib.lab.runs.records import FORMAT, RecordError
from tiedlib.tying import LanguageModel, embedding_similarity, word_similarity

__all__ = ["compare_embeddings", "embedding_scores", "frequent_words", "load_embeddings", "weight_statistics"]

ENGLISH = ("ptb", "wikitext-2", "text8", "manual")  # corpora whose tokens are words that people have rated
MATRICES = ("embedding.weight", "projection.weight", "output.weight")
FREQUENT = 1000  # words, the most frequent ones, over which two embeddings are compared


def embedding_scores(model: LanguageModel, corpus: Corpus) -> dict[str, Any]:
    """What a record says of the embeddings of a model, by role: "tied", or "input" and "output".

    word_similarity: Spearman's ρ of cosines against people's ratings for each set of word pairs, and how many pairs
    have both words known; None, with the reason as `why`, where that cannot be had. input_output: how alike both are.
    """
    u, v = model.embedding.weight.detach(), model.output.weight.detach()
    roles = {"tied": u} if model.tied else {"input": u, "output": v}
    scores: dict[str, Any] = {}
    words = frequent_words(corpus.vocabulary)
    if not model.tied and len(words) >= 3:
        scores = {"input_output": embedding_similarity(u[words], v[words]), "frequent_words": len(words)}
    if corpus.name not in ENGLISH or corpus.unit != "word":
        return {**scores, "word_similarity": None, "why": "the tokens of this corpus are not English words"}
    try:
        sets = load("wordsim")
    except DataError as error:
        return {**scores, "word_similarity": None, "why": str(error)}
    return {
        **scores,
        "word_similarity": {role: _rated(matrix, corpus.vocabulary, sets) for role, matrix in roles.items()},
    }


def frequent_words(vocabulary: Vocabulary) -> list[int]:
    """The numbers of the most frequent words over which two embeddings are compared, without `<unk>` and `<eos>`."""
    return [number for number, word in enumerate(vocabulary) if word not in (UNK, EOS)][:FREQUENT]


def _rated(matrix: Tensor, vocabulary: Vocabulary, sets: Mapping[str, WordPairs]) -> dict[str, Any]:
    scores = {}
    for name, rated in sets.items():
        known = rated.within(vocabulary)
        score = word_similarity(matrix, known.encode(vocabulary), known.ratings) if len(known) > 2 else None
        scores[name] = {"spearman": score, "pairs": len(known), "of": len(rated)}
    return scores


def compare_embeddings(out: Path) -> dict[str, Any]:
    """How alike embeddings are (Spearman's ρ of cosines, 1,000 most frequent words), from the checkpoints below `out`.

    seeds: for each seed with a finished `untied-s<seed>` and `tied-s<seed>`: input_output (U, V of the untied model),
    input_tied (U, S), output_tied (V, S). baselines: for neighbouring seeds of one kind: input_input, output_output,
    tied_tied, which is what two runs that differ in their start alone reach. weights: `weight_statistics` of each run.
    """
    models: dict[int, dict[str, Tensor]] = {}
    shas: dict[str, str] = {}
    for seed in range(100):
        weights = [_finished(out / f"{kind}-s{seed}" / "checkpoint.pt") for kind in ("untied", "tied")]
        if weights[0] is None or weights[1] is None:
            continue
        (untied, first), (tied, second) = weights[0], weights[1]
        models[seed] = {
            "input": untied["embedding.weight"],
            "output": untied["output.weight"],
            "tied": tied["embedding.weight"],
        }
        shas |= {f"untied-s{seed}": first, f"tied-s{seed}": second}
    seeds = {
        str(seed): {
            f"{a}_{b}": embedding_similarity(m[a], m[b])
            for a, b in (("input", "output"), ("input", "tied"), ("output", "tied"))
        }
        for seed, m in models.items()
    }
    baselines = {
        f"{seed}-{seed + 1}": {f"{role}_{role}": embedding_similarity(m[role], models[seed + 1][role]) for role in m}
        for seed, m in models.items()
        if seed + 1 in models
    }
    return {
        "format": FORMAT,
        "words": FREQUENT,
        "seeds": seeds,
        "baselines": baselines,
        "weights": weight_statistics(out),
        "weights_sha256": shas,
    }


def weight_statistics(out: Path) -> dict[str, dict[str, float]]:
    """What the weights of each finished run below `out` say: Frobenius norms of the embeddings, of P and of all that the LSTM
    has, and, untied, linear_residual = min_A ‖V − UA‖²_F / ‖V‖²_F: how far V is from a linear image of U."""
    found = {}
    for path in sorted(out.glob("*/checkpoint.pt")):
        saved = checkpoints.load(path)
        if saved["record"] is None:
            continue
        w = saved["model"]
        stats = {name.split(".")[0]: float(w[name].norm()) for name in MATRICES if name in w}
        stats["lstm"] = math.sqrt(sum(float(t.square().sum()) for name, t in w.items() if name.startswith("lstm.")))
        if "output.weight" in w:
            u, v = w["embedding.weight"].double(), w["output.weight"].double()
            best = u @ torch.linalg.lstsq(u, v).solution
            stats["linear_residual"] = float((v - best).square().sum() / v.square().sum())
        found[path.parent.name] = stats
    return found


def _finished(path: Path) -> tuple[dict[str, Tensor], str] | None:
    """The embeddings of a finished run, cut to the frequent words, and the hash of its weights."""
    if not path.exists():
        return None
    saved = checkpoints.load(path)
    if saved["record"] is None:
        return None
    rows = frequent_words(Vocabulary.from_list(saved["vocabulary"]))
    weights = {name: w[rows] for name, w in saved["model"].items() if name in ("embedding.weight", "output.weight")}
    return weights, saved["record"]["weights_sha256"]


def load_embeddings(experiment: str) -> dict[str, Any]:
    """What `compare_embeddings` recorded for the runs of an experiment, such as "tying-slice". Raises RecordError where it is
    missing or damaged."""
    path = f"results/{experiment}/embeddings.json"
    try:
        found: dict[str, Any] = json.loads(resource(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} could not be read ({error})") from None
    return found
