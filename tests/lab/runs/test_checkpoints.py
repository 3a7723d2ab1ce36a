"""tiedlib.lab.runs.checkpoints: whole files or none, one run to a folder, and errors in one line."""

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlib.lab.files import FileError, locked, write_atomic
from tiedlib.lab.interrupts import ctrl_c
from tiedlib.lab.runs import checkpoints
from tiedlib.lab.runs.checkpoints import CheckpointError, load, require_same, save

CONTENT = {
    **dict.fromkeys(("config", "data", "optimizer", "scheduler", "progress", "clock", "epochs", "vocabulary")),
    "model": {"w": torch.arange(4.0)}, "rng": torch.get_rng_state(), "threads": 1, "unit": "word", "record": None,
}  # fmt: skip


def one_line(caught):
    return "\n" not in str(caught.value)


def test_a_round_trip_and_no_other_file(tmp_path):
    save(tmp_path / "deep" / "c.pt", CONTENT)
    found = load(tmp_path / "deep" / "c.pt")
    assert found["format"] == checkpoints.FORMAT and torch.equal(found["model"]["w"], CONTENT["model"]["w"])
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["c.pt"]


def test_files_that_could_run_code_are_not_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format": checkpoints.FORMAT, **CONTENT, "config": Bomb()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        load(tmp_path / "c.pt")
    assert not (tmp_path / "ran").exists()


@settings(max_examples=300)
@given(data=st.data())
def test_no_damage_goes_unnoticed_or_unexplained(tmp_path_factory, data):
    """Cut anywhere, or any byte changed: an error with the file's name, or (in a zip's padding) no change at all."""
    path = tmp_path_factory.mktemp("damage") / "c.pt"
    save(path, CONTENT)
    whole = path.read_bytes()
    at, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :] if flip else whole[:at])
    try:
        found = load(path)
    except CheckpointError as error:
        assert "c.pt is damaged" in str(error) and "\n" not in str(error)
    else:
        assert flip, f"cut at {at} of {len(whole)} bytes and still read"
        for key in ("model", "rng"):
            torch.testing.assert_close(found[key], CONTENT[key], rtol=0, atol=0)
        assert {k: v for k, v in found.items() if k not in ("model", "rng", "format")} == {
            k: v for k, v in CONTENT.items() if k not in ("model", "rng")
        }


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100), b"\x80\x02]q\x00."])
def test_other_files_are_no_checkpoints(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.pt (is damaged|has format None)"):
        load(tmp_path / "c.pt")


def test_a_missing_one_says_what_to_give(tmp_path):
    with pytest.raises(CheckpointError, match=r"c\.pt does not exist: give the folder of a run"):
        load(tmp_path / "c.pt")


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(FileError, match=r"could not be read"):
        load(tmp_path)


@pytest.mark.parametrize("version", [0, 99, None, "1"])
def test_another_format_is_refused(tmp_path, version):
    torch.save({**CONTENT, "format": version}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=rf"has format {version!r}, this program reads {checkpoints.FORMAT}"):
        load(tmp_path / "c.pt")


@pytest.mark.parametrize("key", sorted(CONTENT))
def test_a_missing_entry_is_named(tmp_path, key):
    save(tmp_path / "c.pt", {k: v for k, v in CONTENT.items() if k != key})
    with pytest.raises(CheckpointError, match=f"is damaged: it lacks {key};"):
        load(tmp_path / "c.pt", ("scheduler", "unit", "vocabulary"))


# The disk refuses


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space and start again"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "no permission to write there; give another folder"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_the_last_good_one_stays_where_writing_fails(tmp_path, monkeypatch, number, words, call):
    path = tmp_path / "c.pt"
    save(path, CONTENT)
    before = path.read_bytes()

    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    if call == "write":
        monkeypatch.setattr(Path, "open", fail)
    else:
        monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(FileError) as caught:
        save(path, {**CONTENT, "threads": 2})
    monkeypatch.undo()
    assert str(path) in str(caught.value) and words in str(caught.value) and one_line(caught)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: real(Path("/dev/full"), mode))
    with pytest.raises(FileError, match="the disk is full"):
        write_atomic(tmp_path / "c.pt", b"x" * 100_000)
    assert not (tmp_path / "c.pt").exists()


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileError, match="a file stands where a folder is needed"), locked(tmp_path / "run"):
        pass
    with pytest.raises(FileError, match="a file stands where a folder is needed"):
        write_atomic(tmp_path / "run" / "c.pt", b"")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(FileError, match="no permission to write there"), locked(tmp_path):
        pass


@pytest.mark.parametrize("moment", ["write", "replace"])
def test_killed_while_it_writes(tmp_path, moment):
    """A real kill -9 in the middle of the file and just before it is put in place: the old file is whole."""
    path = tmp_path / "c.pt"
    write_atomic(path, b"old" * 1000)
    kill = {
        "write": "os.fsync = lambda handle: os.kill(os.getpid(), 9)",
        "replace": "pathlib.Path.replace = lambda a, b: os.kill(os.getpid(), 9)",
    }[moment]
    code = f"""
        import os, pathlib
        from tiedlib.lab.files import write_atomic
        {kill}
        write_atomic(pathlib.Path({str(path)!r}), b"new" * 1000)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert ended.returncode == -signal.SIGKILL and path.read_bytes() == b"old" * 1000
    assert len(list(tmp_path.iterdir())) == 2  # what the killed process left behind …
    with locked(tmp_path):
        assert {p.name for p in tmp_path.iterdir()} == {"c.pt", ".lock"}  # … is cleared away by the next run


# One run to a folder


def test_a_folder_is_locked_once_and_free_afterwards(tmp_path):
    with locked(tmp_path / "run"):
        with pytest.raises(FileError, match="run is in use by another run; wait for it to end"):  # noqa: SIM117
            with locked(tmp_path / "run"):
                pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "run"):
        pass


def test_another_process_is_refused_and_a_killed_one_blocks_nobody(tmp_path):
    code = f"""
        import pathlib, time
        from tiedlib.lab.files import locked
        with locked(pathlib.Path({str(tmp_path)!r})):
            print("held", flush=True)
            time.sleep(600)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FileError, match="in use by another run"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with locked(tmp_path):
        pass


def test_what_differs_is_named():
    path = Path("c.pt")
    require_same(path, "configuration", {"lr": 1.0, "tied": True}, {"tied": True, "lr": 1.0})
    with pytest.raises(FileError) as caught:
        require_same(path, "configuration", {"lr": 1.0, "tied": True, "old": 3}, {"lr": 0.5, "tied": True, "new": "x"})
    assert "another configuration: lr 1.0 (now 0.5), new None (now 'x'), old 3 (now None);" in str(caught.value)
    assert "tied" not in str(caught.value)


def test_a_second_ctrl_c_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    with ctrl_c() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
