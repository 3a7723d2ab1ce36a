"""tiedlib.homework.grading.surroundings: what a folder holds, and that it goes away."""

import os
import tempfile
from pathlib import Path

import pytest

from tiedlib.homework.grading.surroundings import environment, fits, remove, system, temporary


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(bytes(10**6))
    most = 10**6 + sum(path.lstat().st_size for path in (tmp_path / "a", tmp_path / "a/b"))
    assert fits(tmp_path, most) and not fits(tmp_path, most - 1)
    (tmp_path / "out").symlink_to("/")  # not followed, or this would count the system
    assert fits(tmp_path, most + 100)


def test_a_thousand_levels_go_away(tmp_path: Path) -> None:
    here, deep = Path.cwd(), tmp_path / "deep"
    deep.mkdir()
    os.chdir(deep)
    try:
        for _ in range(1500):
            Path("folder").mkdir()
            os.chdir("folder")
    finally:
        os.chdir(here)
    remove(deep)
    assert not deep.exists()


def test_a_long_name_is_no_place_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/long" * 20)
    assert os.name != "posix" or temporary() == "/" + "tmp"
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/short")
    assert temporary() == "/short"


def test_only_what_is_needed_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("SSH_AUTH_SOCK", "x")
    passed = environment(tmp_path)
    assert not {"AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK"} & passed.keys() and passed["HOME"] == str(tmp_path)
    assert "/" not in system() and str(Path.home()) not in system()
