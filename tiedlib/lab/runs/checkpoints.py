"""Checkpoints of a training run: the whole file or nothing. Files are read with `weights_only=True`: they hold tensors,
numbers, texts, lists and dicts, and cannot run code.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tiedlib.lab.files import FileError, cause, write_atomic
from tiedlib.lab.runs.configuration import differences

__all__ = ["FORMAT", "CheckpointError", "DamagedError", "load", "require_same", "save"]

FORMAT = 1  # raised whenever an older program could not read the file
_KEYS = {"format", "config", "data", "model", "optimizer", "progress", "rng", "threads", "epochs", "clock", "record"}


class CheckpointError(FileError):
    """A checkpoint that cannot be written, read or used; the message names the file, the cause and what to do."""


class DamagedError(CheckpointError):
    """A file that is no longer what was written: nothing can be read from it, so it can be set aside."""


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint: `content` and the format's version. Raises CheckpointError as `write_atomic`."""
    buffer = io.BytesIO()  # serialized first: an error of the disk is then an OSError, never half a zip archive
    torch.save({"format": FORMAT, **content}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path, also: Iterable[str] = ()) -> dict[str, Any]:
    """Read a checkpoint, which has what every run saves, and what `also` names. Raises CheckpointError for a file that is
    missing, damaged, or of another format."""
    try:
        raw = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: give the folder of a run of `tiedlib train`") from None
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {cause(error)}") from error
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
    if missing := (_KEYS | set(also)) - content.keys():
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
