"""A run's model at its start, and what it is trained on in each window of text: `Objective`, a module, to be wrapped as one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.tying import LanguageModel, augmented_loss, projection_penalty

__all__ = ["Objective", "build_model", "products", "window_loss"]


def build_model(config: TrainConfig, vocabulary_size: int) -> LanguageModel:
    """The model of a configuration, its parameters drawn from the seed; afterwards torch's own generator is seeded too,
    with a number drawn after them, for dropout."""
    model = LanguageModel(
        vocabulary_size,
        config.dim,
        config.hidden,
        config.layers,
        tied=config.tied,
        projection=config.projection,
        projection_bias=config.projection_bias,
        dropout=config.dropout,
    )
    generator = torch.Generator().manual_seed(config.seed)
    model.reset_parameters(config.init_range, generator)
    if not config.output_bias:
        model.output.bias.requires_grad_(False).zero_()
    if config.freeze_input:
        model.embedding.weight.requires_grad_(False)
    torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return model


class Objective(nn.Module):
    """L = (1/B) Σ nll over a window's tokens (B rows), in nats a window; with the augmented loss's terms added to the nll
    where it is chosen, plus the penalty on P. The configuration says which.

    Calling it gives L, Σ nll (without gradient) and the LSTM's state after the window.
    """

    def __init__(self, model: LanguageModel, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, inputs: Tensor, targets: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """See the class."""
        config, model = self.config, self.model
        with products(config, inputs.device):
            if config.augmented_alpha:
                logits, state = model(inputs, state)
                total, nll = _augmented(config, model, logits, targets)
            else:
                total, state = model.loss(inputs, targets, state, reduction="sum")
                nll = total.detach()
        total = total / len(inputs)
        if config.penalty != "none" and model.projection is not None:
            total = total + projection_penalty(
                model.projection.weight,
                strength=config.penalty_strength,
                form=config.penalty,
                batch_size=config.batch,  # of all processes together
            )
        return total, nll, state


def window_loss(whole: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    """loss(objective, batch, (LSTM state, Σ nll of the epoch so far)) → (L, the same carried on), as `fit` wants it.
    `whole` makes of one process's L and Σ nll those of all."""

    def loss(objective: nn.Module, batch: tuple[Tensor, Tensor], carry: Any) -> tuple[Tensor, Any]:
        (inputs, targets), (state, before) = batch, carry or (None, 0.0)
        total, nll, state = objective(inputs, targets, state)
        total, nll = whole(total, nll)
        return total, (state, before + nll.double())

    return loss


def products(config: TrainConfig, device: torch.device) -> Any:
    """Where products are taken in the configured precision."""
    return torch.autocast(device.type, torch.bfloat16) if config.precision == "bfloat16" else nullcontext()


def _augmented(config: TrainConfig, model: LanguageModel, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    total = augmented_loss(
        logits, targets, model.embedding.weight, alpha=config.augmented_alpha, tau=config.augmented_tau, reduction="sum"
    )
    with torch.no_grad():
        nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    return total, nll
