"""The event log loses at most the line that a kill cut, and several attempts fold into one history."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surefast.errors import ArgumentError, RunFolderError
from surefast.run.event_log import EventLog, comparable, fold_attempts, read_events

WRITER = """
import sys
from surefast.run.event_log import EventLog
log = EventLog(sys.argv[1])
print("ready", flush=True)
step = 0
while True:
    log.append("step", step=step, loss=0.5, text="x" * int(sys.argv[2]))
    step += 1
"""


def kill_while_writing(path, size):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(size)], stdout=subprocess.PIPE)
    writer.stdout.readline()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and path.stat().st_size < 200_000:
        time.sleep(0.001)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line(tmp_path):
    """A line has attempt, seq, kind and time, then its fields; the first one has the format."""
    with EventLog(tmp_path / "e") as log:
        log.append("step", step=3, loss=0.25)
    first, second = lines_of(tmp_path / "e")
    assert (first["kind"], first["format"], first["seq"]) == ("log", 1, 0)
    assert list(second) == ["attempt", "seq", "kind", "time", "step", "loss"]
    assert (second["attempt"], second["seq"], second["step"], second["loss"]) == (1, 1, 3, 0.25)
    assert abs(second["time"] - time.time()) < 60


def test_numbers_json_does_not_know(tmp_path):
    """NaN and infinities become texts; numpy's numbers, paths and sets become plain."""
    log = EventLog(tmp_path / "e")
    log.append(
        "x", a=float("nan"), b=[float("inf"), {"c": -float("inf")}], d=np.float32("nan"), e=np.arange(2)
    )
    log.append("x", p=Path("a/b"), s={2, 1}, t=(1, 2), u="\ud800\n")
    log.append("empty")
    found = read_events(tmp_path / "e")
    assert (found[1]["a"], found[1]["b"], found[1]["d"]) == ("nan", ["inf", {"c": "-inf"}], "nan")
    assert found[1]["e"] == [0, 1]
    assert (found[2]["p"], found[2]["s"], found[2]["t"], found[2]["u"]) == ("a/b", [1, 2], [1, 2], "\ud800\n")
    log.close()
    log.close()


def test_what_a_line_refuses(tmp_path):
    """A tensor would make the step wait, a name of the head would make two; both are refused."""
    log = EventLog(tmp_path / "e")
    with pytest.raises(ArgumentError, match="an event cannot hold a Tensor"):
        log.append("x", loss=torch.tensor(1.0))
    with pytest.raises(ArgumentError, match=r"a line has its own \['seq'\]"):
        log.append("x", seq=1)
    with pytest.raises(ArgumentError, match="'A b' is no kind of event"):
        log.append("A b")
    assert len(read_events(tmp_path / "e")) == 1
    log.close()


@pytest.mark.parametrize("size", [10, 30_000])
def test_kill_loses_at_most_the_line_in_flight(tmp_path, size):
    """After SIGKILL every line but possibly the last is whole, and the next attempt goes on."""
    path = tmp_path / "e"
    kill_while_writing(path, size)
    steps = [line["step"] for line in read_events(path) if line["kind"] == "step"]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 5
    with EventLog(path) as log:
        assert log.attempt == 2
        log.append("resume", step=steps[2])
        log.append("step", step=steps[3])
    kept = read_events(path)
    assert [line["step"] for line in kept if line["kind"] == "step"] == [0, 1, 2, 3]
    assert kept[-1]["attempt"] == 2


@pytest.mark.parametrize("cut", range(2, 60, 7))
def test_torn_line(tmp_path, cut):
    """A last line cut anywhere is passed over, before and after the next attempt."""
    path = tmp_path / "e"
    with EventLog(path) as log:
        log.append("step", step=0)
        log.append("step", step=1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert [line["seq"] for line in read_events(path)] == [0, 1]
    with EventLog(path) as log:
        log.append("step", step=1)
    found = read_events(path)
    assert [(line["attempt"], line.get("step")) for line in found] == [(1, None), (1, 0), (2, 1)]


def test_power_cut_leaves_zeros(tmp_path):
    """A tail of zeros, as a power cut leaves it, is passed over too."""
    path = tmp_path / "e"
    EventLog(path).close()
    with path.open("ab") as file:
        file.write(b"\0" * 100)
    EventLog(path).append("x")
    assert [line["kind"] for line in read_events(path)] == ["log", "x"]


def test_damage_in_the_middle_is_an_error(tmp_path):
    """A line that no kill can have torn is not passed over in silence."""
    path = tmp_path / "e"
    with EventLog(path) as log:
        log.append("step", step=0)
        log.append("step", step=1)
    rows = path.read_text().splitlines(keepends=True)
    for bad in ("garbage\n", "{}\n", "garbage\ngarbage\n"):
        path.write_text(rows[0] + bad + rows[2])
        with pytest.raises(RunFolderError, match=r"line 2 of .* is damaged(.|\n)*restore the file"):
            read_events(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no events"),
        (
            '{"attempt":1,"seq":0,"kind":"log","time":1,"format":2}\n',
            r"has the format 2[^$]*newer surefast",
        ),
        ('{"attempt":1,"seq":0,"kind":"x","time":1}\n', r"has the format None[^$]*events.jsonl of"),
    ],
)
def test_format(tmp_path, text, says):
    """A log of another format is refused with the remedy."""
    path = tmp_path / "e"
    path.write_text(text)
    with pytest.raises(RunFolderError, match=says):
        read_events(path)


