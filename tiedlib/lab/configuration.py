"""The configuration of a run, all that decides its numbers: `TrainConfig` of a language model, whose fields are the flags
of the command line, and `VAEConfig` of a variational auto-encoder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tiedlib.tying import PRESETS

__all__ = ["TrainConfig", "VAEConfig", "check_precision", "completed", "differences", "has_bfloat16", "option"]


def option(default: Any, what: str, **limits: Any) -> Any:
    """A field of the configuration: default, what it is and in which unit (the flag's help), its limits."""
    return field(default=default, metadata={"help": what, **limits})


@dataclass(frozen=True)
class TrainConfig:
    """All that decides the numbers of a run. Raises ValueError, with name, value and rule, for what cannot be."""

    corpus: str = option("ptb", "name of a data set, or path of a plain text file")
    tokens: int | None = option(None, "training tokens, the first so many (none: all)", low=2)
    vocabulary_size: int | None = option(None, "words, <unk> among them (none: all)", low=2)
    dim: int = option(200, "numbers in an embedding", low=1)
    hidden: int = option(200, "numbers in the state of an LSTM layer", low=1)
    layers: int = option(2, "LSTM layers", low=1)
    tied: bool = option(False, "one matrix for input and output embedding")
    projection: bool = option(False, "a matrix P from the last state to the output embedding")
    projection_bias: bool = option(False, "a bias for P, as in the authors' code")
    penalty: str = option("none", "on P", choices=("none", "code", "frobenius", "spectral", "squared"))
    penalty_strength: float = option(0.15, "lambda of the penalty in nats a window (not for code)", low=0.0)
    dropout: float = option(0.0, "probability of dropping, non-recurrent connections", low=0.0, below=1.0)
    init_range: float = option(0.1, "parameters start uniform in plus or minus this", above=0.0)
    output_bias: bool = option(True, "train the output bias b (no: it stays 0)")
    freeze_input: bool = option(False, "keep the input embedding at its random start")
    augmented_alpha: float = option(0.0, "weight of the augmented loss of Inan et al. (0: without)", low=0.0)
    augmented_tau: float = option(1.0, "its temperature", above=0.0)
    optimizer: str = option("sgd", "update rule", choices=("sgd", "adam"))
    lr: float = option(1.0, "learning rate", above=0.0)
    clip: float = option(5.0, "largest norm of the gradient, nats a window", above=0.0)
    early_clip: float | None = option(None, "clip of the epochs at full rate (none: that of all)", above=0.0)
    constant_epochs: int = option(4, "epoch i from 0 runs at lr * decay ** max(i - this, 0)", low=0)
    decay: float = option(0.5, "factor on lr for each later epoch", above=0.0, high=1.0)
    epochs: int = option(13, "passes over the training text", low=1)
    batch: int = option(20, "sequences side by side", low=1)
    unroll: int = option(20, "time steps of a window", low=1)
    seed: int = option(0, "of all randomness", low=0, high=2**63 - 1)
    precision: str = option("float32", "of the products", choices=("float32", "bfloat16"))
    threads: int | None = option(None, "processor threads (none: torch's own choice)", low=1)

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            _check(option.name, getattr(self, option.name), option)
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

    def digest(self) -> str:
        """Eight letters and digits that differ between configurations, and stay where a field is added whose default is kept."""
        new = {option.name for option in dataclasses.fields(self)} - _FIRST_FIELDS
        at_rest = {option.name for option in dataclasses.fields(self) if getattr(self, option.name) == option.default}
        said = {name: value for name, value in dataclasses.asdict(self).items() if name not in new & at_rest}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]

    def lr_factor(self, epoch: int) -> float:
        """decay ** max(i − constant_epochs, 0), i from 0; as the authors', constant_epochs + 1 epochs at full rate."""
        return float(self.decay ** max(epoch - self.constant_epochs, 0))

    def clip_at(self, epoch: int) -> float:
        """The largest norm in epoch i from 0: early_clip, where it is set, up to i = constant_epochs, and clip after it."""
        return self.clip if self.early_clip is None or epoch > self.constant_epochs else self.early_clip


