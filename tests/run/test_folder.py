"""A run folder is found good or bad before training, and its files are there whole or not at all."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import pytest

from surefast.errors import ArgumentError, RunFolderError
from surefast.run.atomic import write_bytes_atomic, write_text_atomic
from surefast.run.folder import RunFolder, list_runs
from surefast.run.history import append_row, read_rows


def test_create(tmp_path):
    """A new run has its folder, its places and a log; names sort by time."""
    runs = [RunFolder.create(tmp_path / "a" / "runs") for _ in range(5)]
    assert runs[0].pictures.is_dir()
    assert not list(runs[0].path.glob("probe*"))
    assert runs[0].events.attempt == 1
    assert len({run.id for run in runs}) == 5
    runs[0].close()
    for run in runs:
        run.write_text("recipe.toml", "x")
    assert [run.id[:19] for run in list_runs(tmp_path / "a" / "runs")] == [run.id[:19] for run in runs]


def test_default_root(tmp_path, monkeypatch):
    """Without a root, runs stand in ``runs`` of the working folder."""
    monkeypatch.chdir(tmp_path)
    run = RunFolder.create()
    assert run.path.parent.name == "runs"
    assert list_runs() == []
    run.events.append("x")
    run.close()
    assert [found.id for found in list_runs()] == [run.id]
    assert list_runs(tmp_path / "none") == []


def test_open(tmp_path):
    """An existing run is opened; for another name the nearest one is told."""
    run = RunFolder.create(tmp_path)
    run.write_text("recipe.toml", "x")
    assert RunFolder.open(run.path).id == run.id
    with pytest.raises(RunFolderError, match=rf"is not there\n.*open .*{run.id}"):
        RunFolder.open(tmp_path / (run.id[:-1] + "x"))
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder.open(run.recipe_path)
    (tmp_path / "deep" / "empty").mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"is no run folder\n.*holds recipe.toml"):
        RunFolder.open(tmp_path / "deep" / "empty")


def test_a_file_in_the_place(tmp_path):
    """A file where the folder should be is named."""
    (tmp_path / "runs").write_text("")
    for root in (tmp_path / "runs", tmp_path / "runs" / "below"):
        with pytest.raises(RunFolderError, match=r"the run folder .*runs.*: a file stands in its place"):
            RunFolder.create(root)


def test_places_that_cannot_be_written():
    """A file system that takes no files is found, with the folder and a remedy."""
    with pytest.raises(RunFolderError) as caught:
        RunFolder.create("/proc/1/no/runs")
    assert "cannot write to the run folder /proc/1/no/runs" in str(caught.value)
    assert "pass run_dir= a folder you may write to" in str(caught.value)
    assert isinstance(caught.value, OSError)


def test_path_too_long(tmp_path):
    """A name the system does not take is told as that."""
    with pytest.raises(RunFolderError, match=r"its path is too long(.|\n)*shorter path"):
        RunFolder.create(tmp_path / ("x" * 300))


def test_too_little_space(tmp_path):
    """The space a run needs is asked for before it starts, and nothing is left behind."""
    with pytest.raises(RunFolderError, match=r"are free, 1,099,511,627,776\.0 MiB are needed"):
        RunFolder.create(tmp_path, need_bytes=1 << 60)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mounted(tmp_path):
    """A file system of 32 KiB, and the means to make it read-only."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = tmp_path / "small"
    place.mkdir()
    if libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, b"size=32k") != 0:
        pytest.skip(f"this user may not mount a file system: {os.strerror(ctypes.get_errno())}")

    def read_only():
        assert libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 1 | 32, b"") == 0

    yield place, read_only
    libc.umount2(str(place).encode(), 2)


def test_full_file_system(mounted):
    """A full disk is found by the probe, and the folder begun is removed."""
    with pytest.raises(RunFolderError, match=r"the disk is full(.|\n)*on another disk"):
        RunFolder.create(mounted[0], need_bytes=0)
    assert list(mounted[0].iterdir()) == []


def test_read_only_file_system(mounted):
    """A read-only disk is told as that."""
    mounted[1]()
    with pytest.raises(RunFolderError, match="it is on a read-only file system"):
        RunFolder.create(mounted[0])


