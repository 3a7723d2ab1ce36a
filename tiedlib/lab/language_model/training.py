"""Training a language model from one configuration: `LanguageModelRun`, and `train`, which makes the run of a `TrainConfig`.

The loss is that of the authors' code of Press & Wolf (2016, arXiv:1608.05859), after Zaremba et al. (2014): negative
log-likelihood in nats, **summed over a window's time steps, averaged over the batch**, plus the penalty. Learning rate
and clip mean what they mean there. A perplexity is exp(Σ nll / number of predicted tokens), every token weighted alike.

The state is carried over windows and is zero at the start of each epoch and evaluation. Below torchrun each process draws its own
masks of dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlib.lab.data import contiguous_batches, load_corpus, windows
from tiedlib.lab.language_model.configuration import TrainConfig, check_precision
from tiedlib.lab.language_model.embeddings import embedding_scores
from tiedlib.lab.language_model.objective import Objective, build_model, products, window_loss
from tiedlib.lab.runs import processes, provenance
from tiedlib.lab.runs.run import ALONE, Begun, Run, carry_out
from tiedlib.optimizers import SGD, Adam
from tiedlib.training_loop import Epoch, Step, evaluate, fit
from tiedlib.tying import LanguageModel

__all__ = ["EVALUATION_BATCH", "Begun", "LanguageModelRun", "TrainConfig", "build_model", "train"]

EVALUATION_BATCH = 20  # rows in which validation and test text are read; at most 19 last tokens fit in no row


def train(config: TrainConfig, out: Path | None = None, **options: Any) -> dict[str, Any]:
    """Train a language model, evaluate it, and return the record: `tiedlib.lab.runs.run.carry_out`, which has the options.

    Raises what `carry_out` raises; ValueError for a precision that the machine lacks, and for a batch that the processes cannot
    share; what `tiedlib.lab.data.load_corpus` raises.
    """
    return carry_out(config, out, **options)


class LanguageModelRun(Run):
    """A language model on a corpus, trained by the loss above, measured by perplexity."""

    figure = "perplexity"
    items = "tokens"
    keeps = ("scheduler", "vocabulary", "unit")
    parallel = True

    def __init__(self, config: TrainConfig, group: processes.Group = ALONE) -> None:
        super().__init__(config, group)
        check_precision(config.precision, group.device.type)
        self.data = load_corpus(config.corpus, **config.cuts())
        self.batches = windows(group.rows(contiguous_batches(self.data.train, config.batch)), config.unroll)
        self.steps, self.items_per_step = len(self.batches), config.batch * config.unroll
        self.tokens = group.size * self.batches.tokens
        self.model: LanguageModel = self.untrained().to(group.device)
        self.objective = group.wrap(Objective(self.model, config))
        if group.rank:
            torch.manual_seed(torch.initial_seed() + group.rank)  # other masks of dropout for other rows
        rule = SGD if config.optimizer == "sgd" else Adam
        self.optimizer = rule(self.moving(), lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda epoch: config.lr_factor(epoch))
        # of this epoch: Σ norm, clipped steps, steps
        self.clipping = torch.zeros(3, dtype=torch.float64, device=group.device)

    def untrained(self) -> LanguageModel:
        """The model before its first step."""
        return build_model(self.config, len(self.data.vocabulary))

    def moving(self) -> list[Any]:
        """The parameters that are trained, or groups of them."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def kept(self) -> dict[str, Any]:
        return {
            "vocabulary": self.data.vocabulary.to_list(),
            "unit": self.data.unit,
            "clipping": self.clipping.tolist(),
        }

    def take_up(self, saved: Mapping[str, Any]) -> None:
        self.clipping[:] = torch.tensor(saved.get("clipping", [0.0] * 3), dtype=torch.float64)

    def training(self) -> Iterator[Step | Epoch]:
        """`fit` is called once for each epoch, because the clip may change."""
        for epoch in range(self.progress.epoch, self.config.epochs):
            yield from fit(
                self.objective,
                self.batches,
                self.optimizer,
                loss=window_loss(self.group.whole),
                epochs=epoch + 1,
                clip=self.config.clip_at(epoch),
                scheduler=self.scheduler,
                stateful=True,
                progress=self.progress,
            )

    def step(self, event: Step) -> None:
        """Keep the gradient's norm, and count whether it was clipped, on the device: nothing waits for it."""
        clipped = self.norm > self.config.clip_at(event.progress.epoch)
        self.clipping += torch.stack((self.norm, clipped, torch.ones_like(self.norm)))

    def row(self, event: Epoch) -> dict[str, Any]:
        norms, clipped, steps = self.clipping.tolist()
        self.clipping.zero_()
        nll = float(self.progress.carry[1]) / self.tokens
        return {
            "epoch": event.epoch,
            "lr": self.config.lr * self.config.lr_factor(event.epoch),
            "objective": event.loss,
            "train_loss": nll,
            "train_perplexity": provenance.perplexity(nll),
            "valid_perplexity": self.perplexity(self.data.valid, EVALUATION_BATCH),
            "gradient_norm": norms / steps,
            "clipped": clipped / steps,
            "seconds": self.stepping,
            "tokens_per_second": self.tokens / self.stepping,
        }

    def perplexity(self, text: Tensor, batch: int) -> float:
        """exp of the mean nats a token, without dropout; the state starts at zero and is carried over the windows."""
        text = text.to(self.group.device)
        pairs = windows(contiguous_batches(text, min(batch, len(text) // 2)), self.config.unroll)

        def loss(model: LanguageModel, pair: Any, state: Any) -> Any:
            with products(self.config, text.device):
                return model.loss(pair[0], pair[1], state)

        nll = evaluate(self.model, pairs, loss=loss, stateful=True, weight=lambda pair: pair[1].numel())
        if not math.isfinite(nll):
            raise FloatingPointError(f"the loss on held-out text is {nll} {self.where()}")
        return provenance.perplexity(nll)

    def results(self) -> dict[str, Any]:
        test = self.data.test
        return {
            "train_perplexity": self.perplexity(self.data.train, self.config.batch),
            "valid_perplexity": self.epochs[-1]["valid_perplexity"],
            "test_perplexity": None if test is None else self.perplexity(test, EVALUATION_BATCH),
            "embeddings": embedding_scores(self.model.cpu(), self.data),
        }
