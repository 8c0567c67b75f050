"""A crew of data processes: gives out jobs, collects batches, replaces processes that die.

Which process builds which batch does not matter, since a batch is a pure function of its job; so a process
that was killed is replaced and its jobs are given out again. This file must not know of order or epochs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, final

import cloudpickle  # type: ignore[import-untyped]

from surefast.data.assemble import Built, Job
from surefast.data.dataset import Samples
from surefast.data.wire import decode, encode, read, write
from surefast.errors import WorkerError

DEATHS: Final = 3
"""How often a process may die over one batch before the batch is given up."""

_PIPE_BYTES: Final = 1 << 20
_START: Final = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = {path!r}; from surefast.data.worker import main; main()"
)
# Not ``-m surefast.data.worker``: the child must find what the parent found, however that set its path.


@dataclass(eq=False)
class _Ticket:
    number: int
    data: int
    job: Job
    future: Future[Built]
    deaths: int = 0


@dataclass(eq=False)
class _Process:
    popen: subprocess.Popen[bytes]
    tickets: deque[_Ticket] = field(default_factory=deque)
    known: set[int] = field(default_factory=set)
    writing: threading.Lock = field(default_factory=threading.Lock)


@final
class Crew:
    """Data processes, started at the first job and kept until ``close`` or the end of the program.

    Args:
        count: how many processes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._state = _State(count)
        # The threads that read hold the state only, so a crew that nobody uses any more can go.
        self._finalizer = weakref.finalize(self, self._state.close)

    def register(self, samples: Samples) -> int:
        """Announce a data set; gives the number that jobs name it by."""
        return self._state.register(samples)

    def forget(self, data: int) -> None:
        """Let go of a data set."""
        self._state.forget(data)

    def submit(self, data: int, job: Job) -> Future[Built]:
        """Have a batch built; the future raises what the building raised."""
        return self._state.submit(data, job)

    @property
    def pids(self) -> list[int]:
        """The process numbers of those alive."""
        return [process.popen.pid for process in self._state.processes if process.popen.poll() is None]

    @property
    def replaced(self) -> int:
        """How many processes died and were replaced."""
        return self._state.replaced

    def close(self) -> None:
        """End the processes; batches under way are given up."""
        self._finalizer()


