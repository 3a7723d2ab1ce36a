"""The configurations of a language model's runs: `TrainConfig`, whose fields are the flags of the command line, and
`FirstStepsConfig`, a training that ends after its first steps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from tiedlib.lab.runs.configuration import RunConfig, option
from tiedlib.tying import PRESETS

__all__ = ["FirstStepsConfig", "TrainConfig", "check_precision", "has_bfloat16"]


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """All that decides the numbers of a run. Raises ValueError, with name, value and rule, for what cannot be."""

    kind: ClassVar[str] = "language-model"
    run: ClassVar[str] = "tiedlib.lab.language_model.training:LanguageModelRun"

    corpus: str = option("ptb", "name of a data set, or path of a plain text file")
    tokens: int | None = option(None, "number of training tokens, from the beginning of the text (none: all)", low=2)
    vocabulary_size: int | None = option(None, "number of words in the vocabulary, <unk> included (none: all)", low=2)
    dim: int = option(200, "size of an embedding", low=1)
    hidden: int = option(200, "size of the state of an LSTM layer", low=1)
    layers: int = option(2, "number of LSTM layers", low=1)
    tied: bool = option(False, "use one matrix as input and as output embedding")
    projection: bool = option(False, "put a matrix P between the last state and the output embedding")
    projection_bias: bool = option(False, "give the matrix P a bias, as the authors' code does")
    penalty: str = option(
        "none",
        "form of the penalty on the projection matrix P",
        choices=("none", "code", "frobenius", "spectral", "squared"),
    )
    penalty_strength: float = option(
        0.15, "weight of the penalty on P, in nats a window (the form code does not use it)", low=0.0
    )
    dropout: float = option(
        0.0, "probability of dropping a number, on the connections between layers", low=0.0, below=1.0
    )
    init_range: float = option(0.1, "parameters are drawn uniformly between minus and plus this number", above=0.0)
    output_bias: bool = option(True, "train the bias b of the output layer (no: it stays 0)")
    freeze_input: bool = option(False, "keep the input embedding as it was drawn")
    augmented_alpha: float = option(0.0, "weight of the augmented loss of Inan et al. (0: without this loss)", low=0.0)
    augmented_tau: float = option(1.0, "temperature of the augmented loss", above=0.0)
    optimizer: str = option("sgd", "rule that updates the parameters", choices=("sgd", "adam"))
    lr: float = option(1.0, "learning rate of the first epochs", above=0.0)
    clip: float = option(5.0, "largest norm of the gradient, in nats a window", above=0.0)
    early_clip: float | None = option(
        None, "largest norm of the gradient in the epochs at the full rate (none: the same as clip)", above=0.0
    )
    constant_epochs: int = option(
        4, "epoch i, counted from 0, has the rate lr * decay ** max(i - constant_epochs, 0)", low=0
    )
    decay: float = option(0.5, "factor on the learning rate for each later epoch", above=0.0, high=1.0)
    epochs: int = option(13, "number of passes over the training text", low=1)
    batch: int = option(20, "number of sequences in a batch", low=1)
    unroll: int = option(20, "number of time steps in a window", low=1)
    precision: str = option("float32", "number format of the matrix products", choices=("float32", "bfloat16"))

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_together(self)

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> TrainConfig:
        """The published model `name` of `tiedlib.tying.PRESETS`, with changes. Raises ValueError for another name."""
        if name not in PRESETS:
            raise ValueError(f"preset is {name!r}; it must be one of {', '.join(PRESETS)}")
        return cls(**{**dataclasses.asdict(PRESETS[name]), **changes})

    def cuts(self) -> dict[str, Any]:
        """The options of `load` that this configuration sets."""
        cuts = {"tokens": self.tokens, "vocabulary_size": self.vocabulary_size}
        return {name: size for name, size in cuts.items() if size is not None}

    def lr_factor(self, epoch: int) -> float:
        """decay ** max(i − constant_epochs, 0), i from 0; as the authors', constant_epochs + 1 epochs at full rate."""
        return float(self.decay ** max(epoch - self.constant_epochs, 0))

    def clip_at(self, epoch: int) -> float:
        """The largest norm in epoch i from 0: early_clip, where it is set, up to i = constant_epochs, and clip after it."""
        return self.clip if self.early_clip is None or epoch > self.constant_epochs else self.early_clip


@dataclass(frozen=True)
class FirstStepsConfig(TrainConfig):
    """A `TrainConfig` cut off after `steps`, by plain SGD at a constant rate, and what may be changed about P and its offset."""

    kind: ClassVar[str] = "language-model-first-steps"
    run: ClassVar[str] = "tiedlib.lab.language_model.first_steps:FirstStepsRun"

    steps: int = option(200, "number of updates; an epoch must have more", low=1)
    offset_lr: float = option(
        1.0, "factor on the learning rate of the bias of P (0: the bias keeps its start)", low=0.0
    )
    offset_zero: bool = option(False, "let the bias of P start at 0")
    offset_penalty: float = option(
        0.0, "weight of half the squared norm of the bias of P, which is added to the loss", low=0.0
    )
    identity: bool = option(False, "let P be the identity matrix, and keep it so")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer != "sgd":
            raise ValueError(f"optimizer is {self.optimizer!r}; a start is trained by sgd")
        offset = (self.offset_lr, self.offset_zero, self.offset_penalty)
        if offset != (1.0, False, 0.0) and not self.projection_bias:
            raise ValueError(
                f"offset_lr, offset_zero, offset_penalty are {offset} without projection_bias; they act on that bias"
            )
        if self.identity and not (self.projection and self.dim == self.hidden):
            raise ValueError(
                f"identity is True with projection {self.projection}, dim {self.dim}, hidden {self.hidden}; "
                "P must be there, and be square"
            )


def _check_together(config: TrainConfig) -> None:
    if config.projection_bias and not config.projection:
        raise ValueError("projection_bias is True without projection; set projection as well, or leave the bias out")
    if config.penalty != "none" and not config.projection:
        raise ValueError(f"penalty is {config.penalty!r} without projection; it acts on P, so set projection as well")
    if config.tied and config.dim != config.hidden and not config.projection:
        raise ValueError(
            f"tied is True with dim {config.dim} and hidden {config.hidden}; "
            "they must be equal, or set projection as well"
        )
    if config.tied and config.freeze_input:
        raise ValueError(
            "freeze_input is True with tied; the one matrix is the output embedding too and cannot stay frozen"
        )


def check_precision(precision: str, device: str = "cpu") -> None:
    """Raise ValueError for a precision that this machine's processor, or with device "cuda" its GPU, lacks."""
    if precision == "bfloat16" and device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError("precision is 'bfloat16'; this GPU has no instructions for it, use float32")
    if precision == "bfloat16" and device == "cpu" and not has_bfloat16():
        raise ValueError("precision is 'bfloat16'; this processor has no instructions for it, use float32")


def has_bfloat16() -> bool:
    """Whether the processor itself multiplies bfloat16; torch would imitate it elsewhere, far slower than float32."""
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if capable is not None and capable():
        return True
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False  # not Linux
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
