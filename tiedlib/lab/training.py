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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlib import arguments, matrix_products
from tiedlib.lab import checkpoints, distributed, records
from tiedlib.lab.configuration import TrainConfig, check_precision
from tiedlib.lab.data import Corpus, contiguous_batches, load_corpus, windows
from tiedlib.lab.embeddings import embedding_scores
from tiedlib.lab.objective import Objective, build_model, products, window_loss
from tiedlib.optimizers import SGD, Adam
from tiedlib.training_loop import Epoch, Progress, Step, evaluate, fit
from tiedlib.tying import LanguageModel

__all__ = ["EVALUATION_BATCH", "Start", "TrainConfig", "build_model", "own_state", "train"]

ALONE = distributed.Group(0, 1, torch.device("cpu"))
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
    notes: tuple[str, ...] = ()  # damaged files that got another name


def train(
    config: TrainConfig,
    out: Path | None = None,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    checkpoint_seconds: float = 120.0,
    device: str = "cpu",
    patience: float = 0.0,
    steps: int | None = None,
) -> dict[str, Any]:
    """Train, evaluate, and return the record (see `tiedlib.lab.records`), whose numbers are those of the final model.

    With a folder `out`: a checkpoint after every epoch and every `checkpoint_seconds`, and record.json at the end. A
    call with the same configuration goes on where the last one stopped, to the same bits; a finished run is returned as
    it is. A damaged file gets another name, which `Start` tells, and the run begins anew. Ctrl-C finishes the step, saves,
    and raises KeyboardInterrupt, and so does the last of `steps` updates of this call. `on_event` gets a `Start`, a `Step`
    for each update and a dict for each epoch.

    The state is carried over windows and is zero at the start of each epoch and evaluation. All randomness comes from
    `config.seed`. Below torchrun the processes share the batch's rows (see `tiedlib.lab.distributed`); each draws its own
    masks of dropout, and a run goes on with as many processes as before. A folder in use is waited for, `patience` seconds.
    Raises CheckpointError for a folder in use or of another run; FloatingPointError where the loss or a weight is no longer
    finite (the last good checkpoint stays); ValueError for a batch that the processes cannot share; what `load` raises.
    """
    check_precision(config.precision, device)
    if steps is not None:
        arguments.whole("steps", steps)
    corpus = load_corpus(config.corpus, **config.cuts())
    with ExitStack() as held:
        group = held.enter_context(distributed.processes(device))
        if out:
            group.first(lambda: held.enter_context(checkpoints.locked(out, patience)))
        held.enter_context(own_state(config.threads, group.device))
        stop = held.enter_context(checkpoints.ctrl_c(once=group.size > 1))
        run, notes = _begin(config, corpus, out, group)
        size = (len(run.batches), config.batch * config.unroll, run.parameters)
        on_event(Start(*size, run.progress, finished=run.record is not None, notes=notes))
        if run.record is None:
            try:
                for event in run.events(checkpoint_seconds, stop, steps):
                    on_event(event)
                run.finish()
            except FloatingPointError as error:
                kept = f"; the last good checkpoint is kept in {run.path}" if run.path and run.path.exists() else ""
                raise FloatingPointError(f"{error}{kept}") from error
        if out:
            group.first(lambda: records.save_record(out / "record.json", run.record))
        return {**run.record, "config": dataclasses.asdict(config)}


def _begin(
    config: TrainConfig, corpus: Corpus, out: Path | None, group: distributed.Group
) -> tuple[_Run, tuple[str, ...]]:
    """The run as its folder has it, and what was found damaged there."""
    if out is None:
        return _Run(config, corpus, None, group), ()
    path, notes = out / "checkpoint.pt", list[str | None]()
    try:
        run = _Run(config, corpus, path, group)
    except checkpoints.DamagedError as error:
        notes = [f"{error}; it is now {group.first(lambda: checkpoints.set_aside(path)).name}, and the run begins anew"]
        run = _Run(config, corpus, path, group)
    notes.append(group.first(lambda: records.set_aside_if_damaged(out / "record.json", config)))
    return run, tuple(note for note in notes if note)


