"""A command in a process of its own, with limits of time, memory, processes and disk, a private folder and no network.

What holds on every system: a private folder (mode 700) that is removed afterwards, an environment with nothing secret in
it, and a watch (psutil) over everything that the command has started. On Linux `tiedlib.homework.grading.confine` adds
namespaces and limits of the system. A system that refuses a part goes on without it, and `Sandbox.protections` says so.

Memory is limited twice: each process by RLIMIT_DATA (a huge tensor is refused, and only the cell fails), all together by the
watch. Processes: by a cgroup where we may make one, by RLIMIT_NPROC for an ordinary user with a user namespace (it does not
hold root back), and by the watch.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from tiedlib._arguments import number, whole
from tiedlib.homework.grading import confine, surroundings

__all__ = ["Limits", "Outcome", "Sandbox", "SandboxError", "run", "spaces"]

MB = 2**20
_ROOM = 100  # threads and processes above the limit that the system still allows, so that the watch sees them
_ALL = ("user", "process", "network", "mount", "ipc")
_MARK = "TIEDLIB_SANDBOX"


class SandboxError(OSError):
    """The sandbox could not be made: our trouble, never the fault of what was to run in it."""


def _limit(default: Any, what: str) -> Any:
    return field(default=default, metadata={"help": what})


@dataclass(frozen=True)
class Limits:
    """What one submission may use. Raises TypeError or ValueError, with name, value and rule, for what cannot be."""

    seconds: float = _limit(120.0, "for a submission in all")
    cell_seconds: float = _limit(30.0, "for a cell, and for the check of a question")
    memory: int = _limit(3000, "megabytes, for all its processes together")
    processes: int = _limit(64, "at a time")
    disk: int = _limit(500, "megabytes in its private folder")

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.type == "int":
                whole(one.name, getattr(self, one.name))
            else:
                number(one.name, getattr(self, one.name), "positive and finite")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, or the limit that it broke (time, memory, processes, disk; empty: none)."""

    code: int | None
    problem: str
    output: str
    seconds: float
    memory: float  # megabytes, at most, as far as the watch has seen
    protections: dict[str, str]


@functools.cache
def spaces() -> tuple[str, ...]:
    """The namespaces that this system gives us, tried out once, best first."""
    if sys.platform != "linux":
        return ()
    without_mount = tuple(name for name in _ALL if name not in ("mount", "process"))
    for user in (True, False):  # root in a container may have all but user namespaces
        for names in (_ALL, without_mount):
            wanted = names if user else names[1:]
            with Sandbox(Limits(seconds=20.0), wanted=wanted) as box, suppress(SandboxError):
                box.start([sys.executable, "-I", "-S", "-c", "pass"])
                if box.wait(20.0) == 0:
                    return wanted
    return ()


