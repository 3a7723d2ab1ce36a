"""The first steps of a language model's training, looked at closely: `FirstStepsConfig`, and `train_first_steps`.

What the model's last hidden state and a constant c give together is  logits = V (P h_t + c) + b.  With a bias in P, c is a
parameter, the offset; without one it is 0 and nothing moves it. The loss is that of `tiedlib.lab.language_model.training`: nats
summed over a window's time steps, averaged over the batch. Its curvature in the direction of a shift c,
with p_t the softmax at t, is

    H_c = (1/B) Σ_t Vᵀ (diag p_t − p_t p_tᵀ) V

and a step of gradient descent on c alone shrinks the error only while lr · λ_max(H_c) < 2. Explained in the chapter `tying`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tiedlib import _arguments as arguments
from tiedlib.lab.language_model.configuration import FirstStepsConfig
from tiedlib.lab.language_model.objective import window_loss
from tiedlib.lab.language_model.training import LanguageModelRun
from tiedlib.lab.runs import processes
from tiedlib.lab.runs.run import ALONE, carry_out
from tiedlib.training_loop import Epoch, Step, fit
from tiedlib.tying import LanguageModel

__all__ = ["BLOCK", "FIRST", "LAST", "FirstStepsConfig", "FirstStepsRun", "offset_curvature", "train_first_steps"]

# steps: the first, noted one by one; a row of the record; the last, for single figures
FIRST, BLOCK, LAST = 50, 10, 100


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


def train_first_steps(config: FirstStepsConfig, out: Path | None = None, **options: Any) -> dict[str, Any]:
    """Make the run of a `FirstStepsConfig` and return its record: `tiedlib.lab.runs.run.carry_out`, which has the options.

        first               loss of each of the first FIRST steps, nats a token
        blocks              for each BLOCK of steps: step, the last of them; loss (mean), largest (loss) and turn, the mean
                            cosine of the offset's gradients at a step and at the one before; gradient_norm, the median of
                            the norm before the clip. After the block: projection ‖P‖_F, offset ‖c‖; and on the window that
                            comes next hidden, the mean of ‖P h + c‖, common, the norm of their mean, curvature λ_max(H_c)
        train_loss, gradient_norm, turn     the same over the LAST steps; clipped, the share of them that was clipped
        largest_loss                        of all steps

    Raises as `tiedlib.lab.language_model.training.train`, and ValueError for more steps than an epoch has.
    """
    return carry_out(config, out, **options)


class FirstStepsRun(LanguageModelRun):
    """The first steps of a language model's first epoch; the offset has a rate and a penalty of its own."""

    figure = "loss"
    keeps = ("vocabulary", "unit", "watch")
    parallel = False

    def __init__(self, config: FirstStepsConfig, group: processes.Group = ALONE) -> None:
        super().__init__(config, group)
        if config.steps >= self.steps:
            raise ValueError(f"steps is {config.steps}; it must be less than the {self.steps} steps of an epoch")
        self.scheduler = None  # the rate is constant
        self.watch = _Watch(config, self.model)

    def untrained(self) -> LanguageModel:
        """P and its offset as the configuration has them start; what stays has no gradient."""
        model, config = super().untrained(), self.config
        if model.projection is not None:
            with torch.no_grad():
                if config.identity:
                    nn.init.eye_(model.projection.weight).requires_grad_(False)
                if config.offset_zero:
                    model.projection.bias.zero_()
            if config.projection_bias and not config.offset_lr:
                model.projection.bias.requires_grad_(False)
        return model

    def moving(self) -> list[Any]:
        offset, moving = _offset(self.model), super().moving()
        groups: list[dict[str, Any]] = [{"params": [p for p in moving if p is not offset]}]
        if offset is not None and offset.requires_grad:
            groups.append({"params": [offset], "lr": self.config.lr * self.config.offset_lr})
        return groups

    def kept(self) -> dict[str, Any]:
        return {**super().kept(), "watch": self.watch.state()}

    def take_up(self, saved: Mapping[str, Any]) -> None:
        self.watch.take_up(saved["watch"])

    def training(self) -> Iterator[Step | Epoch]:
        config, offset, plain = self.config, _offset(self.model), window_loss(self.group.whole)

        def loss(objective: nn.Module, batch: Any, carry: Any) -> tuple[Tensor, Any]:
            total, carry = plain(objective, batch, carry)
            if offset is not None and config.offset_penalty:
                total = total + 0.5 * config.offset_penalty * offset.square().sum()
            return total, carry

        run = fit(
            self.objective,
            self.batches,
            self.optimizer,
            loss=loss,
            epochs=1,
            clip=config.clip_at(0),
            stateful=True,
            progress=self.progress,
        )
        for _, event in zip(range(config.steps - self.progress.step), run, strict=False):
            yield event

    def step(self, event: Step) -> None:
        self.watch.step(event, self.batches[event.progress.step][0])

    def results(self) -> dict[str, Any]:
        return self.watch.results()


def _offset(model: LanguageModel) -> Tensor | None:
    return None if model.projection is None else model.projection.bias


class _Watch:
    """Keeps what a record says of each step."""

    def __init__(self, config: FirstStepsConfig, model: LanguageModel) -> None:
        self.config, self.model = config, model
        self.losses, self.norms, self.nll = list[float](), list[float](), 0.0
        self.turns, self.blocks = list[float | None](), list[dict[str, Any]]()
        self.last: Tensor | None = None  # the offset's gradient

    def state(self) -> dict[str, Any]:
        """What has been noted so far, for a checkpoint."""
        return {name: value for name, value in vars(self).items() if name not in ("config", "model")}

    def take_up(self, saved: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        for name in self.state():
            setattr(self, name, saved[name])

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
