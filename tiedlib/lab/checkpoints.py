"""Checkpoints of a training run: the whole file or nothing, and one run to a folder.

A file is written beside its place, flushed to the disk, and only then put in its place under its name; a process that
is killed at any moment leaves the old file or the new one. Files are read with `weights_only=True`: they hold tensors,
numbers, texts, lists and dicts, and cannot run code.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout

from tiedlib.lab.configuration import differences

__all__ = [
    "FORMAT",
    "CheckpointError",
    "DamagedError",
    "ctrl_c",
    "load",
    "locked",
    "require_same",
    "save",
    "set_aside",
    "write_atomic",
]

FORMAT = 1  # raised whenever an older program could not read the file
_COMMON = {"format", "config", "data", "model", "optimizer", "progress", "rng", "threads", "epochs", "clock", "record"}
_KEYS = _COMMON | {"scheduler", "vocabulary", "unit"}  # of a language model


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read or used; the message names the file, the cause and what to do."""


class DamagedError(CheckpointError):
    """A file that is no longer what was written: nothing can be read from it, so it can be set aside."""


def set_aside(path: Path) -> Path:
    """Rename a damaged file to <name>.damaged (or .damaged-2, …), so that it is kept and in nobody's way. Returns the new
    path; raises CheckpointError where the folder refuses."""
    aside, count = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{count}")
    try:
        return path.replace(aside)
    except OSError as error:
        raise CheckpointError(f"{path} is damaged and could not be set aside: {_cause(error)}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all. Raises CheckpointError where the folder or the disk refuses."""
    part = path.with_name(
        f".{path.name}.{os.getpid()}.part"
    )  # same folder, so that putting it in place is one operation
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {_cause(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint: `content` and the format's version. Raises CheckpointError as `write_atomic`."""
    buffer = io.BytesIO()  # serialized first: an error of the disk is then an OSError, never half a zip archive
    torch.save({"format": FORMAT, **content}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path, *, text: bool = True) -> dict[str, Any]:
    """Read a checkpoint, of a model of text or of another one. Raises CheckpointError for a file that is missing, damaged,
    or of another format."""
    try:
        raw = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: give the folder of a run of `tiedlib train`") from None
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {_cause(error)}") from error
    try:
        with zipfile.ZipFile(raw) as archive:
            broken = archive.testzip()  # torch.load does not look at the checksums
        raw.seek(0)
        content = {} if broken else torch.load(raw, map_location="cpu", weights_only=True)
    except Exception as error:  # broken bytes are met with a dozen kinds of exception
        broken, content = type(error).__name__, {}
    if broken:
        raise DamagedError(f"{path} is damaged or no checkpoint ({broken}); move it away to start anew")
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise CheckpointError(
            f"{path} has format {found!r}, this program reads {FORMAT}; use the tiedlib that wrote it"
        )
    if missing := (_KEYS if text else _COMMON) - content.keys():
        raise DamagedError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}; move it away to start anew")
    return dict(content)


def require_same(path: Path, what: str, saved: Mapping[str, Any], wanted: Any) -> None:
    """Raise CheckpointError, naming every entry that differs, where `path` belongs to other data, or, where `wanted` is a
    dataclass, to another configuration."""
    if not isinstance(wanted, Mapping):
        differ = differences(saved, wanted)
    else:
        keys = [*wanted, *(key for key in saved if key not in wanted)]
        differ = [
            f"{key} {saved.get(key)!r} (now {wanted.get(key)!r})" for key in keys if saved.get(key) != wanted.get(key)
        ]
    if differ:
        raise CheckpointError(
            f"{path} has another {what}: {', '.join(differ)}; give another folder, or the same settings"
        )


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold `folder` for one run. The system drops the lock of a process that is killed, so none is ever stale.

    Raises CheckpointError where another process still holds it after `patience` seconds, or where the folder cannot be
    written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout:
        raise CheckpointError(
            f"{folder} is in use by another run; wait for it to end, or give another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise CheckpointError(f"{folder} cannot be used: {_cause(error)}") from error
    try:
        for left in folder.glob(".*.part"):  # of a process that was killed while it wrote
            with suppress(OSError):
                left.unlink()
        yield
    finally:
        lock.release()


@contextmanager
def ctrl_c(once: bool = False) -> Iterator[threading.Event]:
    """Set the event at the first Ctrl-C, so that the step can end; a second one interrupts at once. With once=True it may
    come twice and counts once: `torchrun` hands on a signal that its processes had from the terminal already."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread gets signals
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and not once:
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _cause(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and start again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there; give another folder"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return "a file stands where a folder is needed; give another folder"
    return f"{os.strerror(number)}" if isinstance(number, int) else str(error)


def _sync_folder(folder: Path) -> None:
    """The new name itself reaches the disk; systems without folder handles (Windows) do it alone."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
