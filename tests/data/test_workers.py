"""Data processes: the same stream, replaced when killed, gone when nobody needs them."""

import io
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from surefast.data.wire import decode, encode, read, write
from surefast.errors import TransformError, WorkerError

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")


def alive(pid):
    """Whether a process runs; one that waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def pids(dls):
    return dls.train.sources.crew(dls.train.dataset).pids


def content(batch):
    """What ``bits`` has for one batch."""
    return (*(t.numpy().tobytes() for t in (*batch.x, *batch.y)), batch.ids.tobytes(), batch.number)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder through which a test speaks to transforms in other processes."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def dls(digits, scratch):
    """Two data processes with a transform that draws from everything; starting one takes seconds."""
    from surefast.data.block import DataBlock
    from surefast.data.blocks import CategoryBlock, TransformBlock
    from surefast.data.label import ItemGetter

    def work(x):
        if (scratch / "crash").exists():
            raise ZeroDivisionError("by nothing")
        if (scratch / "die").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        while (scratch / "hang").exists():
            time.sleep(0.01)
        assert torch.get_num_threads() == 1
        return torch.as_tensor(x) + torch.rand(8, 8) + random.random() + float(np.random.rand())

    block = DataBlock(
        (TransformBlock, CategoryBlock),
        getters=[ItemGetter(0), ItemGetter(1)],
        item_tfms=[work],
    )
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        here, made = (
            block.dataloaders(digits, bs=24, device="cpu", num_workers=n, workers="process") for n in (0, 2)
        )
    yield here, made
    made.close()


def test_processes_give_the_stream_of_the_main_thread(dls, bits):
    """Training and validation share the processes, over two epochs and from the middle of one."""
    here, there = dls
    for epoch in (0, 1):
        assert bits(there.train, epoch=epoch) == bits(here.train, epoch=epoch)
    assert bits(there.valid) == bits(here.valid)
    assert bits(there.train, start=6) == bits(here.train)[6:]
    assert len(pids(there)) == 2


def test_two_streams_may_run_at_once(dls):
    """Validation in the middle of a training epoch gets its own batches."""
    here, there = dls
    expected = [b.x[0] for loader in (here.train, here.valid) for b in loader.batches(1, 0)]
    train = there.train.batches(1, 0)
    found = [next(train).x[0] for _ in range(4)]
    valid = [b.x[0] for b in there.valid.batches(1, 0)]
    found += [b.x[0] for b in train] + valid
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_an_error_in_a_process_is_the_error_here(dls, scratch):
    """With its class, its item and its cause; the processes go on."""
    (scratch / "crash").touch()
    try:
        with pytest.raises(TransformError, match=r"work failed on item \d+") as caught:
            next(dls[1].train.batches(0, 0))
    finally:
        (scratch / "crash").unlink()
    assert caught.value.details["cause"] == "ZeroDivisionError: by nothing"
    assert len(next(dls[1].train.batches(0, 0))) == 24


def test_an_epoch_broken_off_leaves_nothing_behind(dls, bits):
    """Its batches are taken back, and the next epoch is right."""
    here, there = dls
    for _ in range(3):
        stream = there.train.batches(9, 0)
        next(stream)
        del stream
    assert bits(there.train, epoch=4) == bits(here.train, epoch=4)


def test_a_killed_process_is_replaced_and_the_stream_goes_on(dls, bits):
    """SIGKILL while batches are under way."""
    here, there = dls
    crew = there.train.sources.crew(there.train.dataset)
    before, found = crew.replaced, []
    for batch in there.train.batches(7, 3, device="cpu"):
        found.append((
            *(t.numpy().tobytes() for t in (*batch.x, *batch.y)),
            batch.ids.tobytes(),
            batch.number,
        ))
        if batch.number == 1:
            os.kill(crew.pids[0], signal.SIGKILL)
    assert found == bits(here.train, epoch=3)
    assert wait_until(lambda: crew.replaced > before)


@pytest.mark.slow
def test_random_kills_never_change_the_stream(dls, bits):
    """Twelve epochs, each with a process killed after a random batch."""
    here, there = dls
    crew = there.train.sources.crew(there.train.dataset)
    draw = random.Random(5)
    for epoch in range(12):
        moment, found = draw.randrange(8), []
        for batch in there.train.batches(7, epoch, device="cpu"):
            found.append((
                *(t.numpy().tobytes() for t in (*batch.x, *batch.y)),
                batch.ids.tobytes(),
                batch.number,
            ))
            if batch.number == moment and crew.pids:
                os.kill(draw.choice(crew.pids), signal.SIGKILL)
        assert found == bits(here.train, epoch=epoch)


@pytest.mark.slow
def test_a_batch_that_kills_is_given_up(dls, scratch):
    """After three processes; the message names the batch and the signal."""
    (scratch / "die").touch()
    try:
        with pytest.raises(
            WorkerError, match=r"died 3 times over batch \d+ of epoch 0 \(signal SIGKILL"
        ) as caught:
            list(dls[1].train.batches(0, 0))
    finally:
        (scratch / "die").unlink()
    assert "num_workers=0" in caught.value.do
    assert len(next(dls[1].train.batches(0, 0))) == 24


def test_close_ends_the_processes_also_in_mid_batch(dls, scratch):
    """Nobody waits for a batch that nobody wants; a later epoch starts new ones."""
    made = dls[1]
    (scratch / "hang").touch()
    stream = made.train.batches(0, 0)
    crew = made.train.sources.crew(made.train.dataset)
    crew.submit(crew.register(made.train.dataset), next(made.train.jobs(0, 0)))
    running = crew.pids
    made.close()
    (scratch / "hang").unlink()
    stream.close()
    assert running
    assert wait_until(lambda: not any(map(alive, running)), 5)


SCRIPT = textwrap.dedent("""
    import os, sys, time
    import torch
    from surefast.data.block import DataBlock
    from surefast.data.blocks import CategoryBlock, TransformBlock
    from surefast.data.label import ItemGetter

    def slow(x):        # defined in the script itself, and no guard around what runs
        time.sleep(0.01)
        return torch.tensor([float(x)])

    block = DataBlock((TransformBlock, CategoryBlock), getters=[ItemGetter(0), ItemGetter(1)], item_tfms=slow)
    dls = block.dataloaders([(i, i % 2) for i in range(400)], bs=8, num_workers=1, device="cpu")
    stream = dls.train.batches(0, 0)
    next(stream)
    try:
        print(*dls.train.sources.crew(dls.train.dataset).pids, flush=True)
        if sys.argv[1] == "leave":
            sys.exit(0)
        for batch in stream:
            pass
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
""")


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("leave", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        signal.SIGKILL,
    ],
)
def test_no_process_outlives_its_parent(way, tmp_path):
    """Leaving in mid-epoch, Ctrl-C to the whole group, and the death of the parent."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), "leave" if way == "leave" else "wait"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with program:
        assert program.stdout is not None
        children = [int(pid) for pid in program.stdout.readline().split()]
        if way == signal.SIGINT:
            os.killpg(program.pid, way)
            assert program.stdout.readline() == "interrupted\n"
        elif way != "leave":
            program.kill()
        assert children
        assert wait_until(lambda: not any(map(alive, children)), 10)
        program.wait(20)