def test_not_a_log(tmp_path):
    """A file that is something else is not appended to."""
    path = tmp_path / "e"
    path.write_bytes(b"something else\n" * 10_000)
    with pytest.raises(RunFolderError, match="it is no event log"):
        EventLog(path)
    with pytest.raises(RunFolderError, match=r"cannot read .*none"):
        read_events(tmp_path / "none")


def line(attempt, kind, **fields):
    return {"attempt": attempt, "seq": 0, "kind": kind, "time": 0.0} | fields


def test_folding():
    """A resume line replaces what earlier attempts did after its step; what was before stays."""
    lines = [
        line(1, "log"),
        line(1, "step", step=0),
        line(1, "step", step=1),
        line(1, "epoch", step=1),
        line(1, "finding"),
        line(1, "step", step=2),
        line(1, "finding"),
        line(2, "begin"),
        line(2, "resume", step=1),
        line(2, "step", step=2),
        line(3, "resume", step=2),
        line(3, "step", step=3),
    ]
    kept = fold_attempts(lines)
    assert [(x["kind"], x["attempt"], x.get("step")) for x in kept] == [
        ("log", 1, None), ("step", 1, 0), ("step", 1, 1), ("epoch", 1, 1), ("finding", 1, None),
        ("step", 2, 2), ("step", 3, 3),
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=6), st.integers(1, 13))
def test_folded_log_is_that_of_an_undisturbed_run(attempts, total):
    """Killed anywhere and resumed anywhere before that, the folded log is that of one whole run."""
    lines, done = [line(1, "log")], 0
    for attempt, (killed, back) in enumerate(attempts, 1):
        if attempt > 1:
            done = min(done, back)
            lines.append(line(attempt, "resume", step=done - 1))
        upto = max(done, min(killed, total))
        lines += [line(attempt, "step", step=step) for step in range(done, upto)]
        done = upto
    lines.append(line(99, "resume", step=done - 1))
    lines += [line(99, "step", step=step) for step in range(done, total)]
    whole = [line(1, "log"), *(line(1, "step", step=step) for step in range(total))]
    assert comparable(fold_attempts(lines)) == comparable(whole)


def test_threads_share_a_log(tmp_path):
    """Lines of several threads are whole, and each has its own number."""
    with EventLog(tmp_path / "e") as log:
        work = [
            threading.Thread(target=lambda: [log.append("x", text="y" * 500) for _ in range(100)])
            for _ in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert sorted(line["seq"] for line in lines_of(tmp_path / "e")) == list(range(401))


def test_full_disk(tmp_path):
    """A line that does not fit is an error that names the file and the remedy."""
    code = (
        "import resource, sys; from surefast.run.event_log import EventLog; log = EventLog(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))\n"
        "while True: log.append('step', text='x' * 90)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "e")], capture_output=True, text=True)
    assert "RunFolderError: [run-folder] cannot append to" in done.stderr
    assert "raise the limit (ulimit -f)" in done.stderr or "the disk is full" in done.stderr
    assert [line["seq"] for line in read_events(tmp_path / "e")][:2] == [0, 1]


def test_a_line_is_cheap(tmp_path):
    """The line of a step costs some microseconds of the processor: the best of many rounds counts."""
    rounds = []
    with EventLog(tmp_path / "e") as log:
        for _ in range(20):
            start = time.process_time()
            for step in range(500):
                log.append("step", step=step, epoch=0, batch=step, loss=0.123456789, lr=0.001)
            rounds.append((time.process_time() - start) / 500)
    assert min(rounds) < 25e-6  # about 7e-6 on an idle machine