def test_file_limit(tmp_path):
    """Where no file may grow, the run does not start."""
    code = (
        "import resource, sys; from surefast.run.folder import RunFolder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); RunFolder.create(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "a file may not grow that large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_permission(tmp_path):
    """A folder of someone else is told with the way out; root may write anywhere, so it is put down first."""
    if os.getuid() != 0:
        place = tmp_path
        place.chmod(0o500)
        with pytest.raises(RunFolderError, match="it may not be written to"):
            RunFolder.create(place / "runs")
        return
    from surefast.run.failure import folder_failure

    assert "it may not be written to" in str(
        folder_failure(tmp_path, PermissionError(13, "Permission denied"))
    )


def test_write_and_read(tmp_path):
    """Files go inside the folder only."""
    run = RunFolder.create(tmp_path)
    assert run.write_text("code/script.py", "x = 'ä'\r\n").read_bytes() == "x = 'ä'\r\n".encode()
    for name in ("../x", "/tmp/x", "a/../../x", ""):
        with pytest.raises(ArgumentError, match="is not inside the run folder"):
            run.write_text(name, "x")
    (run.path / "is_folder").mkdir()
    with pytest.raises(RunFolderError, match="a folder stands where a file belongs"):
        run.write_text("is_folder", "x")
    with pytest.raises(RunFolderError, match="a file stands in its place"):
        run.write_text("code/script.py/y", "x")


def test_folded_events(tmp_path):
    """Opening a run again begins an attempt; the reader folds."""
    run = RunFolder.create(tmp_path)
    run.events.append("step", step=0)
    run.events.append("step", step=1)
    run.close()
    again = RunFolder.open(run.path)
    again.events.append("resume", step=0)
    again.events.append("step", step=1)
    again.close()
    assert [line.get("attempt") for line in again.read_events()] == [1, 1, 2]
    assert len(again.read_events(fold=False)) == 5


def test_atomic_write_leaves_nothing_behind(tmp_path):
    """A write that fails leaves the old file and no other."""
    path = tmp_path / "x"
    write_text_atomic(path, "old")
    with pytest.raises(TypeError):
        write_bytes_atomic(path, "no bytes")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_kill_while_replacing(tmp_path):
    """Killed at any moment, the file is the old or the new one, whole."""
    path = tmp_path / "x"
    code = (
        "import sys; from pathlib import Path; from surefast.run.atomic import write_bytes_atomic\n"
        "for n in range(10**9): write_bytes_atomic(Path(sys.argv[1]), b'%d' % (n % 10) * 200_000)"
    )
    for pause in (0.0, 0.013, 0.029):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.exists():
            time.sleep(0.001)
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        data = path.read_bytes()
        assert len(data) == 200_000
        assert len(set(data)) == 1
        path.unlink()


def test_history(tmp_path):
    """The first row makes the header; a new column keeps the old rows; a torn row is dropped."""
    path = tmp_path / "h.csv"
    append_row(path, {"epoch": 0, "loss": 0.5})
    append_row(path, {"loss": 0.25, "epoch": 1})
    assert path.read_text() == "epoch,loss\n0,0.5\n1,0.25\n"
    append_row(path, {"epoch": 2, "note": 'a "b", c\nd'})
    append_row(path, {"epoch": 3})
    rows = read_rows(path.read_text())
    assert rows[0] == {"epoch": "0", "loss": "0.5", "note": ""}
    assert rows[2]["note"] == 'a "b", c\nd'
    assert rows[3] == {"epoch": "3", "loss": "", "note": ""}
    path.write_bytes(path.read_bytes() + b"4,0.1")
    append_row(path, {"epoch": 5})
    assert [row["epoch"] for row in read_rows(path.read_text())] == ["0", "1", "2", "3", "5"]


def test_history_through_the_folder(tmp_path):
    """The folder appends to its own history; a place it cannot write is named."""
    run = RunFolder.create(tmp_path)
    run.append_history({"epoch": 0})
    assert run.history_path.read_text() == "epoch\n0\n"
    run.history_path.unlink()
    run.history_path.mkdir()
    with pytest.raises(RunFolderError, match="a folder stands where a file belongs"):
        run.append_history({"epoch": 0})
