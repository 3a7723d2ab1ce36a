"""Files that are whole or not there, and folders that one process has: what every room writes with.

A file is written beside its place, flushed to the disk, and only then put in its place under its name; a process that
is killed at any moment leaves the old file or the new one.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["FileError", "cause", "locked", "set_aside", "write_atomic"]


class FileError(RuntimeError):
    """A file or folder that cannot be read, written or used; the message names it, the cause and what to do."""


def set_aside(path: Path) -> Path:
    """Rename a damaged file to <name>.damaged (or .damaged-2, …), so that it is kept and in nobody's way. Returns the new
    path; raises FileError where the folder refuses."""
    aside, count = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{count}")
    try:
        return path.replace(aside)
    except OSError as error:
        raise FileError(f"{path} is damaged and could not be set aside: {cause(error)}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whole or not at all. Raises FileError where the folder or the disk refuses."""
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
        raise FileError(f"{path} could not be written: {cause(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold `folder` for one run. The system drops the lock of a process that is killed, so none is ever stale.

    Raises FileError where another process still holds it after `patience` seconds, or where the folder cannot be
    written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout:
        raise FileError(f"{folder} is in use by another run; wait for it to end, or give another folder") from None
    except (OSError, NotImplementedError) as error:
        raise FileError(f"{folder} cannot be used: {cause(error)}") from error
    try:
        for left in folder.glob(".*.part"):  # of a process that was killed while it wrote
            with suppress(OSError):
                left.unlink()
        yield
    finally:
        lock.release()


def cause(error: BaseException) -> str:
    """What went wrong with a file, in words, and what to do about it."""
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
