"""What is around a command in a sandbox: its environment, the files it needs, a cgroup, its folder's size and end."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import site
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["environment", "fits", "make_cgroup", "remove", "system", "temporary"]


def temporary() -> str:
    """The folder for temporary files, or /tmp where its name is too long to hold sockets (the system allows 104 signs)."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= 40 or os.name != "posix" else "/tmp"


def environment(folder: Path) -> dict[str, str]:
    """All that the command gets to know: no key, token or name of ours passes."""
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p)]
    programs = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
    passed = {k: os.environ[k] for k in ("TIEDLIB_DATA", "SYSTEMROOT") if k in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {
        **passed,
        **threads,
        "PATH": os.pathsep.join(programs),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@functools.cache
def system() -> list[str]:
    """What a command needs of the system, read-only: programs, Python and its packages, this library, the data sets."""
    etc = ("alternatives", "group", "hosts", "ld.so.cache", "localtime", "nsswitch.conf", "passwd", "ssl/certs")
    paths = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/sys/devices/system/cpu"]
    paths += [f"/etc/{name}" for name in etc]
    paths += [sys.prefix, sys.base_prefix, sys.exec_prefix, *site.getsitepackages(), site.getusersitepackages()]
    paths += [str(Path(sys.executable).resolve().parent.parent), str(Path(__file__).resolve().parents[2])]
    paths += [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p] + [os.environ.get("TIEDLIB_DATA", "")]
    there = {os.path.abspath(p) for p in paths if p and Path(p).exists()}  # noqa: PTH100 - a link stays a link
    return sorted(there - {"/"}, key=lambda p: (p.count("/"), p))


def make_cgroup(limit: int) -> Path | None:
    """A cgroup of our own that holds at most so many threads and processes; None where we may not make one."""
    if sys.platform != "linux":
        return None
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            above = {"": Path("/sys/fs/cgroup"), "pids": Path("/sys/fs/cgroup/pids")}.get(names)
            if above is None:
                continue
            group = above / path.strip("/") / f"tiedlib-{secrets.token_hex(6)}"
            with suppress(OSError):
                group.mkdir()
                try:
                    (group / "pids.max").write_text(str(limit), encoding="utf-8")
                    if os.access(group / "cgroup.procs", os.W_OK):
                        return group
                except OSError:
                    pass
                group.rmdir()
    return None


def fits(folder: Path, limit: int) -> bool:
    """Whether a folder holds at most `limit` bytes, ten thousand files, a hundred levels; links are not followed."""
    size = count = 0
    waiting = [(str(folder), 0)]
    while waiting:
        here, depth = waiting.pop()
        with suppress(OSError), os.scandir(here) as entries:
            for entry in entries:
                count += 1
                with suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                if size > limit or count > 10_000 or depth > 100:
                    return False
    return True


def remove(folder: Path) -> None:
    """Remove a folder whose content was made to resist: no permissions, a thousand levels deep."""
    with suppress(OSError, RecursionError):
        shutil.rmtree(folder)
        return
    if os.name == "posix":
        for command in (["chmod", "-R", "u+rwx", str(folder)], ["rm", "-rf", str(folder)]):
            subprocess.run(command, check=False, capture_output=True)
