"""The first thing a confined process does, before it becomes the command: namespaces, mounts, limits, no privileges left.

`tiedlib.homework.grading.sandbox` runs this file as a program of its own, with one argument in JSON; it imports the
standard library only. On Linux the command can be given its own user, process, network, IPC and mount namespaces:

user     what it may do counts in this namespace only; needed by an ordinary user to make the others
process  the command is process 1: it sees only what it has started, and when it ends, all of that ends with it
network  a loopback device and nothing else
mount    a root of its own: the system and Python read-only, one writable folder, no home, no sockets of the system
ipc      no shared memory with others

Elsewhere only the limits are set. Exit code 97: it could not be confined as asked; the reason is on standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

REFUSED = 97
_FLAGS = {"user": 0x10000000, "mount": 0x20000, "process": 0x20000000, "network": 0x40000000, "ipc": 0x8000000}
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_MOUNT_SETATTR = 442  # the same number on every architecture
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
_DEATH_SIGNAL, _DROP_BOUND, _NO_NEW_PRIVILEGES = 1, 24, 38  # of prctl


def main(order: dict[str, Any]) -> int:
    """Confine this process and become order["command"]; the exit code, in the process that waits for it."""
    spaces = order["spaces"]
    if order["cgroup"]:
        Path(order["cgroup"], "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    if spaces:
        _unshare(spaces)
    if "process" in spaces and (child := os.fork()):
        return _wait(child)
    if "process" in spaces:
        os.setsid()  # a signal to its own group must not reach the process that waits outside
    _die_with_parent()
    if "network" in spaces:
        _loopback()
    if "mount" in spaces:
        _root(order)
    os.chdir(order["folder"])
    _limits(order["limits"])
    _drop_privileges()
    return os.execv(order["command"][0], order["command"])  # it does not return


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _must(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare(spaces: list[str]) -> None:
    user, group = os.geteuid(), os.getegid()
    _must(_libc().unshare(sum(_FLAGS[name] for name in spaces)), "unshare")
    if "user" in spaces:  # the same number inside, so that files keep their owner
        for file, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", file).write_text(line, encoding="ascii")


def _wait(child: int) -> int:
    """Hand signals on to process 1 of the new namespace, and end as it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: os.kill(child, got))
    _die_with_parent()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    """A grader that is killed takes what it has started with it."""
    if sys.platform == "linux":
        _libc().prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def _loopback() -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sh14x", b"lo", 1)
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    kind_ = kind.encode() if kind else None
    _must(_libc().mount(source.encode(), target.encode(), kind_, flags, data.encode()), f"mount {target}")


def _seal(target: str, read_only: bool) -> None:
    """Attributes for a mount and all below it: never programs with another's rights, never devices."""
    attributes = struct.pack("4Q", _NOSUID | _NODEV | (_RDONLY if read_only else 0), 0, 0, 0)
    _must(_libc().syscall(_MOUNT_SETATTR, -100, target.encode(), 0x8000, attributes, len(attributes)), f"seal {target}")


def _root(order: dict[str, Any]) -> None:
    """Build the new root in the empty folder order["root"] and move there; the old one is gone."""
    root, libc = order["root"], _libc()
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    done: list[str] = []
    for path, read_only in [*((p, True) for p in order["visible"]), (order["folder"], False)]:
        if read_only and any(path.startswith(f"{above}/") for above in done):
            continue
        if Path(path).is_symlink():  # /bin -> usr/bin
            Path(root + path).parent.mkdir(parents=True, exist_ok=True)
            Path(root + path).symlink_to(Path(path).readlink())
            continue
        _place(path, root + path)
        _mount(path, root + path, None, _BIND | _REC)
        _seal(root + path, read_only)
        done.append(path)
    _devices(root, order["limits"]["memory"])
    if "process" in order["spaces"]:
        Path(root, "proc").mkdir()
        # read-only: root without capabilities could still write the system's settings in /proc/sys
        _mount("proc", f"{root}/proc", "proc", _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    if not Path(root, "tmp").exists():
        Path(root, "tmp").symlink_to(order["folder"])
    _mount("none", root, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    os.chdir(root)
    _must(libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _must(libc.umount2(b".", 2), "umount the old root")  # 2: detach


def _place(source: str, target: str) -> None:
    """A folder or an empty file to mount on."""
    folder = Path(target) if Path(source).is_dir() else Path(target).parent
    folder.mkdir(parents=True, exist_ok=True)
    if folder != Path(target):
        Path(target).touch()


def _devices(root: str, memory: int) -> None:
    for name in ("null", "zero", "full", "random", "urandom"):
        _place(f"/dev/{name}", f"{root}/dev/{name}")
        _mount(f"/dev/{name}", f"{root}/dev/{name}", None, _BIND)
        # a device can be written on a read-only mount, its permissions cannot
        _mount("none", f"{root}/dev/{name}", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NOEXEC)
    Path(root, "dev/shm").mkdir()
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", _NOSUID | _NODEV, f"size={memory // 4},nr_inodes=4096")
    Path(root, "dev/pts").mkdir()  # `!command` in a cell opens a terminal
    _mount("devpts", f"{root}/dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    Path(root, "dev/ptmx").symlink_to("pts/ptmx")
    for name, place in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        Path(root, "dev", name).symlink_to(f"/proc/self/fd{place}")


def _limits(limits: dict[str, int]) -> None:
    """Memory is RLIMIT_DATA: what a process has for itself. RLIMIT_AS would count the libraries that torch maps and the
    addresses that threads reserve, gigabytes that are never used, so no limit would fit both torch and a huge tensor."""
    import resource

    rules = {"RLIMIT_DATA": "memory", "RLIMIT_FSIZE": "file", "RLIMIT_CPU": "cpu", "RLIMIT_NPROC": "processes"}
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, key in rules.items():
        if key in limits and hasattr(resource, name):
            which = getattr(resource, name)
            hard = resource.getrlimit(which)[1]
            value = limits[key] if hard == resource.RLIM_INFINITY else min(limits[key], hard)
            resource.setrlimit(which, (value, value))


def _drop_privileges() -> None:
    """No capability survives the exec that follows, not even root's, and no program gives one back."""
    if sys.platform != "linux":
        return
    libc = _libc()
    capability = 0
    while libc.prctl(_DROP_BOUND, capability, 0, 0, 0) == 0:
        capability += 1
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)


if __name__ == "__main__":
    try:
        code = main(json.loads(sys.argv[1]))
    except OSError as error:
        print(f"confine: {error}", file=sys.stderr)
        code = REFUSED
    sys.exit(code)
