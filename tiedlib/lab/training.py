"""Training a language model from one configuration: `TrainConfig`, and `train`, which can be stopped at any moment.

The loss is that of the authors' code of Press & Wolf (2016, arXiv:1608.05859), after Zaremba et al. (2014): negative
log-likelihood in nats, **summed over a window's time steps, averaged over the batch**, plus the penalty. Learning rate
and clip mean what they mean there. A perplexity is exp(Σ nll / number of predicted tokens), every token weighted alike.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlib import matrix_products
from tiedlib.lab import checkpoints, records
from tiedlib.lab.configuration import TrainConfig, check_precision
from tiedlib.lab.data import Corpus, contiguous_batches, load_corpus, windows
from tiedlib.lab.embeddings import embedding_scores
from tiedlib.optimizers import SGD, Adam
from tiedlib.training_loop import Epoch, Progress, evaluate, fit
from tiedlib.tying import LanguageModel, augmented_loss, projection_penalty

__all__ = ["EVALUATION_BATCH", "Start", "TrainConfig", "build_model", "own_state", "train"]

EVALUATION_BATCH = 20  # rows in which validation and test text are read; at most 19 last tokens fit in no row
Event = Any  # Start, Step, or the dict of an epoch as it stands in the record


@dataclass(frozen=True)
class Start:
    """The first event: sizes, and where the run stands."""

    steps: int  # updates in an epoch
    tokens_per_step: int  # predicted in a full window
    parameters: int
    progress: Progress
    finished: bool  # nothing is left to do


def train(
    config: TrainConfig,
    out: Path | None = None,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    checkpoint_seconds: float = 120.0,
) -> dict[str, Any]:
    """Train, evaluate, and return the record (see `tiedlib.lab.records`), whose numbers are those of the final model.

    With a folder `out`: a checkpoint after every epoch and every `checkpoint_seconds`, and record.json at the end. A
    call with the same configuration goes on where the last one stopped, to the same bits; a finished run is returned as
    it is. Ctrl-C finishes the step, saves, and raises KeyboardInterrupt. `on_event` gets a `Start`, a `Step` for each
    update and a dict for each epoch.

    The state is carried over windows and is zero at the start of each epoch and evaluation. All randomness comes from
    `config.seed`. Raises CheckpointError for a folder in use, of another run, or damaged; FloatingPointError where the
    loss or a weight is no longer finite (the last good checkpoint stays); what `load` raises for the corpus.
    """
    check_precision(config.precision)
    corpus = load_corpus(config.corpus, **config.cuts())
    with checkpoints.locked(out) if out else nullcontext(), own_state(config.threads), checkpoints.ctrl_c() as stop:
        run = _Run(config, corpus, None if out is None else out / "checkpoint.pt")
        if out:
            records.refuse_other(out / "record.json", dataclasses.asdict(config))
        size = (len(run.batches), config.batch * config.unroll, run.parameters)
        on_event(Start(*size, run.progress, finished=run.record is not None))
        if run.record is None:
            try:
                for event in run.events(checkpoint_seconds, stop):
                    on_event(event)
                run.finish()
            except FloatingPointError as error:
                kept = f"; the last good checkpoint is kept in {run.path}" if run.path and run.path.exists() else ""
                raise FloatingPointError(f"{error}{kept}") from error
        if out:
            records.save_record(out / "record.json", run.record)
        return dict(run.record)


def build_model(config: TrainConfig, vocabulary_size: int) -> LanguageModel:
    """The model of a configuration, its parameters drawn from the seed; afterwards torch's own generator is seeded too,
    with a number drawn after them, for dropout."""
    model = LanguageModel(
        vocabulary_size, config.dim, config.hidden, config.layers,
        tied=config.tied, projection=config.projection, projection_bias=config.projection_bias, dropout=config.dropout,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(config.seed)
    model.reset_parameters(config.init_range, generator)
    if not config.output_bias:
        model.output.bias.requires_grad_(False).zero_()
    if config.freeze_input:
        model.embedding.weight.requires_grad_(False)
    torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return model


class _Run:
    """Everything of a run that changes while it goes on, and how to save it and take it up again."""

    def __init__(self, config: TrainConfig, corpus: Corpus, path: Path | None) -> None:
        self.config, self.corpus, self.path = config, corpus, path
        self.model = build_model(config, len(corpus.vocabulary))
        self.batches = windows(contiguous_batches(corpus.train, config.batch), config.unroll)
        rule = SGD if config.optimizer == "sgd" else Adam
        self.optimizer = rule([p for p in self.model.parameters() if p.requires_grad], lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda epoch: config.lr_factor(epoch))
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.progress = Progress()
        self.epochs: list[dict[str, Any]] = []
        self.started, self.earlier, self.stepping = records.now(), 0.0, 0.0  # wall seconds: before, this epoch's steps
        self.record: Any = None
        self.resumed = path is not None and path.exists()
        if path is not None and self.resumed:
            self.restore(path)
        self.since = time.perf_counter()

    def restore(self, path: Path) -> None:
        """Take up the run saved at `path`. Raises CheckpointError where it is damaged or of another run."""
        saved = checkpoints.load(path)
        checkpoints.require_same(path, "configuration", saved["config"], dataclasses.asdict(self.config))
        checkpoints.require_same(path, "text (sha256 of a file)", saved["data"], self.corpus.sha256)
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scheduler.load_state_dict(saved["scheduler"])
            self.progress = Progress(**saved["progress"])
            torch.set_rng_state(saved["rng"])
            torch.set_num_threads(saved["threads"])  # another number may round otherwise
            matrix_products.use(saved.get("kernel", "torch"))  # and so may another kernel
            self.epochs, self.record, clock = saved["epochs"], saved["record"], saved["clock"]
            self.started, self.earlier, self.stepping = clock["started"], clock["seconds"], clock["stepping"]
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise checkpoints.CheckpointError(f"{path} is damaged; move it away to start anew ({error})") from error

    def save(self) -> None:
        """Write the checkpoint. Raises FloatingPointError, and leaves the last one, where a weight is not finite."""
        if self.path is None:
            return
        for name, weight in self.model.state_dict().items():
            if not bool(weight.isfinite().all()):
                raise FloatingPointError(
                    f"{name} is no longer finite in epoch {self.progress.epoch}; lower the learning rate"
                )
        content = {
            "config": dataclasses.asdict(self.config), "data": self.corpus.sha256, "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(),
            "progress": vars(self.progress), "rng": torch.get_rng_state(), "threads": torch.get_num_threads(),
            "kernel": matrix_products.kernel(), "vocabulary": self.corpus.vocabulary.to_list(),
            "unit": self.corpus.unit, "epochs": self.epochs,
            "clock": {"started": self.started, "seconds": self.seconds(), "stepping": self.stepping},
            "record": self.record,
        }  # fmt: skip
        checkpoints.save(self.path, content)

    def seconds(self) -> float:
        """Wall seconds of the run, those before it was taken up again among them."""
        return self.earlier + time.perf_counter() - self.since

    def events(self, checkpoint_seconds: float, stop: threading.Event) -> Iterator[Event]:
        """The events of `fit`, an epoch's as the dict that the record keeps; saves, and stops where `stop` is set."""
        config, saved, before = self.config, time.monotonic(), time.perf_counter()
        steps = fit(
            self.model, self.batches, self.optimizer, loss=_objective(config), epochs=config.epochs, clip=config.clip,
            scheduler=self.scheduler, stateful=True, progress=self.progress,
        )  # fmt: skip
        for event in steps:
            self.stepping += time.perf_counter() - before
            nll = self.progress.carry[1] if isinstance(event, Epoch) else 0.0
            self.progress = event.progress
            if isinstance(event, Epoch):
                self.epochs.append(self._row(event, float(nll) / self.batches.tokens))
                self.stepping = 0.0
            yield self.epochs[-1] if isinstance(event, Epoch) else event
            # after a pass's last step the scheduler has still to move, so that moment is left to the epoch's event
            if isinstance(event, Epoch) or event.progress.step < len(self.batches):
                if isinstance(event, Epoch) or stop.is_set() or time.monotonic() - saved > checkpoint_seconds:
                    self.save()
                    saved = time.monotonic()
                if stop.is_set():
                    raise KeyboardInterrupt
            before = time.perf_counter()

    def _row(self, event: Epoch, nll: float) -> dict[str, Any]:
        return {
            "epoch": event.epoch,
            "lr": self.config.lr * self.config.lr_factor(event.epoch),
            "objective": event.loss,
            "train_loss": nll,
            "train_perplexity": records.perplexity(nll),
            "valid_perplexity": self.perplexity(self.corpus.valid, EVALUATION_BATCH),
            "seconds": self.stepping,
            "tokens_per_second": self.batches.tokens / self.stepping,
        }

    def perplexity(self, text: Tensor, batch: int) -> float:
        """exp of the mean nats a token, without dropout; the state starts at zero and is carried over the windows."""
        pairs = windows(contiguous_batches(text, min(batch, len(text) // 2)), self.config.unroll)

        def loss(model: LanguageModel, pair: Any, state: Any) -> Any:
            with _products(self.config):
                return model.loss(pair[0], pair[1], state)

        nll = evaluate(self.model, pairs, loss=loss, stateful=True, weight=lambda pair: pair[1].numel())
        if not math.isfinite(nll):
            raise FloatingPointError(
                f"the loss on held-out text is {nll} after epoch {len(self.epochs)}; lower the learning rate"
            )
        return records.perplexity(nll)

    def finish(self) -> None:
        """Evaluate the final model, make the record, and save both in one checkpoint."""
        config, corpus = self.config, self.corpus
        results = {
            "train_perplexity": self.perplexity(corpus.train, config.batch),
            "valid_perplexity": self.epochs[-1]["valid_perplexity"],
            "test_perplexity": None if corpus.test is None else self.perplexity(corpus.test, EVALUATION_BATCH),
            "epochs": self.epochs,
            "parameters": self.parameters,
            "embeddings": embedding_scores(self.model, corpus),
        }
        self.record = records.make_record(
            dataclasses.asdict(config),
            corpus,
            self.model,
            results,
            started=self.started,
            seconds=self.seconds(),
        )
        self.save()


def _objective(config: TrainConfig) -> Callable[..., Any]:
    """loss(model, batch, (LSTM state, Σ nll of the epoch so far)) → (nats a window, the same carried on)."""

    def loss(model: LanguageModel, batch: tuple[Tensor, Tensor], carry: Any) -> tuple[Tensor, Any]:
        (inputs, targets), (state, before) = batch, carry or (None, 0.0)
        with _products(config):
            if config.augmented_alpha:
                logits, state = model(inputs, state)
                total, nll = _augmented(config, model, logits, targets)
            else:
                total, state = model.loss(inputs, targets, state, reduction="sum")
                nll = total.detach()
        total = total / len(inputs)
        if config.penalty != "none" and model.projection is not None:
            total = total + projection_penalty(
                model.projection.weight, strength=config.penalty_strength, form=config.penalty, batch_size=len(inputs)
            )
        return total, (state, before + nll.double())

    return loss


def _augmented(config: TrainConfig, model: LanguageModel, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    total = augmented_loss(
        logits, targets, model.embedding.weight, alpha=config.augmented_alpha, tau=config.augmented_tau, reduction="sum"
    )
    with torch.no_grad():
        nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    return total, nll


def _products(config: TrainConfig) -> Any:
    """Where products are taken in the configured precision."""
    return torch.autocast("cpu", torch.bfloat16) if config.precision == "bfloat16" else nullcontext()


@contextmanager
def own_state(threads: int | None) -> Iterator[None]:
    """torch's global generator, number of threads and kernel are the run's inside, and afterwards as they were."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]), matrix_products.using():
            torch.set_num_threads(threads or before)
            yield
    finally:
        torch.set_num_threads(before)