def test_what_cannot_be_sent_is_an_error(digits, memory_block):
    """Before any process is started."""
    lock = threading.Lock()
    dls = memory_block(lambda x: (x, lock)[0]).dataloaders(digits, num_workers=1, device="cpu")
    with pytest.raises(WorkerError, match="cannot be sent to a data process: TypeError") as caught:
        next(dls.train.batches(0, 0))
    assert "num_workers=0" in caught.value.do


def test_messages_keep_tensors_whole_and_out_of_the_pickle():
    """Kinds, shapes and nests come back; a large tensor adds nothing to the pickle itself."""
    message = (
        "built",
        torch.arange(6, dtype=torch.uint8).reshape(2, 3),
        (torch.tensor(2.5), {"a": torch.ones(2, dtype=torch.bfloat16)}, torch.zeros(0, 3)),
        np.arange(4),
        torch.rand(4, 6)[:, ::2],
    )
    stream = io.BytesIO()
    write(stream, encode(message))
    stream.seek(0)
    back = decode(read(stream))
    assert torch.equal(back[1], message[1])
    assert back[2][0].item() == 2.5
    assert torch.equal(back[2][1]["a"], message[2][1]["a"])
    assert back[2][2].shape == (0, 3)
    assert (back[3] == message[3]).all()
    assert torch.equal(back[4], message[4])
    back[1][0, 0] = 9  # its own memory, writable
    assert read(stream) == []
    assert len(encode(torch.zeros(1_000_000))[1]) < 1000


def test_a_message_cut_short_is_the_end():
    """A process that dies while it writes."""
    stream = io.BytesIO()
    write(stream, encode(torch.zeros(100)))
    assert read(io.BytesIO(stream.getvalue()[:-10])) == []
