"""One run of anything: `Run`, what a kind of run must say of itself, and `carry_out`, which makes a run that can be stopped at any
moment.

A kind of run is a configuration (`tiedlib.lab.runs.configuration.RunConfig`), and a `Run`: what is trained, on which data, by which
objective, and what is measured. Everything else is done here for all kinds alike: checkpoints, going on to the same bits, damaged
files, Ctrl-C, the record, several processes.
"""

from __future__ import annotations

import dataclasses
import importlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from tiedlib import _arguments as arguments
from tiedlib import _matrix_products as matrix_products
from tiedlib.lab.files import locked, set_aside
from tiedlib.lab.interrupts import ctrl_c
from tiedlib.lab.runs import checkpoints, processes, provenance, records
from tiedlib.lab.runs.configuration import RunConfig
from tiedlib.training_loop import Epoch, Progress, Step

__all__ = ["ALONE", "Begun", "Event", "Run", "carry_out", "own_state", "run_of"]

ALONE = processes.Group(0, 1, torch.device("cpu"))
Event = Any  # Begun, Step, or the dict of an epoch that the record keeps


@dataclass(frozen=True)
class Begun:
    """The first event: sizes, and where the run is."""

    steps: int  # updates in an epoch
    items_per_step: int  # of what the run reads, in a full batch
    items: str  # what they are called
    parameters: int
    progress: Progress
    finished: bool  # nothing is left to do
    notes: tuple[str, ...] = ()  # damaged files that got another name