class _State:
    def __init__(self, count: int) -> None:
        self.count = count
        self.processes: list[_Process] = []
        self.payloads: dict[int, bytes] = {}
        self.lock = threading.RLock()
        self.numbers = 0
        self.replaced = 0
        self.closing = False

    def register(self, samples: Samples) -> int:
        try:
            payload = cloudpickle.dumps(samples, protocol=5)
        except Exception as error:
            raise WorkerError(
                f"the data set cannot be sent to a data process: {type(error).__name__}: {error}",
                do="let transforms and getters hold no open files, locks or sockets, or use num_workers=0",
            ) from error
        with self.lock:
            self.numbers += 1
            self.payloads[self.numbers] = payload
            return self.numbers

    def forget(self, data: int) -> None:
        with self.lock:
            self.payloads.pop(data, None)
            for process in self.processes:
                if data in process.known:
                    process.known.discard(data)
                    _send(process, ("forget", data))

    def submit(self, data: int, job: Job) -> Future[Built]:
        with self.lock:
            if self.closing:
                raise WorkerError("the data processes have been closed", do="make new DataLoaders")
            while len(self.processes) < self.count:
                self.processes.append(self._start())
            self.numbers += 1
            ticket = _Ticket(self.numbers, data, job, Future())
            process = min(self.processes, key=lambda p: len(p.tickets))
            self._give(process, ticket)
        ticket.future.add_done_callback(lambda future: self._cancel(ticket) if future.cancelled() else None)
        return ticket.future

    def _cancel(self, ticket: _Ticket) -> None:
        with self.lock:
            for process in self.processes:
                if ticket in process.tickets:
                    process.tickets.remove(ticket)
                    _send(process, ("cancel", ticket.number))

    def _give(self, process: _Process, ticket: _Ticket) -> None:
        process.tickets.append(ticket)
        if ticket.data not in process.known and ticket.data in self.payloads:
            process.known.add(ticket.data)
            _send(process, ("data", ticket.data, self.payloads[ticket.data]))
        _send(process, ("build", ticket.number, ticket.data, ticket.job))

    def _start(self) -> _Process:
        paths = [os.path.abspath(path) if path else os.getcwd() for path in sys.path]
        popen = subprocess.Popen(  # noqa: S603  # our own interpreter and our own words
            [sys.executable, "-c", _START.format(path=paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        process = _Process(popen)
        _widen(popen)
        threading.Thread(target=self._collect, args=(process,), name="surefast-data", daemon=True).start()
        return process

    def _collect(self, process: _Process) -> None:
        stream = process.popen.stdout
        assert stream is not None
        while parts := read(stream):  # type: ignore[arg-type]  # unbuffered, as asked for
            try:
                kind, number, content = decode(parts)
            except Exception:  # noqa: BLE001  # what cannot be read is lost with its process
                process.popen.kill()
                break
            if kind == "ready":
                continue
            with self.lock:
                ticket = next((t for t in process.tickets if t.number == number), None)
                if ticket is None:
                    continue
                process.tickets.remove(ticket)
            if ticket.future.set_running_or_notify_cancel():
                if kind == "built":
                    ticket.future.set_result(content)
                else:
                    ticket.future.set_exception(content)
        self._replace(process)

    def _replace(self, dead: _Process) -> None:
        """Take a dead process out; put a new one in for the work that it leaves."""
        code = dead.popen.wait()
        _close_pipes(dead.popen)
        with self.lock:
            if self.closing or dead not in self.processes:
                return
            left = [ticket for ticket in dead.tickets if not ticket.future.cancelled()]
            dead.tickets.clear()
            self.processes.remove(dead)
            if left:
                left[0].deaths += 1  # it works through them in order: this one it was at
            if left and left[0].deaths >= DEATHS:
                given_up = left.pop(0)
                if given_up.future.set_running_or_notify_cancel():
                    given_up.future.set_exception(_death(given_up, code))
            self.replaced += 1
            if not left:
                return
            try:
                self.processes.append(self._start())
            except OSError as error:  # no memory, no descriptors: those who wait must hear of it
                _fail(left, error)
                return
            for ticket in left:
                self._give(self.processes[-1], ticket)

    def close(self) -> None:
        with self.lock:
            self.closing = True
            processes, self.processes = self.processes, []
        for process in processes:
            for ticket in tuple(process.tickets):
                ticket.future.cancel()
            if process.popen.stdin is not None:
                _close(process.popen.stdin)
        for process in processes:
            try:
                process.popen.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
        self.payloads.clear()


def _send(process: _Process, message: tuple[Any, ...]) -> None:
    stream = process.popen.stdin
    assert stream is not None
    try:
        with process.writing:
            write(stream, encode(message))  # type: ignore[arg-type]  # unbuffered, as asked for
    except (OSError, ValueError):
        return  # it has died: whoever reads from it sees that and gives its work to another


def _death(ticket: _Ticket, code: int) -> WorkerError:
    cause = f"exit code {code}"
    if code < 0:
        cause = f"signal {signal.Signals(-code).name}"
    hint = "; the kernel kills so when memory is short" if code == -signal.SIGKILL else ""
    return WorkerError(
        f"data processes died {ticket.deaths} times over batch {ticket.job.number} of epoch "
        f"{ticket.job.epoch} ({cause}{hint})",
        do="look for their last words on standard error; num_workers=0 builds the batch here, and fewer "
        "workers or smaller pictures need less memory",
        items=", ".join(map(str, ticket.job.ids[:8])) + (", ..." if len(ticket.job.ids) > 8 else ""),
    )


def _widen(popen: subprocess.Popen[bytes]) -> None:
    """A larger pipe, where the system can: fewer switches for a batch of pictures."""
    try:
        import fcntl

        for stream in (popen.stdin, popen.stdout):
            assert stream is not None
            fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (ImportError, AttributeError, OSError):
        return


def _fail(tickets: list[_Ticket], error: Exception) -> None:
    for ticket in tickets:
        if ticket.future.set_running_or_notify_cancel():
            ticket.future.set_exception(error)


def _close_pipes(popen: subprocess.Popen[bytes]) -> None:
    for stream in (popen.stdin, popen.stdout):
        if stream is not None:
            _close(stream)


def _close(stream: Any) -> None:
    try:
        stream.close()
    except OSError:
        return
