"""Runs on a Ray cluster: the queue, the workers and the second try where a worker has died are Ray's.

Every machine needs tiedlib with the extra `cluster`, the data sets, and the folder of the runs, on storage that they share: a
run that is taken over goes on from its checkpoint there. A run is locked while a process makes it; who takes it over
waits until the system has dropped the dead one's lock.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from tiedlib.lab import files
from tiedlib.lab.runs.many import Say, Task, one
from tiedlib.lab.runs.memory import keep_memory

__all__ = ["by_ray"]

TRIES = 10  # how often a run is taken up again after the death of its worker
PATIENCE = (
    120.0  # seconds for which a worker waits for a run's folder: Ray may begin anew before the old process has ended
)
MARK = ".seen-by-all"  # in the folder of the runs, with a word that every worker must find there


def by_ray(
    tasks: Mapping[str, Task], out: Path, address: str, report: Say, **options: Any
) -> Iterator[tuple[str, Any]]:
    """Each run's record, or what went wrong, as it comes in from the cluster at `address`; options are those of `carry_out`.

    A run takes as many of Ray's CPUs as it has threads (one where the configuration says none). What the workers say goes
    through Ray's log to standard output. Raises ConnectionError where there is no cluster at the address.
    """
    if not tasks:
        return
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # lines of different runs look alike, and none may be left out
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # Ray's own default to come, said without a warning
    import ray

    _refuse_silence(address)
    try:
        ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING)
    except RuntimeError as error:  # another version of Ray or Python there, for one
        raise ConnectionError(f"the cluster at {address} cannot be used: {error}") from error
    word = uuid4().hex
    try:
        files.write_atomic(out / MARK, word.encode())
        remote = ray.remote(_work)
        waiting = {
            remote.options(
                name=run, num_cpus=task.config.threads or 1, max_retries=TRIES, retry_exceptions=False
            ).remote(run, task, out, word, options): run
            for run, task in tasks.items()
        }
        report(f"{len(tasks)} runs are with the cluster at {address}")
        try:
            while waiting:
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                yield waiting.pop(done), _result(ray, done)
        finally:  # after Ctrl-C: those that run save and end, no other begins
            for reference in waiting:
                ray.cancel(reference)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE)
    finally:
        with suppress(OSError):
            (out / MARK).unlink()
        ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Raise ConnectionError where nothing listens at host:port; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError(
                f"there is no Ray cluster at {address} ({error}); give the address of its head"
            ) from None


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:  # its worker died too often, or could not begin
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}; give the same command again to go on"


def _work(run: str, task: Task, out: Path, word: str, options: dict[str, Any]) -> Any:
    """What a worker does."""
    keep_memory()
    try:
        seen = (out / MARK).read_text(encoding="utf-8") == word
    except OSError:
        seen = False
    if not seen:
        return (
            f"the worker on {socket.gethostname()} does not see {out} as the machine that sweeps does; "
            "give a folder on storage that all of them share"
        )
    say = lambda line: print(line, flush=True)  # noqa: E731
    return one(run, task, task.config.threads or 1, say, patience=PATIENCE, **options)
