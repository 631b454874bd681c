from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from metta_cli.artifacts import locks
from metta_cli.artifacts.cache import INDEX, Cache, Digest, default_root
from metta_cli.artifacts.downloads import ProgressLog, safe_path
from metta_cli.errors import CheckpointError, MettaError, StorageError

KEY = "s3://bucket/policy.pt, etag 1"
MD5_OF_HELLO = "5d41402abc4b2a76b9719d911017c592"
SHA256_OF_HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


class Download:
    """Fills an entry, and counts how often."""

    def __init__(self, content: bytes = b"hello") -> None:
        self.content, self.count = content, 0

    def __call__(self, directory: Path) -> None:
        self.count += 1
        (directory / "policy.pt").write_bytes(self.content)
        (directory / "folder").mkdir()
        (directory / "folder" / "notes").write_text("notes")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def in_process(tmp_path: Path) -> Callable[[str], subprocess.Popen]:
    """Start a process that runs a few lines with the cache of this test."""

    def start(lines: str) -> subprocess.Popen:
        script = f"""
            import os, signal, sys, time
            from pathlib import Path
            from metta_cli.artifacts.cache import Cache
            folder, key = Path({str(tmp_path)!r}), {KEY!r}
            cache, log = Cache(folder / "cache"), folder / "log"
            """
        source = textwrap.dedent(script) + textwrap.dedent(lines)
        return subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)

    return start


def files_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_what_is_in_the_cache_is_not_downloaded_again(cache: Cache) -> None:
    download = Download()
    first = cache.fetch(KEY, download)
    assert cache.fetch(KEY, download) == first
    assert files_below(first) == ["folder/notes", "policy.pt"]
    assert download.count == 1


def test_another_version_of_the_same_address_is_another_entry(cache: Cache) -> None:
    old = cache.fetch("s3://bucket/policy.pt, etag 1", Download(b"old"))
    new = cache.fetch("s3://bucket/policy.pt, etag 2", Download(b"new"))
    assert [(path / "policy.pt").read_bytes() for path in (old, new)] == [b"old", b"new"]


def change_a_byte(entry: Path) -> None:
    (entry / "files/policy.pt").write_bytes(b"hellO")


def cut_a_file(entry: Path) -> None:
    (entry / "files/policy.pt").write_bytes(b"hell")


def remove_a_file(entry: Path) -> None:
    (entry / "files/folder/notes").unlink()


def add_a_file(entry: Path) -> None:
    (entry / "files/more").write_bytes(b"")


def put_a_link_in_place_of_a_file(entry: Path) -> None:
    (entry / "files/policy.pt").unlink()
    (entry / "files/policy.pt").symlink_to("/etc/hostname")


def remove_the_index(entry: Path) -> None:
    (entry / INDEX).unlink()


def garble_the_index(entry: Path) -> None:
    (entry / INDEX).write_text('{"key"')


def forget_the_files_in_the_index(entry: Path) -> None:
    index = json.loads((entry / INDEX).read_text())
    (entry / INDEX).write_text(json.dumps(index | {"files": {}}))


def remove_all_files(entry: Path) -> None:
    shutil.rmtree(entry / "files")


