"""Text from a trained model: `generate` continues a prompt, word after word (or character after character)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tiedlib import _arguments as arguments
from tiedlib.lab.data import EOS, Vocabulary
from tiedlib.lab.data.text import plain
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.training import build_model
from tiedlib.lab.runs import checkpoints
from tiedlib.tying import LanguageModel

__all__ = ["continue_text", "generate", "load_model", "sample"]


def sample(
    logits: Float[Tensor, " vocab"], *, temperature: float = 1.0, top_k: int | None = None, generator: torch.Generator
) -> int:
    """A word drawn from softmax(z / τ), or from the top_k highest of z alone; τ = temperature = 0 takes the highest.

    Raises ValueError for a temperature below 0 or not finite, or a top_k < 1.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be at least 0 and finite")
    if top_k is not None:
        arguments.whole("top_k", top_k)
    if temperature == 0:
        return int(logits.argmax())
    values, words = logits.topk(min(top_k or len(logits), len(logits)))
    scaled = (values.double() - values[0].double()) / temperature  # the highest is 0: no overflow, however small τ
    return int(words[torch.multinomial(torch.softmax(scaled, 0), 1, generator=generator)])


@torch.no_grad()
def continue_text(
    model: LanguageModel,
    prompt: Int[Tensor, " prompt"],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator,
) -> Int[Tensor, " length"]:
    """`length` words that the model draws after `prompt` (at least one word), each from all words before it.

    Raises ValueError for an empty prompt, length < 1, and what `sample` raises.
    """
    if len(prompt) < 1 or length < 1:
        raise ValueError(f"prompt has {len(prompt)} words and length is {length}; both must be at least 1")
    training = model.training
    model.eval()
    try:
        logits, state = model(prompt[None])
        words: list[int] = []
        for _ in range(length):
            words.append(sample(logits[0, -1], temperature=temperature, top_k=top_k, generator=generator))
            logits, state = model(torch.tensor([words[-1:]]), state)
    finally:
        model.train(training)
    return torch.tensor(words)


def load_model(folder: Path) -> tuple[LanguageModel, Vocabulary, str]:
    """The model of the run in `folder`, its vocabulary, and what one token is. Raises CheckpointError."""
    path = folder / "checkpoint.pt"
    saved = checkpoints.load(path, ("vocabulary", "unit"))
    try:
        config, vocabulary = TrainConfig(**saved["config"]), Vocabulary.from_list(saved["vocabulary"])
        with torch.random.fork_rng(devices=[]):
            model = build_model(config, len(vocabulary))
        model.load_state_dict(saved["model"])
    except (RuntimeError, ValueError, TypeError) as error:
        raise checkpoints.CheckpointError(f"{path} is damaged or of another tiedlib ({error})") from error
    return model, vocabulary, saved["unit"]


def generate(
    folder: Path,
    prompt: str = "",
    length: int = 100,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """The prompt and `length` tokens after it, by the model in `folder`; a line's end of the prompt (any of LF, CRLF, CR) is
    read as `<eos>`, as in training, and `<eos>` becomes a line's end.

    An empty prompt begins a sentence (after `<eos>`, or the most frequent token where there is none). Raises ValueError
    for a word of the prompt that the model does not know, where it has no `<unk>` to stand for it, and as
    `continue_text`; CheckpointError for a folder without a readable checkpoint.
    """
    model, vocabulary, unit = load_model(folder)
    prompt = plain(prompt)
    *whole, last = ([*line.split()] for line in prompt.split("\n"))
    words = [*(word for line in whole if line for word in (*line, EOS)), *last] if EOS in vocabulary else prompt.split()
    given = vocabulary.encode(list(prompt) if unit == "character" else words)
    if not len(given):
        given = vocabulary.encode([EOS]) if EOS in vocabulary else torch.tensor([0])
    generator = torch.Generator().manual_seed(seed)
    new = continue_text(model, given, length, temperature=temperature, top_k=top_k, generator=generator)
    if unit == "character":
        return prompt + "".join(vocabulary.decode(new))
    return " ".join([*words, *vocabulary.decode(new)]).replace(f" {EOS}", "\n").replace("\n ", "\n")
