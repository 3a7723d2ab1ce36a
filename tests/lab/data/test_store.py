"""Fetching, against a server on this machine: every fault gives one clear error and leaves no half file behind."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from tests.places import ROOT
from tiedlib.lab.data import (
    CacheError,
    DataError,
    DiskFullError,
    DownloadError,
    MissingFileError,
    Store,
    TruncatedFileError,
    WrongHashError,
    fetch,
    load,
    names,
)
from tiedlib.lab.data import store as store_module

TEXTS = {
    "ptb/ptb.train.txt": b" the dog runs \n the cat sleeps \n" * 2000,
    "ptb/ptb.valid.txt": b" the dog sleeps \n",
    "ptb/ptb.test.txt": b" the cat runs \n",
}
TRAIN = "ptb/ptb.train.txt"


@dataclass
class Site:
    """The files of a server by path; `answer` may give another reply. `asked` counts requests."""

    address: str
    asked: Counter[str] = field(default_factory=Counter)
    answer: Callable[[BaseHTTPRequestHandler, bytes], None] | None = None


def send(request: BaseHTTPRequestHandler, body: bytes, *, length: int | None = None, status: int = 200) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/")
            site.asked[path] += 1
            (site.answer or send)(self, TEXTS[path])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = Site(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield site
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(site, tmp_path, monkeypatch) -> Store:
    monkeypatch.setattr(store_module, "_terms_shown", set())
    registry = tmp_path / "registry.txt"
    rows = [f"{f} sha256:{hashlib.sha256(b).hexdigest()} {site.address}/{f}" for f, b in TEXTS.items()]
    registry.write_text("# a comment\n" + "\n".join(rows) + "\n")
    return Store(registry, tmp_path / "cache", retries=0, timeout=10.0)


def left_behind(store: Store) -> list[str]:
    """Everything in the cache but locks and whole files."""
    if not store.cache.is_dir():
        return []
    files = (file for file in store.cache.rglob("*") if file.is_file() and ".locks" not in file.parts)
    return [f.name for f in files if f.read_bytes() != TEXTS.get(f.relative_to(store.cache).as_posix())]


def test_load_downloads_once(site, store, capfd) -> None:
    corpus = load("ptb", store=store)
    assert corpus.vocabulary.decode(corpus.valid) == ["the", "dog", "sleeps", "<eos>"]
    assert corpus.sha256 == {file: hashlib.sha256(body).hexdigest() for file, body in TEXTS.items()}
    load("ptb", store=store)
    assert site.asked == dict.fromkeys(TEXTS, 1)
    assert left_behind(store) == []
    assert capfd.readouterr().err.count("Terms: licence of the data not stated in the source;") == 1


def test_terms_are_silent_when_nothing_is_fetched(store, capfd) -> None:
    fetch("ptb", store=store, progress=False)
    capfd.readouterr()
    load("ptb", store=store)
    assert capfd.readouterr().err == ""


def test_fetch_gives_all_files_and_shows_a_bar(store, capfd) -> None:
    assert fetch("ptb", store=store) == [store.cache / file for file in TEXTS]
    assert "100%" in capfd.readouterr().err


def test_names_say_what_is_here(store) -> None:
    def where() -> str:
        return next(info.where for info in names(store=store) if info.name == "ptb")

    assert where() == "not downloaded"
    store.path(TRAIN)
    assert where() == "partly"
    fetch("ptb", store=store, progress=False)
    assert where() == "downloaded"


def test_hash_is_checked_once_in_a_process(store, monkeypatch) -> None:
    hashed: list[str] = []
    whole = pooch.file_hash
    monkeypatch.setattr(pooch, "file_hash", lambda file: hashed.append(file) or whole(file))
    for _ in range(3):
        store.path(TRAIN)
    assert len(hashed) == 1


def test_spoiled_file_in_the_cache_is_fetched_again(site, store) -> None:
    file = store.path(TRAIN)
    file.write_bytes(b"spoiled")
    assert store.path(TRAIN).read_bytes() == TEXTS[TRAIN]
    assert site.asked[TRAIN] == 2


# Faults


def test_no_network(store) -> None:
    registry = store.registry.read_text()
    port = registry.split("127.0.0.1:")[1].split("/")[0]
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as unused:
        free = unused.server_port
    store.registry.write_text(registry.replace(f":{port}/", f":{free}/"))
    with pytest.raises(
        DownloadError, match=r"could not reach http.*\(ConnectionError\): check the network and try again"
    ):
        load("ptb", store=store)
    assert left_behind(store) == []


def test_the_error_says_how_to_do_without_network(store, site) -> None:
    site.answer = lambda request, body: send(request, b"", status=503)
    with pytest.raises(DownloadError, match=rf"the server refused .*503.*{TRAIN}' in a folder .* TIEDLIB_DATA"):
        store.path(TRAIN)
    assert left_behind(store) == []


def test_wrong_hash(site, store) -> None:
    site.answer = lambda request, body: send(request, b"<html>please log in</html>")
    with pytest.raises(WrongHashError, match=r"ptb\.train\.txt served is not the file .* it was deleted"):
        store.path(TRAIN)
    assert left_behind(store) == [] and not store.has(TRAIN)
    site.answer = None
    assert store.path(TRAIN).read_bytes() == TEXTS[TRAIN]


def test_truncated(site, store) -> None:
    site.answer = lambda request, body: send(request, body[:-1], length=len(body))
    with pytest.raises((TruncatedFileError, WrongHashError), match=r"broke off before its end|is not the file"):
        store.path(TRAIN)
    assert left_behind(store) == [] and not store.has(TRAIN)


def test_a_failed_download_is_tried_again(site, store) -> None:
    def once(request: BaseHTTPRequestHandler, body: bytes) -> None:
        send(request, body[: 10 if site.asked[TRAIN] == 1 else None], length=len(body))

    site.answer = once
    assert replace(store, retries=1).path(TRAIN).read_bytes() == TEXTS[TRAIN]
    assert site.asked[TRAIN] == 2


def test_silent_server_times_out(site, store) -> None:
    done = threading.Event()
    site.answer = lambda request, body: done.wait(20)
    with pytest.raises(DownloadError, match=r"could not reach .* \(ReadTimeout\)"):
        replace(store, timeout=0.2).path(TRAIN)
    done.set()
    assert left_behind(store) == []


def test_cache_is_a_file(store) -> None:
    store.cache.write_text("not a folder")
    with pytest.raises(CacheError, match=r"cannot write .* make the folder writable, or set TIEDLIB_CACHE"):
        store.path(TRAIN)
    assert store.cache.read_text() == "not a folder"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_cache_is_read_only(store) -> None:
    store.cache.mkdir()
    store.cache.chmod(0o500)
    with pytest.raises(CacheError, match=r"cannot write .*Permission denied"):
        store.path(TRAIN)
    assert list(store.cache.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="only Linux has a /proc, where nobody may write")
def test_cache_where_nobody_may_write(store) -> None:
    with pytest.raises(CacheError, match="cannot write /proc/tiedlib"):
        replace(store, cache=Path("/proc/tiedlib")).path(TRAIN)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(store, monkeypatch, code) -> None:
    def half(self: object, url: str, output_file: str, *_: object) -> None:
        Path(output_file).write_bytes(TEXTS[TRAIN][:100])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", half)
    with pytest.raises(DiskFullError, match=r"no room on the disk for .*ptb\.train\.txt .*: free some space"):
        store.path(TRAIN)
    assert left_behind(store) == [] and not store.has(TRAIN)


def test_full_disk_for_real(store) -> None:
    """The system itself stops the writing: a limit on the size of a file, in a process of its own."""
    pytest.importorskip("resource", reason="this system has no limits to set")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    done = run_python(store, code, f"store.path({TRAIN!r})", wait=True)
    assert done.returncode == 1
    assert "DiskFullError: no room on the disk" in done.stderr.read()
    assert left_behind(store) == [] and not store.has(TRAIN)


def test_a_file_outside_the_registry(store) -> None:
    with pytest.raises(DataError, match=r"'ptb/other\.txt' is not in the registry .*registry\.txt: add its path"):
        store.path("ptb/other.txt")


def test_a_file_without_address(store) -> None:
    store.registry.write_text(f"ptb/cut sha256:{'0' * 64}\n")
    assert store.files("ptb") == []
    with pytest.raises(MissingFileError, match="no address serves 'ptb/cut': put the file into a folder"):
        store.path("ptb/cut")
    with pytest.raises(MissingFileError, match="there is no file of 'ptb'"):
        fetch("ptb", store=store)


# Several processes


def run_python(store: Store, *code: str, wait: bool = False) -> subprocess.Popen[str]:
    """Another process with the same store. It says `ready` when everything is imported."""
    lines = [
        "from pathlib import Path; from tiedlib.lab.data import Store",
        f"store = Store(Path({str(store.registry)!r}), Path({str(store.cache)!r}), retries=0)",
        "print('ready', flush=True)",
        *code,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    if wait:
        process.wait(timeout=600)
    return process


def test_two_processes_at_once_download_once(site, store) -> None:
    def slowly(request: BaseHTTPRequestHandler, body: bytes) -> None:
        time.sleep(0.5)  # long enough for the other process to come
        send(request, body)

    site.answer = slowly
    code = f"input(); print(len(store.path({TRAIN!r}).read_bytes()), flush=True)"
    processes = [run_python(store, code) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert out == f"{len(TEXTS[TRAIN])}\n", err
    assert site.asked[TRAIN] == 1
    assert left_behind(store) == []


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_killed_download_leaves_nothing_that_counts(site, store) -> None:
    half_sent, done = threading.Event(), threading.Event()

    def stalls(request: BaseHTTPRequestHandler, body: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2])
        request.wfile.flush()
        half_sent.set()
        done.wait(60)

    site.answer = stalls
    process = run_python(store, f"store.path({TRAIN!r})")
    assert half_sent.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done.set()
    assert not store.has(TRAIN)
    site.answer = None
    assert store.path(TRAIN).read_bytes() == TEXTS[TRAIN]  # the lock died with its process
    assert left_behind(store) == []  # and what it had begun is swept up


# A folder instead of the network


@pytest.fixture
def folder(store, tmp_path) -> Path:
    for file, body in TEXTS.items():
        (tmp_path / "mine" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / file).write_bytes(body)
    return tmp_path / "mine"


def test_folder_is_read_and_not_written_to(site, store, folder) -> None:
    here = replace(store, folder=folder)
    assert len(load("ptb", store=here).valid) == 4
    assert fetch("ptb", store=here) == [folder / file for file in TEXTS]
    assert not site.asked and not store.cache.exists()
    assert sorted(file.name for file in folder.rglob("*.*")) == sorted(Path(file).name for file in TEXTS)


def test_folder_without_the_file(site, store, folder) -> None:
    (folder / TRAIN).unlink()
    with pytest.raises(MissingFileError, match=r"no file 'ptb/ptb\.train\.txt' in it: put the file there, or unset"):
        load("ptb", store=replace(store, folder=folder))
    assert not site.asked


def test_folder_with_another_file(store, folder) -> None:
    (folder / TRAIN).write_bytes(b"another text")
    with pytest.raises(WrongHashError, match=r"ptb\.train\.txt is not the file that the registry names"):
        load("ptb", store=replace(store, folder=folder))
    assert (folder / TRAIN).read_bytes() == b"another text"  # it is the user's: not ours to delete


def test_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TIEDLIB_DATA", str(tmp_path / "a"))
    monkeypatch.setenv("TIEDLIB_CACHE", str(tmp_path / "b"))
    assert (Store.from_environment().folder, Store.from_environment().cache) == (tmp_path / "a", tmp_path / "b")
    assert Store.from_environment().root == tmp_path / "a"
    monkeypatch.setenv("TIEDLIB_DATA", "")
    monkeypatch.delenv("TIEDLIB_CACHE")
    assert Store.from_environment().folder is None
    assert Store.from_environment().root == Path(pooch.os_cache("tiedlib"))


def test_registry_is_well_formed() -> None:
    registry = Store.from_environment().registry.read_text()
    rows = [line.split() for line in registry.splitlines() if not line.startswith("#")]
    assert len(rows) == len({row[0] for row in rows}) == 44
    assert all(row[1].startswith("sha256:") and len(row[1]) == 71 for row in rows)
    assert [row[0] for row in rows if len(row) != 3] == ["text8/text8.head"]
    assert all(row[2].startswith(("https://", "http://mattmahoney.net/")) for row in rows if len(row) == 3)
