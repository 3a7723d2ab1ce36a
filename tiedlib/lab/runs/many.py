"""Many runs: the missing ones are made, each in a process of its own, and whatever happens to one, the others go on.

A run is a configuration, a folder for its checkpoint, and the place of its record. A run whose record is there is left
alone, one that was stopped goes on from its checkpoint, so that the same command can be given again at any time.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tiedlib.lab.runs import records, unfinished
from tiedlib.lab.runs.configuration import RunConfig
from tiedlib.lab.runs.memory import keep_memory
from tiedlib.lab.runs.run import Begun, carry_out, run_of

__all__ = ["Say", "Task", "by_processes", "make", "one"]

Say = Callable[[str], None]  # is given a line of what goes on
_SPAWN = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork


@dataclass(frozen=True)
class Task:
    """What is to be done: the configuration, the folder of its checkpoint, the path of its record, and what the record says
    of the run's place in an experiment (experiment, variant)."""

    config: RunConfig
    folder: Path
    record: Path
    labels: Mapping[str, str] = field(default_factory=dict)


def make(
    what: str,
    tasks: Mapping[str, Task],
    outcomes: Callable[[dict[str, Task]], Iterator[tuple[str, Any]]],
    report: Say,
) -> bool:
    """Make the records that are missing. `outcomes` gives each run's record, or as a text what went wrong, as it comes in.

    A damaged record gets another name, one of another configuration is left; both are reported. True where all went well.
    """
    good, missing = True, {}
    for run, task in tasks.items():
        try:
            if note := records.set_aside_if_damaged(task.record, task.config):
                report(f"{run}: {note}, and the run is made again")
        except records.RecordError as error:
            report(f"{run}: {error}")
            good = False
            continue
        if not task.record.exists():
            missing[run] = task
    report(f"{what}: {len(tasks)} runs chosen, {len(missing)} to do")
    for done, (run, outcome) in enumerate(outcomes(missing), 1):
        good = good and not isinstance(outcome, str)
        report(
            f"[{done}/{len(missing)}] {run}: {outcome if isinstance(outcome, str) else _summary(outcome, tasks[run].config)}"
        )
    return good


def by_processes(tasks: Mapping[str, Task], jobs: int, report: Say, **options: Any) -> Iterator[tuple[str, Any]]:
    """Each run's record, or what went wrong, as it comes in; every run in a process of its own, `jobs` at a time. options are
    those of `carry_out`."""
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def watch(run: str) -> Any:
        here, there = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_process, args=(there, run, tasks[run], threads, options), daemon=True)
        process.start()
        there.close()  # so that the end of the process is the end of the pipe
        outcome: Any = "its process was killed; give the same command again to go on"
        try:
            while True:
                kind, message = here.recv()
                if kind == "say":
                    report(message)
                else:
                    outcome = message
        except (EOFError, OSError):  # OSError: Windows' word for it
            process.join()
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(watch, run): run for run in tasks}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        finally:  # after Ctrl-C, which reaches every process: those that run save and end, no other begins
            pool.shutdown(wait=True, cancel_futures=True)


def _process(pipe: Connection, run: str, task: Task, threads: int, options: Mapping[str, Any]) -> None:
    """What a run's process does; it sends ("say", line) and at last ("end", outcome)."""
    keep_memory()
    pipe.send(("end", one(run, task, threads, lambda line: pipe.send(("say", line)), **options)))


def one(run: str, task: Task, threads: int, say: Say, **options: Any) -> Any:
    """Make one run here, and give its record, or as a text what went wrong. `say` gets a line for each epoch; options are
    those of `carry_out`."""
    torch.set_num_threads(threads)
    config, folder = task.config, task.folder
    figure = run_of(config).figure

    def on_event(event: Any) -> None:
        if isinstance(event, Begun):
            for note in event.notes:
                say(f"{run}: {note}")
            if not event.finished and (event.progress.epoch or event.progress.step):
                say(f"{run}: going on at epoch {event.progress.epoch + 1}, step {event.progress.step + 1}")
        elif isinstance(event, dict):
            say(_epoch(run, figure, event))

    try:
        outcome: Any = {**task.labels, **carry_out(config, folder, on_event=on_event, **options)}
        if task.record != folder / "record.json":  # there it is already
            records.save_record(task.record, outcome)
        unfinished.remove(task.record)
    except KeyboardInterrupt:
        if options.get("steps") is not None:
            unfinished.save(task.record, folder, task.labels)
        return f"stopped and saved in {folder}"
    except (RuntimeError, ValueError, ArithmeticError, OSError, MemoryError) as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return outcome


def _epoch(run: str, figure: str, row: Mapping[str, Any]) -> str:
    valid = row[f"valid_{figure}"]
    held_out = "" if valid is None else f", {valid:.2f} valid"
    return f"{run}, epoch {row['epoch'] + 1}: {row[f'train_{figure}']:.1f} train{held_out}"


def _summary(record: Mapping[str, Any], config: RunConfig) -> str:
    figure = run_of(config).figure
    found = {part: record.get(f"{part}_{figure}") for part in ("train", "valid", "test")}
    figures = ", ".join(f"{value:.2f} {part}" for part, value in found.items() if value is not None)
    return f"{figure} {figures}; {record['seconds']:.0f} s"