DAMAGES = [
    change_a_byte,
    cut_a_file,
    remove_a_file,
    add_a_file,
    put_a_link_in_place_of_a_file,
    remove_the_index,
    garble_the_index,
    forget_the_files_in_the_index,
    remove_all_files,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_noticed_and_downloaded_again(
    cache: Cache, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    download = Download()
    damage(cache.fetch(KEY, download).parent)
    ((_, problem),) = cache.verify()
    assert problem is not None
    again = cache.fetch(KEY, download)
    assert (again / "policy.pt").read_bytes() == b"hello"
    assert files_below(again) == ["folder/notes", "policy.pt"]
    assert download.count == 2
    assert f"the cached copy of {KEY} is damaged and is downloaded again" in caplog.text
    assert [reason for _, reason in cache.verify()] == [None]


def test_an_entry_in_the_place_of_another_is_noticed(cache: Cache) -> None:
    entry = cache.fetch(KEY, Download(b"this")).parent
    other = cache.fetch("another key", Download(b"that")).parent
    shutil.rmtree(entry)
    other.rename(entry)
    assert (cache.fetch(KEY, Download(b"this")) / "policy.pt").read_bytes() == b"this"


def test_a_download_that_fails_leaves_nothing(cache: Cache) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_bytes(b"hel")
        raise MettaError("the network is gone")

    with pytest.raises(MettaError, match="network is gone"):
        cache.fetch(KEY, fail)
    assert cache.ls() == []
    assert [path for path in cache.root.rglob("*") if path.suffix != ".lock"] == []
    cache.fetch(KEY, Download())


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        ({"policy.pt": Digest(bytes=6)}, "policy.pt has 5 of 6 bytes"),
        ({"policy.pt": Digest(bytes=5, sha256="0" * 64)}, "policy.pt has other bytes"),
        ({"policy.pt": Digest(md5="0" * 32)}, "policy.pt has other bytes"),
        ({"policy.pt": Digest(), "more": Digest()}, "more is missing"),
        ({}, "policy.pt was not announced"),
    ],
)
def test_a_download_that_is_not_what_was_announced_is_refused(
    cache: Cache, expected: dict[str, Digest], problem: str
) -> None:
    with pytest.raises(CheckpointError, match=f"the download of {KEY} is damaged: .*{problem}"):
        cache.fetch(KEY, Download(), expected={"folder/notes": Digest(bytes=5)} | expected)
    assert cache.ls() == []


def test_a_download_that_is_what_was_announced_is_kept(cache: Cache) -> None:
    digest = Digest(5, SHA256_OF_HELLO, MD5_OF_HELLO)
    cache.fetch(KEY, Download(), expected={"policy.pt": digest, "folder/notes": Digest()})
    assert [entry.key for entry in cache.ls()] == [KEY]


def test_a_download_with_a_link_in_it_is_refused(cache: Cache) -> None:
    with pytest.raises(CheckpointError, match="neither a file nor a directory"):
        cache.fetch(KEY, lambda directory: (directory / "link").symlink_to("/etc/hostname"))
    assert cache.ls() == []


def test_of_two_processes_one_downloads_and_the_other_waits(
    cache: Cache, in_process: Callable[[str], subprocess.Popen], tmp_path: Path
) -> None:
    lines = """
        def fill(directory):
            with open(log, "a") as file:
                file.write("x")
            (directory / "half").write_text("half")
            time.sleep(0.5)
            (directory / "half").rename(directory / "whole")
        print(sorted(path.name for path in cache.fetch(key, fill).iterdir()))
        """
    processes = [in_process(lines) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in processes] == ["['whole']"] * 3
    assert (tmp_path / "log").read_text() == "x"


def test_a_process_that_is_killed_leaves_nothing_that_is_ever_used(
    cache: Cache, in_process: Callable[[str], subprocess.Popen]
) -> None:
    process = in_process("""
        def fill(directory):
            (directory / "policy.pt").write_bytes(b"hel")
            os.kill(os.getpid(), signal.SIGKILL)
        cache.fetch(key, fill)
        """)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert files_below(cache.root) != []  # it did leave something
    assert cache.ls() == []
    download = Download()
    assert (cache.fetch(KEY, download) / "policy.pt").read_bytes() == b"hello"
    assert [path.name for path in cache.root.iterdir() if path.name.startswith(".")] == []


def test_prune_removes_what_a_killed_process_left(
    cache: Cache, in_process: Callable[[str], subprocess.Popen]
) -> None:
    in_process("cache.fetch(key, lambda directory: os.kill(os.getpid(), signal.SIGKILL))").communicate()
    assert list(cache.root.iterdir()) != []
    cache.prune()
    assert list(cache.root.iterdir()) == []


