"""tiedlib.lab.runs.memory: counted in the pages that a process gets from the system, in a process of its own each time."""

import multiprocessing
import os
import platform
import subprocess
import sys

import pytest

from tiedlib.lab.commands.main import run
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.runs import cluster, memory
from tiedlib.lab.runs import many as runs

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

# three matrices of 40 MB in each of eight steps, after four to warm up; prints what keep_memory said, and the pages
STEPS = """
import resource, torch
from tiedlib.lab.runs.memory import keep_memory

def step():
    a = torch.ones(10_000_000)
    b = a * 2
    return (a + b).sum().item()

{}
for _ in range(4):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(first, **environment):
    free = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-c", STEPS.format(first)]
    done = subprocess.run(command, env={**free, **environment}, capture_output=True, text=True, check=True, timeout=600)
    return done.stdout.split()


@glibc
def test_the_next_step_has_its_memory_already():
    (returned,), (said, kept) = pages("pass"), pages("print(keep_memory())")
    assert said == "True"
    assert int(kept) < int(returned) / 4, (kept, returned)  # a block may still be cut, and one more be needed


@glibc
def test_what_the_environment_sets_stays():
    assert pages("print(keep_memory())", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"


def test_elsewhere_nothing_is_called(monkeypatch):
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", None)  # calling it would be a TypeError
    assert memory.keep_memory() is False


@glibc
def test_a_library_that_refuses_is_not_believed(monkeypatch):
    class Refuses:
        @staticmethod
        def mallopt(option, value):
            return int(option == -1)

    for name in memory._OPTIONS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: Refuses)
    assert memory.keep_memory() is False


def test_every_process_that_is_there_for_training_keeps_its_memory(monkeypatch, tmp_path):
    called = []
    for place in (runs, cluster):
        monkeypatch.setattr(place, "keep_memory", lambda place=place: called.append(place.__name__))
        monkeypatch.setattr(place, "one", lambda *_, **__: "done")
    monkeypatch.setattr(memory, "keep_memory", lambda: called.append("command"))
    task = runs.Task(TrainConfig(), tmp_path, tmp_path / "record.json")

    here, there = multiprocessing.Pipe()
    runs._process(there, "a", task, 1, {})
    assert here.recv() == ("end", "done")
    cluster._work("a", task, tmp_path, "word", {})
    assert run(["train", "--corpus", str(tmp_path / "nothing"), "--out", str(tmp_path / "run")]) == 2
    assert called == ["tiedlib.lab.runs.many", "tiedlib.lab.runs.cluster", "command"]