# Those that every digest holds; a field that comes later stands in it only where it differs from its default.
_FIRST_FIELDS = frozenset(option.name for option in dataclasses.fields(TrainConfig))


@dataclass(frozen=True)
class VAEConfig:
    """All that decides the numbers of a run of `tiedlib.lab.variational`. Raises ValueError as `TrainConfig` does."""

    images: str = option("mnist", "name of a set of images", choices=("mnist", "digits"))
    pixels: str = option(
        "static", "bits drawn once, bits drawn anew each epoch, or grey", choices=("static", "dynamic", "grey")
    )
    held_out: int = option(10_000, "last training images kept for validation", low=0)
    hidden: int = option(400, "units of a hidden layer", low=1)
    layers: int = option(1, "hidden layers of encoder and of decoder", low=0)
    latent: int = option(20, "latent dimensions", low=1)
    beta: float = option(1.0, "weight of the KL term in training", low=0.0)
    lr: float = option(1e-3, "learning rate of Adam", above=0.0)
    batch: int = option(128, "images in a batch", low=1)
    epochs: int = option(20, "passes over the training images", low=1)
    bound_samples: int = option(256, "samples of the importance-weighted bound of each test image", low=1)
    seed: int = option(0, "of all randomness but the bits drawn once", low=0, high=2**63 - 1)
    threads: int | None = option(None, "processor threads (none: torch's own choice)", low=1)

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            _check(option.name, getattr(self, option.name), option)


def completed(config: Mapping[str, Any], kind: type | None = None) -> dict[str, Any]:
    """A configuration as a record or a checkpoint holds it, with every field: one that is absent came later, and has its
    default. kind: its dataclass (None: the smallest that has all its fields; where there is none, nothing is added)."""
    kind = kind or _kind(config)
    options = dataclasses.fields(kind) if kind else ()
    return {**{o.name: o.default for o in options if o.default is not dataclasses.MISSING}, **config}


def differences(found: Mapping[str, Any], wanted: Any) -> list[str]:
    """What differs between a configuration in a record or a checkpoint and the one that is wanted (a dataclass, or all fields
    of one), as "lr 1.0 (now 0.5)". Every comparison of configurations is this one: absent fields have their defaults."""
    now = dict(wanted) if isinstance(wanted, Mapping) else dataclasses.asdict(wanted)
    kind = _kind({**found, **now}) if isinstance(wanted, Mapping) else type(wanted)
    was, now = (completed(config, kind) for config in (found, now))
    return [
        f"{name} {was.get(name, 'absent')!r} (now {now.get(name, 'absent')!r})"
        for name in {**now, **was}
        if name not in now or name not in was or _listed(was[name]) != _listed(now[name])
    ]


def _listed(value: Any) -> Any:
    """Tuples as lists, as JSON gives them back."""
    return [_listed(part) for part in value] if isinstance(value, (list, tuple)) else value


def _kind(config: Mapping[str, Any]) -> type[Any] | None:
    """The smallest dataclass of a configuration that has all these fields; its first one is in every record."""
    waiting: list[type[Any]] = [TrainConfig, VAEConfig]
    fitting: list[tuple[int, type[Any]]] = []
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        names = [option.name for option in dataclasses.fields(kind)]
        if names[0] in config and set(config) <= set(names):
            fitting.append((len(names), kind))
    return min(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _check(name: str, value: Any, option: dataclasses.Field[Any]) -> None:
    rules, kind = option.metadata, str(option.type)
    if value is None and option.default is None:
        return
    if "choices" in rules and value not in rules["choices"]:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(rules['choices'])}")
    if kind == "bool" and not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be True or False")
    if kind.startswith("int") and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"{name} is {value!r}; it must be a whole number")
    if kind.startswith("float") and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
    ):
        raise ValueError(f"{name} is {value!r}; it must be a finite number")
    for key, word in (("low", "at least"), ("above", "more than"), ("high", "at most"), ("below", "less than")):
        if key in rules and not _COMPARE[key](value, rules[key]):
            raise ValueError(f"{name} is {value}; it must be {word} {rules[key]}")


_COMPARE = {"low": operator.ge, "above": operator.gt, "high": operator.le, "below": operator.lt}


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