class _Run:
    """Everything of a run that changes while it goes on, and how to save it and take it up again."""

    def __init__(
        self, config: TrainConfig, corpus: Corpus, path: Path | None, group: distributed.Group = ALONE
    ) -> None:
        self.config, self.corpus, self.path, self.group = config, corpus, path, group
        self.batches = windows(group.rows(contiguous_batches(corpus.train, config.batch)), config.unroll)
        self.tokens = group.size * self.batches.tokens
        self.model = build_model(config, len(corpus.vocabulary)).to(group.device)
        self.objective = group.wrap(Objective(self.model, config))
        if group.rank:
            torch.manual_seed(torch.initial_seed() + group.rank)  # other masks of dropout for other rows
        rule = SGD if config.optimizer == "sgd" else Adam
        self.optimizer = rule([p for p in self.model.parameters() if p.requires_grad], lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda epoch: config.lr_factor(epoch))
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.progress = Progress()
        self.epochs: list[dict[str, Any]] = []
        self.started, self.earlier, self.stepping = records.now(), 0.0, 0.0  # wall seconds: before, this epoch's steps
        self.record: Any = None
        self.norm: Any = None  # of the last gradient, before clipping
        # of this epoch: Σ norm, clipped steps, steps
        self.clipping = torch.zeros(3, dtype=torch.float64, device=group.device)
        if path is not None and group.first(path.exists):
            self.restore(path)
        self.since = time.perf_counter()

    def restore(self, path: Path) -> None:
        """Take up the run saved at `path`. Raises DamagedError where it is damaged, CheckpointError where it is another's."""
        saved, group = self.group.first(lambda: checkpoints.load(path)), self.group
        checkpoints.require_same(path, "configuration", saved["config"], self.config)
        checkpoints.require_same(path, "text (sha256 of a file)", saved["data"], self.corpus.sha256)
        place = {"processes": len(saved.get("ranks", [None])), "device": saved.get("device", "cpu")}
        now = {"processes": group.size, "device": group.device.type}
        checkpoints.require_same(path, "number of processes or device", place, now)
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scheduler.load_state_dict(saved["scheduler"])
            own = {"carry": saved["progress"]["carry"], "rng": saved["rng"], **saved.get("ranks", [{}])[group.rank]}
            self.progress = Progress(**{**saved["progress"], "carry": distributed.moved(own["carry"], group.device)})
            self.epochs, self.record, clock = saved["epochs"], saved["record"], saved["clock"]
            self.started, self.earlier, self.stepping = clock["started"], clock["seconds"], clock["stepping"]
            self.clipping[:] = torch.tensor(saved.get("clipping", [0.0] * 3), dtype=torch.float64)
            group.set_random_state(own["rng"])
            torch.set_num_threads(saved["threads"])  # another number may round otherwise
            matrix_products.use(saved.get("kernel", "torch"))  # and so may another kernel
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
            raise checkpoints.DamagedError(f"{path} is damaged; move it away to start anew ({error})") from error

    def save(self) -> None:
        """Write the checkpoint. Raises FloatingPointError, and leaves the last one, where a weight is not finite."""
        if self.path is None:
            return
        for name, weight in self.model.state_dict().items():
            if not bool(weight.isfinite().all()):
                raise FloatingPointError(f"{name} is no longer finite {self._where()}")
        content = {
            "config": dataclasses.asdict(self.config), "data": self.corpus.sha256, "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(),
            "progress": vars(self.progress), "rng": self.group.random_state(), "threads": torch.get_num_threads(),
            "kernel": matrix_products.kernel(), "vocabulary": self.corpus.vocabulary.to_list(),
            "unit": self.corpus.unit, "epochs": self.epochs, "steps": len(self.batches),
            "clock": {"started": self.started, "seconds": self.seconds(), "stepping": self.stepping},
            "record": self.record, "device": self.group.device.type, "clipping": self.clipping.tolist(),
        }  # fmt: skip
        if self.group.size > 1:  # each process has rows, and with them a state, of its own
            carry = distributed.moved(self.progress.carry, torch.device("cpu"))
            content["ranks"] = self.group.gather({"rng": content["rng"], "carry": carry})
        path = self.path
        self.group.first(lambda: checkpoints.save(path, content))

    def _where(self) -> str:
        steps = self.progress.epoch * len(self.batches) + self.progress.step
        norm = "" if self.norm is None else f" (gradient norm {float(self.norm):.3g} at the last one)"
        return f"after {steps} steps{norm}; lower the learning rate or clip the gradient"

    def seconds(self) -> float:
        """Wall seconds of the run, those before it was taken up again among them."""
        return self.earlier + time.perf_counter() - self.since

    def events(self, checkpoint_seconds: float, stop: threading.Event, most: int | None) -> Iterator[Event]:
        """The events of `fit`, an epoch's as the dict that the record keeps; saves, and stops where `stop` is set, or after
        `most` updates."""
        saved, before, done = time.monotonic(), time.perf_counter(), 0
        for event in self._fit():
            self.stepping += time.perf_counter() - before
            nll = self.progress.carry[1] if isinstance(event, Epoch) else 0.0
            self.progress = event.progress
            if isinstance(event, Epoch):
                self.epochs.append(self._row(event, float(nll) / self.tokens))
                self.stepping = 0.0
                self.clipping.zero_()
            else:
                self._count(event)
                done += 1
            yield self.epochs[-1] if isinstance(event, Epoch) else event
            # after a pass's last step the scheduler has still to move, so that moment is left to the epoch's event
            if isinstance(event, Epoch) or event.progress.step < len(self.batches):
                stopped, due = self.group.any(
                    stop.is_set() or done == most, time.monotonic() - saved > checkpoint_seconds
                )
                if isinstance(event, Epoch) or stopped or due:
                    self.save()
                    saved = time.monotonic()
                if stopped:
                    raise KeyboardInterrupt
            before = time.perf_counter()

    def _fit(self) -> Iterator[Step | Epoch]:
        """The events of `fit`, called anew for each epoch, because the clip may be another."""
        for epoch in range(self.progress.epoch, self.config.epochs):
            yield from fit(
                self.objective, self.batches, self.optimizer, loss=window_loss(self.group.whole), epochs=epoch + 1,
                clip=self.config.clip_at(epoch), scheduler=self.scheduler, stateful=True, progress=self.progress,
            )  # fmt: skip

    def _count(self, step: Step) -> None:
        """Keep the gradient's norm, and count whether it was clipped, on the device: nothing waits for it."""
        self.norm = step.gradient_norm
        clipped = self.norm > self.config.clip_at(step.progress.epoch)
        self.clipping += torch.stack((self.norm, clipped, torch.ones_like(self.norm)))

    def _row(self, event: Epoch, nll: float) -> dict[str, Any]:
        norms, clipped, steps = self.clipping.tolist()
        return {
            "epoch": event.epoch,
            "lr": self.config.lr * self.config.lr_factor(event.epoch),
            "objective": event.loss,
            "train_loss": nll,
            "train_perplexity": records.perplexity(nll),
            "valid_perplexity": self.perplexity(self.corpus.valid, EVALUATION_BATCH),
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
            raise FloatingPointError(f"the loss on held-out text is {nll} {self._where()}")
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
            "device": self.group.name(),
            "embeddings": embedding_scores(self.model.cpu(), corpus),
            **({"processes": self.group.size} if self.group.size > 1 else {}),
        }
        self.record = records.make_record(
            dataclasses.asdict(config), corpus, self.model, results, started=self.started, seconds=self.seconds()
        )
        self.save()


@contextmanager
def own_state(threads: int | None, device: torch.device = ALONE.device) -> Iterator[None]:
    """torch's global generator, number of threads and kernel are the run's inside, and afterwards as they were."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), matrix_products.using():
            torch.set_num_threads(threads or before)
            yield
    finally:
        torch.set_num_threads(before)