class Run(ABC):
    """Everything of one run that changes while it goes on. A kind of run is a subclass.

    `__init__(config, group)` calls this class's, loads the data, draws the model from `config.seed` and seeds torch's own generator
    for what training draws. It sets

        data                what was read: its name → sha256 (`sha256`), and whether only a part of it was used (`partial`)
        model, optimizer    and, where there is one, scheduler
        steps               updates in an epoch
        items_per_step      how much a full batch holds of what `items` names

    and the methods below are all that a kind must have. Training is the iterator `training`; evaluating must not draw from
    torch's own generator, so that it changes nothing.
    """

    figure: ClassVar[str]  # what is reported of the final model: the record has train_, valid_ and test_ of it
    items: ClassVar[str] = "examples"
    keeps: ClassVar[tuple[str, ...]] = ()  # the names of what `kept` gives, which a checkpoint of this kind must have
    parallel: ClassVar[bool] = False  # whether several processes, or a GPU, can make it

    data: Any
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any = None
    steps: int
    items_per_step: int

    def __init__(self, config: Any, group: processes.Group = ALONE) -> None:
        self.config, self.group = config, group
        self.path: Path | None = None  # of the checkpoint
        self.progress = Progress()
        self.epochs: list[dict[str, Any]] = []
        self.started, self.earlier, self.stepping = (
            provenance.now(),
            0.0,
            0.0,
        )  # wall seconds: before, this epoch's steps
        self.since = time.perf_counter()
        self.record: Any = None
        self.norm: Any = None  # of the last gradient, before clipping

    # What a kind of run is

    @abstractmethod
    def training(self) -> Iterator[Step | Epoch]:
        """The events of `tiedlib.training_loop.fit` from `self.progress` on."""

    @abstractmethod
    def row(self, event: Epoch) -> dict[str, Any]:
        """What the record keeps of an epoch: at least "epoch" and train_ and valid_ of the figure."""

    @abstractmethod
    def results(self) -> dict[str, Any]:
        """What the record says of the final model: at least train_, valid_ and test_ of the figure (None where there is none)."""

    def step(self, event: Step) -> None:  # noqa: B027  (a kind may have nothing to note)
        """Note what a kind wants to know of a step."""

    def kept(self) -> dict[str, Any]:
        """What a kind adds to its checkpoints: only what `torch.load(weights_only=True)` can read."""
        return {}

    def take_up(self, saved: Mapping[str, Any]) -> None:  # noqa: B027
        """Take up what `kept` gave."""

    # What is the same for all

    def restore(self, path: Path) -> None:
        """Take up the run saved at `path`. Raises DamagedError where it is damaged, CheckpointError where it is another's."""
        saved, group = self.group.first(lambda: checkpoints.load(path, self.keeps)), self.group
        checkpoints.require_same(path, "configuration", saved["config"], self.config)
        checkpoints.require_same(path, "data (sha256 of a file)", saved["data"], self.data.sha256)
        place = {"processes": len(saved.get("ranks", [None])), "device": saved.get("device", "cpu")}
        now = {"processes": group.size, "device": group.device.type}
        checkpoints.require_same(path, "number of processes or device", place, now)
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(saved["scheduler"])
            own = {"carry": saved["progress"]["carry"], "rng": saved["rng"], **saved.get("ranks", [{}])[group.rank]}
            self.progress = Progress(**{**saved["progress"], "carry": processes.moved(own["carry"], group.device)})
            self.epochs, self.record, clock = saved["epochs"], saved["record"], saved["clock"]
            self.started, self.earlier, self.stepping = clock["started"], clock["seconds"], clock.get("stepping", 0.0)
            self.take_up(saved)
            group.set_random_state(own["rng"])
            torch.set_num_threads(saved["threads"])  # another number may round otherwise
            matrix_products.use(
                saved.get("backend", saved.get("kernel", "torch"))
            )  # and so may another one for products
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
            raise checkpoints.DamagedError(f"{path} is damaged; move it away to start anew ({error})") from error
        self.since = time.perf_counter()

    def save(self) -> None:
        """Write the checkpoint. Raises FloatingPointError, and leaves the last one, where a weight is not finite."""
        if self.path is None:
            return
        for name, weight in self.model.state_dict().items():
            if not bool(weight.isfinite().all()):
                raise FloatingPointError(f"{name} is no longer finite {self.where()}")
        content = {
            "config": dataclasses.asdict(self.config),
            "data": self.data.sha256,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "progress": vars(self.progress),
            "rng": self.group.random_state(),
            "threads": torch.get_num_threads(),
            "backend": matrix_products.backend(),
            "epochs": self.epochs,
            "steps": self.steps,
            "clock": {"started": self.started, "seconds": self.seconds(), "stepping": self.stepping},
            "record": self.record,
            "device": self.group.device.type,
            **self.kept(),
        }
        if self.group.size > 1:  # each process has rows, and with them a state, of its own
            carry = processes.moved(self.progress.carry, torch.device("cpu"))
            content["ranks"] = self.group.gather({"rng": content["rng"], "carry": carry})
        path = self.path
        self.group.first(lambda: checkpoints.save(path, content))

    def where(self) -> str:
        """Where the run is, and what to do, for the message of an error."""
        steps = self.progress.epoch * self.steps + self.progress.step
        norm = "" if self.norm is None else f" (gradient norm {float(self.norm):.3g} at the last one)"
        return f"after {steps} steps{norm}; lower the learning rate or clip the gradient"

    def seconds(self) -> float:
        """Wall seconds of the run, those before it was taken up again among them."""
        return self.earlier + time.perf_counter() - self.since

    def parameters(self) -> int:
        """How many numbers are in the model's parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def events(self, checkpoint_seconds: float, stop: threading.Event, most: int | None) -> Iterator[Event]:
        """The events of `training`, an epoch's as the dict that the record keeps; saves, and stops where `stop` is set, or after
        `most` updates."""
        saved, before, done = time.monotonic(), time.perf_counter(), 0
        for event in self.training():
            self.stepping += time.perf_counter() - before
            if isinstance(event, Epoch):
                row = self.row(event)
                self.progress, self.stepping = event.progress, 0.0
                self.epochs.append(row)
            else:
                self.progress, self.norm = event.progress, event.gradient_norm
                self.step(event)
                done += 1
            yield self.epochs[-1] if isinstance(event, Epoch) else event
            # after a pass's last step the scheduler has still to move, so that moment is left to the epoch's event
            if isinstance(event, Epoch) or event.progress.step < self.steps:
                stopped, due = self.group.any(
                    stop.is_set() or done == most, time.monotonic() - saved > checkpoint_seconds
                )
                if isinstance(event, Epoch) or stopped or due:
                    self.save()
                    saved = time.monotonic()
                if stopped:
                    raise KeyboardInterrupt
            before = time.perf_counter()

    def finish(self) -> None:
        """Evaluate the final model, make the record, and save both in one checkpoint."""
        results = {
            **self.results(),
            "epochs": self.epochs,
            "parameters": self.parameters(),
            "device": self.group.name(),
            **({"processes": self.group.size} if self.group.size > 1 else {}),
        }
        self.record = records.make_record(
            self.config, self.data, self.model, results, started=self.started, seconds=self.seconds()
        )
        self.save()


def run_of(config: RunConfig) -> type[Run]:
    """The `Run` that a configuration names."""
    module, _, name = config.run.partition(":")
    found: type[Run] = getattr(importlib.import_module(module), name)
    return found


def carry_out(
    config: RunConfig,
    out: Path | None = None,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    checkpoint_seconds: float = 120.0,
    device: str = "cpu",
    patience: float = 0.0,
    steps: int | None = None,
) -> dict[str, Any]:
    """Make the run of a configuration, whatever its kind: train, evaluate, and return the record (see
    `tiedlib.lab.runs.records`), whose numbers are those of the final model.

    With a folder `out`: a checkpoint after every epoch and every `checkpoint_seconds`, and record.json at the end. A
    call with the same configuration goes on where the last one stopped, to the same bits; a finished run is returned as
    it is. A damaged file gets another name, which `Begun` tells, and the run starts again. Ctrl-C finishes the step, saves,
    and raises KeyboardInterrupt, and so does the last of `steps` updates of this call. `on_event` gets a `Begun`, a `Step`
    for each update and a dict for each epoch. A folder in use is waited for, `patience` seconds.

    All randomness comes from `config.seed`. torch's own generator, its number of threads and the backend of the products are
    left as they were. Below torchrun the processes share the batch's rows (see `tiedlib.lab.runs.processes`), and a run goes on
    with as many processes as before.

    Raises CheckpointError for a folder of another run; FileError for one that is in use; FloatingPointError where the loss or a
    weight is no longer finite (the last good checkpoint stays); ValueError for a device, or for several processes, where the kind
    of run knows none; and what the run itself raises.
    """
    if steps is not None:
        arguments.whole("steps", steps)
    kind = run_of(config)
    if not kind.parallel and (device != "cpu" or processes.launched()):
        raise ValueError(
            f"device is {device!r}{', below torchrun' if processes.launched() else ''}; "
            f"a run of the kind {config.kind} is made by one process on the cpu"
        )
    with ExitStack() as held:
        group = held.enter_context(processes.processes(device))
        held.enter_context(own_state(config.threads, group.device))
        run, notes = kind(config, group), list[str | None]()
        if out:
            group.first(lambda: held.enter_context(locked(out, patience)))
            run, notes = _as_left(run, out)
        stop = held.enter_context(ctrl_c(once=group.size > 1))
        said = tuple(note for note in notes if note)
        size = (run.steps, run.items_per_step, run.items, run.parameters())
        on_event(Begun(*size, run.progress, finished=run.record is not None, notes=said))
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


def _as_left(run: Run, out: Path) -> tuple[Run, list[str | None]]:
    """The run as its folder has it, and what was found damaged there."""
    path, group, notes = out / "checkpoint.pt", run.group, list[str | None]()
    if group.first(path.exists):
        try:
            run.restore(path)
        except checkpoints.DamagedError as error:
            notes = [f"{error}; it is now {group.first(lambda: set_aside(path)).name}, and the run begins anew"]
            run = type(run)(run.config, group)
    run.path = path
    notes.append(group.first(lambda: records.set_aside_if_damaged(out / "record.json", run.config)))
    return run, notes


@contextmanager
def own_state(threads: int | None, device: torch.device = ALONE.device) -> Iterator[None]:
    """torch's global generator, number of threads and backend of products are the run's inside, and afterwards as they were."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), matrix_products.using():
            torch.set_num_threads(threads or before)
            yield
    finally:
        torch.set_num_threads(before)