def test_prune_leaves_what_another_process_is_downloading(
    cache: Cache, in_process: Callable[[str], subprocess.Popen]
) -> None:
    process = in_process(
        """
        def fill(directory):
            (directory / "policy.pt").write_bytes(b"hello")
            print("filling", flush=True)
            time.sleep(1.0)
        cache.fetch(key, fill)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "filling\n"
    cache.prune(unused_seconds=0)
    process.communicate()
    assert process.returncode == 0
    assert [entry.key for entry in cache.ls()] == [KEY]


def test_waiting_for_another_process_ends(cache: Cache) -> None:
    cache.fetch(KEY, Download())
    (entry,) = cache.ls()
    descriptor = locks.acquire(entry.path.with_name(f"{entry.path.name}.lock"))
    assert descriptor is not None
    with pytest.raises(
        StorageError, match=r"another process has been downloading .* for 0\.1 s .*wait for it"
    ):
        cache.fetch(KEY, Download(), wait_seconds=0.1)
    assert cache.prune(unused_seconds=0) == []
    locks.release(descriptor)
    assert len(cache.prune(unused_seconds=0)) == 1


def test_prune_removes_by_age_by_size_or_everything(cache: Cache) -> None:
    for number, age_seconds in enumerate((300, 200, 100)):
        path = cache.fetch(f"key {number}", Download(bytes(995))).parent  # 1000 bytes with the notes
        now = path.stat().st_mtime
        os.utime(path, (now - age_seconds, now - age_seconds))
    keys = [entry.key for entry in cache.ls()]
    assert keys == ["key 2", "key 1", "key 0"]
    assert [entry.key for entry in cache.prune(unused_seconds=250, dry_run=True)] == ["key 0"]
    assert [entry.key for entry in cache.prune(max_bytes=1999, dry_run=True)] == ["key 1", "key 0"]
    assert [entry.key for entry in cache.ls()] == keys
    assert [entry.key for entry in cache.prune(max_bytes=2000)] == ["key 0"]
    assert [entry.key for entry in cache.prune(unused_seconds=150)] == ["key 1"]
    assert [entry.key for entry in cache.prune(unused_seconds=0)] == ["key 2"]
    assert list(cache.root.iterdir()) == []


def test_use_counts_as_use(cache: Cache) -> None:
    for key in ("first", "second", "first"):
        cache.fetch(key, Download())
    assert [entry.key for entry in cache.ls()] == ["first", "second"]


def test_a_cache_that_cannot_be_written_says_how_to_choose_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StorageError, match="XDG_CACHE_HOME"):
        Cache(tmp_path / "file" / "cache").fetch(KEY, Download())


def test_a_download_that_does_not_fit_is_refused_before_it_begins(cache: Cache) -> None:
    download = Download()
    with pytest.raises(StorageError, match=r"disk is full.*metta cache prune"):
        cache.fetch(KEY, download, expected={"policy.pt": Digest(bytes=1 << 60)})
    assert download.count == 0


def test_an_empty_cache_has_nothing_to_list_verify_or_prune(cache: Cache) -> None:
    assert (cache.ls(), cache.verify(), cache.prune(unused_seconds=0)) == ([], [], [])
    assert not cache.root.exists()


@pytest.mark.parametrize(
    ("value", "root"), [("/some/where", "/some/where"), ("relative", "~/.cache"), ("", "~/.cache")]
)
def test_the_cache_is_where_xdg_wants_it(value: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert default_root() == Path(root).expanduser() / "metta" / "artifacts"


def test_other_users_cannot_look_into_the_cache(cache: Cache) -> None:
    cache.fetch(KEY, Download())
    assert cache.root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/a", "a//b", "a/", "", ".", "a\\..\\b", "a\nb", "a\0b", "x" * 256]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must stay in its directory"):
        safe_path(tmp_path, name)


def test_a_plain_name_stays_in_its_directory(tmp_path: Path) -> None:
    assert safe_path(tmp_path, "a/b:v3/c..d") == tmp_path / "a" / "b:v3" / "c..d"


def test_a_long_transfer_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        progress = ProgressLog("downloading x", 4_000_000, interval_seconds=0.0)
        progress(1_000_000)
        progress(2_000_000)
        ProgressLog("downloading y", 10)(10)
    assert caplog.messages == [
        "downloading x: 1.0 MB of 4.0 MB (25 %)",
        "downloading x: 3.0 MB of 4.0 MB (75 %)",
    ]
