"""Where files come from: the folder `TIEDLIB_DATA`, or a cache folder that is filled from the network.

The registry names each file's sha256 and address. A file is used only after its hash was checked (once in a process).
Downloads are atomic: pooch writes to a temporary file beside the final one and moves it there when the hash is right.
One process at a time downloads files of a set; the others wait and then find the files there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pooch
from filelock import FileLock

from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.errors import (
    CacheError,
    DataError,
    DiskFullError,
    DownloadError,
    MissingFileError,
    TruncatedFileError,
    WrongHashError,
)
from tiedlib.lab.resources import resource

_checked: set[tuple[str, str, int, int]] = set()  # (path, hash, size, time of change) of the files whose hash was right
_terms_shown: set[str] = set()
_LEFTOVER = re.compile(r"tmp[a-z0-9_]{8}")  # what pooch calls a download that has not ended


@dataclass(frozen=True)
class Store:
    """The files of one registry, read from `folder` where that is given, else from `cache`, else from the network.

    registry: a text file of lines `path sha256:hash address`. retries: how often a failed download is tried again.
    timeout: seconds without an answer after which a download has failed.
    """

    registry: Path
    cache: Path
    folder: Path | None = None
    retries: int = 1
    timeout: float = 30.0

    @classmethod
    def from_environment(cls) -> Store:
        """The library's own registry, the folder `TIEDLIB_DATA` if that is set, the cache folder `TIEDLIB_CACHE`."""
        folder, cache = os.environ.get("TIEDLIB_DATA"), os.environ.get("TIEDLIB_CACHE")
        return cls(
            registry=resource("registry.txt"),
            cache=Path(cache).expanduser() if cache else Path(pooch.os_cache("tiedlib")),
            folder=Path(folder).expanduser() if folder else None,
        )

    @property
    def root(self) -> Path:
        """The folder that holds the files."""
        return self.folder if self.folder is not None else self.cache

    def files(self, name: str, *, every: bool = False) -> list[str]:
        """The files of a set that can be had here, as registry paths; every=True: also those that this folder lacks.

        A file without an address (a cut of another one) counts only where it is here.
        """
        registry, urls = _read_registry(self.registry)
        of_set = [relative for relative in registry if relative.startswith(name + "/")]
        return [f for f in of_set if self.has(f) or (f in urls and (every or self.folder is None))]

    def has(self, relative: str) -> bool:
        """Whether the file is here already (its hash is checked when it is used)."""
        return (self.root / relative).is_file()

    def sha256(self, relative: str) -> str:
        """The hash that the registry names. Raises DataError for a file that is not in the registry."""
        registry, _ = _read_registry(self.registry)
        if relative not in registry:
            raise DataError(
                f"{relative!r} is not in the registry {self.registry}: add its path, hash and address there"
            )
        return registry[relative].removeprefix("sha256:")

    def path(self, relative: str, *, progress: bool | None = None) -> Path:
        """The checked file, downloaded first where it has to be. progress: show a bar (None: on a terminal only).

        Raises a DataError that says what to do; nothing half-written is left behind.
        """
        known = self.sha256(relative)
        file = self.root / relative
        if self.folder is not None:
            self._check_folder(self.folder, relative, known)
        elif not (file.is_file() and _has_hash(file, known)):
            self._download(relative, known, sys.stderr.isatty() if progress is None else progress)
        return file

    def _check_folder(self, folder: Path, relative: str, known: str) -> None:
        if not (folder / relative).is_file():
            raise MissingFileError(
                f"TIEDLIB_DATA is {str(folder)!r}, and there is no file {relative!r} in it: "
                "put the file there, or unset TIEDLIB_DATA to download it"
            )
        if not _has_hash(folder / relative, known):
            raise WrongHashError(
                f"{folder / relative} is not the file that the registry names (sha256 should be {known}): "
                "replace it by the right file, or unset TIEDLIB_DATA to download it"
            )

    def _download(self, relative: str, known: str, progress: bool) -> None:
        _, urls = _read_registry(self.registry)
        if relative not in urls:
            raise MissingFileError(
                f"no address serves {relative!r}: put the file into a folder and set TIEDLIB_DATA to that folder"
            )
        name, file, url = relative.split("/")[0], self.cache / relative, urls[relative]
        try:
            with self._lock(name):
                if file.is_file() and _has_hash(file, known):
                    return  # another process has brought it in the meantime
                _sweep(file.parent)
                _show_terms(name)
                self._pooch().fetch(relative, downloader=self._downloader(progress))
        except DataError:
            raise
        except Exception as error:
            raise _explain(error, relative, url, file, known) from None
        if not _has_hash(file, known):
            raise WrongHashError(f"{file} changed while it was written: is another program using {self.cache}?")

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        folder = self.cache / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            yield

    def _pooch(self) -> pooch.Pooch:
        registry, urls = _read_registry(self.registry)
        return pooch.Pooch(self.cache, base_url="", registry=registry, urls=urls, retry_if_failed=self.retries)

    def _downloader(self, progress: bool) -> pooch.HTTPDownloader:
        return pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=self.timeout)


def _read_registry(file: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Hashes and addresses by path; read again only when the registry has changed."""
    return _parse_registry(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _parse_registry(file: Path, changed: int) -> tuple[dict[str, str], dict[str, str]]:
    reader = pooch.Pooch(file.parent, base_url="")
    reader.load_registry(file)
    return reader.registry, reader.urls


def _has_hash(file: Path, known: str) -> bool:
    stat = file.stat()
    key = (str(file.resolve()), known, stat.st_size, stat.st_mtime_ns)
    if key not in _checked and pooch.file_hash(str(file)) == known:
        _checked.add(key)
    return key in _checked


def _sweep(folder: Path) -> None:
    """Remove what a killed process left behind. Only the holder of the set's lock may call this."""
    if folder.is_dir():
        for file in folder.iterdir():
            if _LEFTOVER.fullmatch(file.name):
                file.unlink(missing_ok=True)


def _show_terms(name: str) -> None:
    if name in CATALOGUE and name not in _terms_shown:
        _terms_shown.add(name)
        print(f"tiedlib: fetching {CATALOGUE[name].title}. Terms: {CATALOGUE[name].terms}", file=sys.stderr)


def _explain(error: Exception, relative: str, url: str, file: Path, known: str) -> DataError:
    """The DataError that tells a user what a failed download means and what to do."""
    import requests  # slow to import, and wanted only here

    by_hand = f"or put the file at {relative!r} in a folder of your own and set TIEDLIB_DATA to that folder"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return TruncatedFileError(f"the download of {url} broke off before its end: try again, {by_hand}")
    if isinstance(error, requests.exceptions.HTTPError):
        return DownloadError(f"the server refused {url} ({error}): try again later, {by_hand}")
    if isinstance(error, requests.exceptions.RequestException):
        return DownloadError(
            f"could not reach {url} ({type(error).__name__}): check the network and try again, {by_hand}"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(
            f"no room on the disk for {file} ({error.strerror}): free some space, "
            "or set TIEDLIB_CACHE to a folder on another disk"
        )
    if isinstance(error, OSError):
        return CacheError(
            f"cannot write {file} ({error.strerror or error}): make the folder writable, "
            "or set TIEDLIB_CACHE to a folder that is"
        )
    if isinstance(error, ValueError) and "hash" in str(error):
        return WrongHashError(
            f"what {url} served is not the file that the registry names (sha256 should be {known}); it was deleted. "
            f"Try again: a broken line or a login page may be the cause; {by_hand}"
        )
    return DownloadError(f"the download of {url} failed ({type(error).__name__}: {error}): try again, {by_hand}")
