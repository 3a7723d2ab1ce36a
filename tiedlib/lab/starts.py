"""The first steps of a language model's training, looked at closely: `StartConfig`, and `train_start`.

What the model's last hidden state and a constant c give together is  logits = V (P h_t + c) + b.  With a bias in P, c is a
parameter, the offset; without one it is 0 and nothing moves it. The loss is that of `tiedlib.lab.training`: nats summed over
a window's time steps, averaged over the batch. Its curvature in the direction of a shift c, with p_t the softmax at t, is

    H_c = (1/B) Σ_t Vᵀ (diag p_t − p_t p_tᵀ) V

and a step of gradient descent on c alone shrinks the error only while lr · λ_max(H_c) < 2. Explained in the chapter `tying`.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tiedlib import arguments
from tiedlib.lab import checkpoints, records
from tiedlib.lab.configuration import TrainConfig, check_precision, option
from tiedlib.lab.data import contiguous_batches, load_corpus, windows
from tiedlib.lab.objective import Objective, window_loss
from tiedlib.lab.training import build_model, own_state
from tiedlib.optimizers import SGD
from tiedlib.training_loop import Step, fit
from tiedlib.tying import LanguageModel

__all__ = ["BLOCK", "FIRST", "LAST", "StartConfig", "offset_curvature", "train_start"]

# steps: the first, noted one by one; a row of the record; the last, for single figures
FIRST, BLOCK, LAST = 50, 10, 100


@dataclass(frozen=True)
class StartConfig(TrainConfig):
    """A `TrainConfig` cut off after `steps`, by plain SGD at a constant rate, and what may be changed about P and its offset."""

    steps: int = option(200, "updates, fewer than an epoch has", low=1)
    offset_lr: float = option(1.0, "factor on lr for the bias of P (0: it stays at its start)", low=0.0)
    offset_zero: bool = option(False, "the bias of P starts at 0")
    offset_penalty: float = option(0.0, "this times half the square of the bias of P, added to the loss", low=0.0)
    identity: bool = option(False, "P is the identity and stays so")

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


def offset_curvature(
    h: Float[Tensor, "batch time dim"], weight: Float[Tensor, "vocab dim"], bias: Float[Tensor, " vocab"]
) -> float:
    """λ_max(H_c), H_c = (1/B) Σ_t Vᵀ(diag p_t − p_t p_tᵀ)V,  p_t = softmax(V h_t + b):  how sharply the loss of a window bends
    when one constant is added to every h. h: what the output embedding multiplies; nats a window. Raises ValueError for
    an empty batch, sizes that do not fit or numbers that are not finite, TypeError for whole numbers.
    """
    arguments.floating(h=h, weight=weight, bias=bias)
    if h.numel() == 0:
        raise ValueError(f"h has shape {tuple(h.shape)}; it must not be empty")
    if h.dim() != 3 or h.shape[-1] != weight.shape[-1] or weight.shape[:-1] != bias.shape:
        raise ValueError(
            f"h has shape {tuple(h.shape)}, weight {tuple(weight.shape)}, bias {tuple(bias.shape)}; "
            "they must be (batch, time, dim), (vocab, dim), (vocab,)"
        )
    with torch.no_grad():
        exact = torch.promote_types(h.dtype, torch.float32)  # sums over thousands of words
        v = weight.to(exact)
        p = torch.softmax(h.to(exact).flatten(0, 1) @ v.T + bias.to(exact), dim=-1)
        means = p @ v  # Vᵀ p_t
        second = v.T @ (p.sum(0)[:, None] * v)  # Σ_t Vᵀ diag(p_t) V
        curvature = (second - means.T @ means).double() / len(h)
        if not bool(curvature.isfinite().all()):
            raise ValueError("h, weight or bias holds NaN or an infinity; they must be finite")
        return float(torch.linalg.eigvalsh(curvature)[-1])


def train_start(
    config: StartConfig, out: Path | None = None, *, on_event: Callable[[Any], None] = lambda event: None
) -> dict[str, Any]:
    """Train `config.steps` steps and return the record (see `tiedlib.lab.records`); `on_event` gets a `Step` for each.

        first               loss of each of the first FIRST steps, nats a token
        blocks              for each BLOCK of steps: step, the last of them; loss (mean), largest (loss) and turn, the mean
                            cosine of the offset's gradients at a step and at the one before; gradient_norm, the median of
                            the norm before the clip. After the block: projection ‖P‖_F, offset ‖c‖; and on the window that
                            comes next hidden, the mean of ‖P h + c‖, common, the norm of their mean, curvature λ_max(H_c)
        train_loss, gradient_norm, turn     the same over the LAST steps; clipped, the share of them that was clipped
        largest_loss                        of all steps

    A run is too short to be taken up again: one that is stopped begins anew. Raises as `tiedlib.lab.training.train`.
    """
    check_precision(config.precision)
    corpus = load_corpus(config.corpus, **config.cuts())
    started, since = records.now(), time.perf_counter()
    with checkpoints.locked(out) if out else nullcontext(), own_state(config.threads):
        batches = windows(contiguous_batches(corpus.train, config.batch), config.unroll)
        if config.steps >= len(batches):
            raise ValueError(f"steps is {config.steps}; it must be less than the {len(batches)} steps of an epoch")
        model = build_model(config, len(corpus.vocabulary))
        watch = _Watch(config, _prepared(model, config))
        for event in _steps(config, model, batches):
            watch.step(event, batches[event.progress.step][0])
            on_event(event)
        results = {**watch.results(), "parameters": sum(p.numel() for p in model.parameters())}
        seconds = time.perf_counter() - since
        return records.make_record(dataclasses.asdict(config), corpus, model, results, started=started, seconds=seconds)


def _prepared(model: LanguageModel, config: StartConfig) -> LanguageModel:
    """P and its offset as the configuration has them start; what stays has no gradient."""
    if model.projection is not None:
        with torch.no_grad():
            if config.identity:
                nn.init.eye_(model.projection.weight).requires_grad_(False)
            if config.offset_zero:
                model.projection.bias.zero_()
        if config.projection_bias and not config.offset_lr:
            model.projection.bias.requires_grad_(False)
    return model


def _offset(model: LanguageModel) -> Tensor | None:
    return None if model.projection is None else model.projection.bias


def _steps(config: StartConfig, model: LanguageModel, batches: Any) -> Any:
    """The first steps of `fit`; the offset has a rate and a penalty of its own."""
    offset, plain = _offset(model), window_loss(lambda loss, nll: (loss, nll))
    moving = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": [p for p in moving if p is not offset]}]
    if offset is not None and offset.requires_grad:
        groups.append({"params": [offset], "lr": config.lr * config.offset_lr})

    def loss(objective: nn.Module, batch: Any, carry: Any) -> tuple[Tensor, Any]:
        total, carry = plain(objective, batch, carry)
        if offset is not None and config.offset_penalty:
            total = total + 0.5 * config.offset_penalty * offset.square().sum()
        return total, carry

    run = fit(
        Objective(model, config), batches, SGD(groups, lr=config.lr), loss=loss, epochs=1, clip=config.clip_at(0), stateful=True
    )  # fmt: skip
    for _, event in zip(range(config.steps), run, strict=False):
        yield event


class _Watch:
    """Keeps what a record says of each step."""

    def __init__(self, config: StartConfig, model: LanguageModel) -> None:
        self.config, self.model = config, model
        self.losses, self.norms, self.nll = list[float](), list[float](), 0.0
        self.turns, self.blocks = list[float | None](), list[dict[str, Any]]()
        self.last: Tensor | None = None  # the offset's gradient

    def step(self, event: Step, following: Int[Tensor, "batch time"]) -> None:
        """Note a step; `following` is the window after it."""
        nll = float(event.progress.carry[1])  # of all steps so far, without any penalty
        self.losses.append((nll - self.nll) / following.numel())
        self.nll = nll
        self.norms.append(float("nan") if event.gradient_norm is None else float(event.gradient_norm))
        self.turns.append(self._turn())
        if event.progress.step % BLOCK == 0:
            look = {**self._figures(BLOCK), **self._look(following, event.progress.carry[0])}
            self.blocks.append({"step": event.progress.step, **{k: _digits(v) for k, v in look.items()}})

    def _turn(self) -> float | None:
        offset, before = _offset(self.model), self.last
        self.last = None if offset is None or offset.grad is None else offset.grad.clone()
        if self.last is None or before is None:
            return None
        return float(torch.cosine_similarity(self.last, before, dim=0))

    def _figures(self, n: int) -> dict[str, float | None]:
        """Of the last n steps."""
        turns = [turn for turn in self.turns[-n:] if turn is not None]
        return {
            "loss": statistics.fmean(self.losses[-n:]),
            "largest": max(self.losses[-n:]),
            "gradient_norm": statistics.median(self.norms[-n:]),
            "turn": statistics.fmean(turns) if turns else None,
        }

    @torch.no_grad()
    def _look(self, tokens: Tensor, state: Any) -> dict[str, float]:
        model, offset = self.model, _offset(self.model)
        h, _ = model.hidden_states(tokens, state)
        return {
            "projection": 0.0 if model.projection is None else float(model.projection.weight.norm()),
            "offset": 0.0 if offset is None else float(offset.norm()),
            "hidden": float(h.norm(dim=-1).mean()),
            "common": float(h.mean((0, 1)).norm()),
            "curvature": offset_curvature(h, model.output.weight, model.output.bias),
        }

    def results(self) -> dict[str, Any]:
        """What the record says of the run. Raises FloatingPointError for a loss that is not finite."""
        if not all(math.isfinite(loss) for loss in self.losses):
            raise FloatingPointError("the loss was not finite; lower the learning rate")
        last = self._figures(LAST)
        return {
            "train_loss": last["loss"],
            "gradient_norm": last["gradient_norm"],
            "turn": last["turn"],
            "clipped": statistics.fmean(norm > self.config.clip_at(0) for norm in self.norms[-LAST:]),
            "largest_loss": max(self.losses),
            "first": [_digits(loss) for loss in self.losses[:FIRST]],
            "blocks": self.blocks,
        }


def _digits(value: float | None) -> float | None:
    """Five digits: a record is read by people too."""
    return None if value is None else float(f"{value:.5g}")