class Sandbox:
    """A place to run one command in: `with Sandbox(limits) as box: box.start([...])`.

    folder   the command's working folder, home and place for temporary files: all that it may write
    shown    what it can read, and only we can write
    wanted   the namespaces to use (None: what the system gives)
    """

    def __init__(self, limits: Limits, *, wanted: Sequence[str] | None = None, base: Path | None = None) -> None:
        self.limits = limits
        self.spaces = list(spaces() if wanted is None else wanted)
        self.home = Path(
            tempfile.mkdtemp(prefix="tiedlib-", dir=base or surroundings.temporary())
        ).resolve()  # mode 700
        self.folder, self.shown, self._empty = (self.home / name for name in ("work", "shown", "root"))
        for folder in (self.folder, self.shown, self._empty):
            folder.mkdir()
        self.peak = 0.0
        self._mark, self._cgroup = secrets.token_hex(8), surroundings.make_cgroup(limits.processes + _ROOM)
        self._process: subprocess.Popen[bytes] | None = None
        self._known: set[psutil.Process] = set()
        self._tail: deque[bytes] = deque(maxlen=16)
        self._reader: threading.Thread | None = None
        self._looked = 0.0

    @property
    def protections(self) -> dict[str, str]:
        """What was done for safety, and what this system does not allow, each in words."""
        no = "this system does not allow it"
        cut, own, hidden = ("network" in self.spaces, "process" in self.spaces, "mount" in self.spaces)
        nproc = "user" in self.spaces and hasattr(os, "geteuid") and os.geteuid() != 0
        how = (
            "by a cgroup and by watching"
            if self._cgroup
            else "by the system and by watching"
            if nproc
            else "by watching"
        )
        data = "each process by the system, all by watching" if sys.platform == "linux" else "by watching"
        return {
            "network": "cut off" if cut else f"was not cut off: {no}",
            "other processes": "out of reach" if own else f"were not out of reach: {no}",
            "other files": "hidden or read-only" if hidden else f"were not hidden: {no}",
            "processes": f"limited {how}",
            "memory": f"limited: {data}",
        }

    def start(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        """Start the command, an absolute path and its arguments. Raises SandboxError where the system refuses."""
        order = {
            "command": list(command),
            "folder": str(self.folder),
            "root": str(self._empty),
            "spaces": self.spaces,
            "cgroup": self._cgroup and str(self._cgroup),
            "visible": [*surroundings.system(), str(self.shown)],
            "limits": self._system_limits(),
        }
        confined = [sys.executable, "-I", "-S", str(confine.__file__), json.dumps(order)]
        try:
            self._process = subprocess.Popen(
                confined if os.name == "posix" else list(command),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**surroundings.environment(self.folder), **(environment or {}), _MARK: self._mark},
            )
        except OSError as error:
            raise SandboxError(f"{command[0]} could not be started: {error}") from error
        self._reader = threading.Thread(target=self._drain, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _system_limits(self) -> dict[str, int]:
        limits = self.limits
        rules = {"memory": limits.memory * MB, "file": limits.disk * MB, "cpu": int(2 * limits.seconds) + 10}
        if "user" in self.spaces and os.geteuid() != 0:  # else it would count all processes of the user
            rules["processes"] = limits.processes + _ROOM
        return rules

    def _drain(self, pipe: Any) -> None:
        """Read what the command prints, and keep the end of it: a full pipe would stop the command."""
        with pipe, suppress(OSError, ValueError):
            while part := pipe.read1(4096):
                self._tail.append(part)

    @property
    def output(self) -> str:
        """The last that the command has printed, 64 kB at most."""
        return b"".join(list(self._tail)).decode(errors="replace")

    def watch(self) -> str:
        """Look once: "" while all is well, "ended", or the limit that is broken (memory, processes, disk)."""
        if self._process is None or self._process.poll() is not None:
            return "ended"
        memory, count = 0, 0
        for one in self._all():
            with suppress(psutil.Error):
                info = one.memory_info()
                memory, count = memory + max(info.rss - getattr(info, "shared", 0), 0), count + 1
        self.peak = max(self.peak, memory / MB)
        if count > self.limits.processes + len({"process"} & set(self.spaces)):  # the one that only waits
            return "processes"
        if memory > self.limits.memory * MB and self._exactly() > self.limits.memory * MB:
            return "memory"
        if time.monotonic() > self._looked + 1.0:
            self._looked = time.monotonic()
            if not self.fits():
                return "disk"
        return ""

    def _all(self) -> set[psutil.Process]:
        """The command and what it has started; what has cut itself loose is remembered from an earlier look."""
        with suppress(psutil.Error):
            first = psutil.Process(self._process.pid) if self._process else None
            if first:
                self._known |= {first, *first.children(recursive=True)}
        self._known = {one for one in self._known if one.is_running()}
        return self._known

    def fits(self) -> bool:
        """Whether what the command has written is within the limit."""
        return surroundings.fits(self.folder, self.limits.disk * MB)

    def _exactly(self) -> int:
        """Bytes of all processes, where what they share since a fork counts once, as far as the system tells."""
        total = 0
        for one in self._all():
            with suppress(psutil.Error, OSError):
                info = one.memory_full_info()
                total += int(getattr(info, "pss", getattr(info, "uss", info.rss)))
        return total

    def interrupt(self) -> None:
        """As Ctrl-C would."""
        if self._process:
            self._process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)

    def wait(self, seconds: float) -> int | None:
        """Watch until the command ends or a limit is broken; its exit code, None where it was stopped."""
        return self.finish(seconds).code

    def finish(self, seconds: float) -> Outcome:
        """Wait for the end, or kill at a limit, and say how it ended. Raises SandboxError where it could not be confined."""
        begin = time.monotonic()
        while not (problem := self.watch()) and time.monotonic() < begin + seconds:
            time.sleep(0.05)
        problem = {"": "time", "ended": ""}.get(problem, problem)
        code = self._process.poll() if self._process and not problem else None
        self.kill()
        if code == confine.REFUSED and "confine:" in self.output:
            raise SandboxError(self.output.strip().splitlines()[-1])
        return Outcome(code, problem, self.output, time.monotonic() - begin, self.peak, self.protections)

    def kill(self) -> None:
        """End everything that was started, however often it has forked. Where processes have a namespace, its first process
        takes all others along; elsewhere they are found by descent and by a mark in their environment."""
        if self._process is None:
            return
        first, named = self._process.pid, "process" in self.spaces
        for attempt in range(50):
            left = {one for one in self._all() | (set() if named else set(_marked(self._mark))) if _lives(one)}
            for one in left:
                if not (named and one.pid == first and attempt < 20):  # it collects the other, and ends by itself
                    with suppress(psutil.Error):
                        one.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
            if not left or (self._process.poll() is not None and named):
                break
        if self._reader:
            self._reader.join(1.0)
        self._process, self._known = None, set()

    def close(self) -> None:
        """End what runs, and remove every trace."""
        self.kill()
        if self._cgroup:
            for _ in range(20):
                with suppress(OSError):
                    self._cgroup.rmdir()
                    break
                time.sleep(0.05)
        surroundings.remove(self.home)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(command: Sequence[str], limits: Limits | None = None) -> Outcome:
    """Run a command to its end, or to the limit that it breaks. Raises SandboxError where no sandbox could be made."""
    with Sandbox(limits or Limits()) as box:
        box.start(command)
        return box.finish(box.limits.seconds)


def _lives(one: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return one.status() != psutil.STATUS_ZOMBIE
    return False


def _marked(mark: str) -> Iterator[psutil.Process]:
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if one.environ().get(_MARK) == mark:
                yield one
