"""tiedlib.homework.grading.sandbox and confine: each limit is really broken, with the namespaces of this system and without any."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tiedlib.homework.grading import sandbox
from tiedlib.homework.grading.sandbox import Limits, Sandbox, SandboxError, run, spaces
from tiedlib.homework.grading.surroundings import remove

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the commands here are written for POSIX systems")
ALL = {"user", "process", "network", "mount", "ipc"}


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture(params=["with namespaces", "without"])
def bare(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Once with what the system gives, once as on a system that gives nothing."""
    if request.param == "without":
        monkeypatch.setattr(sandbox, "spaces", lambda: ())
    return request.param == "without"


def own_children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True)}


def alive(mark: str) -> list[psutil.Process]:
    """The processes that have a word in their command line."""
    named = [p for p in psutil.process_iter(["cmdline", "status"]) if mark in " ".join(p.info["cmdline"] or [])]
    return [p for p in named if p.info["status"] != psutil.STATUS_ZOMBIE]


# Limits


def test_a_command_ends_as_it_would_anywhere(bare: bool) -> None:
    done = run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"))
    assert (done.code, done.problem) == (7, "") and {"out", "err"} == set(done.output.split())


def test_an_endless_loop_ends_at_the_limit(bare: bool) -> None:
    before = own_children()
    done = run(python("while True: pass"), Limits(seconds=1.0))
    assert done.problem == "time" and done.code is None and 1.0 <= done.seconds < 15.0
    assert own_children() <= before


def test_a_fork_bomb_is_ended_whole(bare: bool) -> None:
    mark = f"bomb{time.monotonic_ns()}"
    code = f"import os, time\n'{mark}'\nfor _ in range(200):\n    try: os.fork()\n    except OSError: time.sleep(0.1)"
    done = run(python(code), Limits(seconds=20.0, processes=20))
    assert done.problem == "processes"
    assert not alive(mark)


def test_a_process_that_cuts_itself_loose_does_not_outlive_the_command(bare: bool) -> None:
    mark = f"loose{time.monotonic_ns()}"
    sleeping = f"[sys.executable, '-c', 'import time; time.sleep(60)', '{mark}']"
    done = run(python(f"import subprocess, sys\nsubprocess.Popen({sleeping}, start_new_session=True)"))
    assert done.code == 0
    assert not alive(mark)


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the system does not refuse memory, the watch ends the process"
)
def test_a_huge_object_is_refused_and_the_process_lives(bare: bool) -> None:
    code = "import sys\ntry: x = bytearray(2 * 10**9)\nexcept MemoryError: sys.exit(3)"
    assert run(python(code), Limits(memory=500)).code == 3


def test_memory_of_many_processes_counts_together(bare: bool) -> None:
    code = "import os, time\nfor _ in range(6):\n    if not os.fork():\n        x = b'1' * 10**8; time.sleep(9)\ntime.sleep(60)"
    done = run(python(code), Limits(seconds=30.0, memory=300))
    assert done.problem == "memory" and done.memory > 300


def test_memory_that_processes_share_counts_once(bare: bool) -> None:
    code = "import os, time\nx = b'1' * (150 * 2**20)\nfor _ in range(6):\n    if os.fork() == 0: break\ntime.sleep(2)"
    done = run(python(code), Limits(seconds=30.0, memory=600))
    assert done.problem == ""
    if sys.platform == "linux":
        assert done.memory > 600  # counted the simple way it is more, or this test would show nothing


def test_a_huge_file_is_refused(bare: bool) -> None:
    done = run(python("open('x', 'wb').write(bytes(50 * 2**20))"), Limits(disk=10))
    assert done.problem == "disk" or "File too large" in done.output


@pytest.mark.parametrize("code", [
    "for k in range(60): open(f'{k}', 'wb').write(bytes(2**20))\nimport time; time.sleep(30)",
    "for k in range(11000): open(f'{k}', 'w')\nimport time; time.sleep(30)",
    "import os\nfor _ in range(300): os.mkdir('d'); os.chdir('d')\nimport time; time.sleep(30)",
])  # fmt: skip
def test_a_full_folder_ends_the_command(code: str) -> None:
    assert run(python(code), Limits(seconds=25.0, disk=40)).problem == "disk"


def test_only_the_end_of_much_output_is_kept(bare: bool) -> None:
    done = run(python("for _ in range(300): print('x' * 10**5)\nprint('the end')"))
    assert done.code == 0 and len(done.output) < 100_000 and done.output.endswith("the end\n")


# What the command sees


def test_nothing_secret_passes(bare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEDLIB_HOMEWORK_SECRET", "hunter2")
    monkeypatch.setenv("A_TOKEN", "hunter2")
    done = run(python("import os; print(dict(os.environ))"))
    assert "hunter2" not in done.output and "'OMP_NUM_THREADS': '1'" in done.output


def test_the_folder_is_private_and_goes_away(bare: bool) -> None:
    code = "import os\nfor _ in range(90): os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)"
    with Sandbox(Limits()) as box:
        assert box.home.stat().st_mode & 0o777 == 0o700
        box.start(python(f"import os; assert os.getcwd() == {str(box.folder)!r} == os.environ['HOME']\n{code}"))
        assert box.wait(20.0) == 0, box.output
    assert not box.home.exists()


def test_the_grader_that_dies_takes_the_command_along(tmp_path: Path) -> None:
    """What it starts must not outlive it, whatever killed it (on systems without this, the kernel itself looks)."""
    if sys.platform != "linux":
        pytest.skip("a signal at the parent's death is Linux's")
    code = f"""import sys, time
from tiedlib.homework.grading.sandbox import Limits, Sandbox
box = Sandbox(Limits())
box.start([sys.executable, "-c", "import time; time.sleep(60)", "orphan{os.getpid()}"])
while len(box._all()) < 1 + ("process" in box.spaces): time.sleep(0.05)
time.sleep(0.5); print(box.home, flush=True); time.sleep(60)"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as grader:
        assert grader.stdout is not None
        left = Path(grader.stdout.readline().strip())
        grader.kill()
    for _ in range(100):
        if not alive(f"orphan{os.getpid()}"):
            break
        time.sleep(0.1)
    remove(left)
    assert not alive(f"orphan{os.getpid()}") and not left.exists()


# What it says


def test_what_the_system_does_not_allow_is_said(bare: bool) -> None:
    with Sandbox(Limits()) as box:
        said = box.protections
    if bare:
        assert said["network"] == "was not cut off: this system does not allow it"
        assert said["other files"].startswith("were not hidden") and said["other processes"].startswith(
            "were not out of reach"
        )
    elif set(spaces()) >= ALL:
        assert said["network"] == "cut off" and not [one for one in said.values() if "not" in one]


def test_a_command_that_is_not_there_is_our_trouble(bare: bool, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"confine: .*No such file"):
        run([str(tmp_path / "no such program")])


@pytest.mark.parametrize(("name", "value", "error"), [
    ("seconds", 0.0, ValueError), ("seconds", math.nan, ValueError), ("seconds", math.inf, ValueError),
    ("seconds", "long", TypeError), ("cell_seconds", -1.0, ValueError), ("memory", 0, ValueError), ("memory", 1.5, TypeError),
    ("processes", -1, ValueError), ("processes", True, TypeError), ("disk", 0, ValueError), ("disk", "much", TypeError),
])  # fmt: skip
def test_limits_that_cannot_be(name: str, value: object, error: type[Exception], unchecked: None) -> None:
    with pytest.raises(error, match=name):
        Limits(**{name: value})  # type: ignore[arg-type]
