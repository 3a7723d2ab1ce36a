"""tiedlib.homework.grading.confine: what a command cannot see, reach or change where the system gives namespaces."""

import sys
from pathlib import Path

import pytest

from tiedlib.homework.grading import surroundings
from tiedlib.homework.grading.sandbox import Limits, Sandbox, SandboxError, run, spaces

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def confined() -> None:
    if not set(spaces()) >= {"process", "network", "mount"}:
        pytest.skip("this system gives no namespaces, which the results say")


def test_the_network_is_cut_off_and_loopback_works(confined: None) -> None:
    code = """import socket
try:
    socket.create_connection(("192.0.2.1", 80), 3)
except OSError as error:
    print(error.strerror)
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
print("loopback")"""
    assert run(python(code)).output.split("\n")[:2] == ["Network is unreachable", "loopback"]


def test_other_files_are_hidden_or_read_only(confined: None, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2", encoding="utf-8")
    code = f"""import os, sys
print(os.path.exists({str(secret)!r}), os.path.exists('/etc/shadow'), os.path.exists('/dev/vda'))
for path in ("/etc/x", "/usr/x", "/x", "/dev/x", "/proc/sys/kernel/core_pattern", os.path.dirname(os.__file__) + "/x"):
    try:
        open(path, "a"); print("open", path)
    except OSError:
        pass
try:
    os.chmod("/dev/null", 0); print("changed")
except OSError:
    pass
open("mine", "w").write("x")"""
    done = run(python(code))
    assert done.output == "False False False\n" and done.code == 0


def test_no_privilege_is_left_and_none_comes_back(confined: None) -> None:
    code = """import ctypes
print([line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapBnd", "NoNewPrivs"))])
libc = ctypes.CDLL(None)
libc.unshare(0x10000000 | 0x20000)  # a namespace of its own, where it has every capability
print(libc.mount(b"none", b"/usr", None, 32 | 4096, None), libc.umount2(b"/usr", 2),
      libc.mount(b"none", b"/", None, 32 | 4096, None))"""
    lines = run(python(code)).output.splitlines()
    effective, bounding, none_new = eval(lines[0])
    assert int(effective, 16) == int(bounding, 16) == 0 and none_new == "1"
    assert lines[1] == "-1 -1 -1"


def test_other_processes_are_out_of_reach(confined: None) -> None:
    killing = "import os\nfor pid in (1, -1, os.getppid()):\n    try: os.kill(pid, 9)\n    except OSError: pass\n"
    done = run(python(f"{killing}print(os.getpid(), sum(name.isdigit() for name in os.listdir('/proc')))"))
    assert (done.code, done.output) == (0, "1 1\n")


def test_a_sandbox_that_the_system_refuses_is_our_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("there are no namespaces to refuse")
    with Sandbox(Limits(), wanted=("mount",)) as box:  # a root of its own without the namespace it is made in
        monkeypatch.setattr(surroundings, "system", lambda: ["/no such folder"])
        box.start(python("pass"))
        with pytest.raises(SandboxError, match="confine:"):
            box.wait(10.0)
