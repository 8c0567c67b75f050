"""A data process: reads jobs from its standard input, writes batches to its standard output.

It is started as a plain Python process that imports this file, so that nothing of the user's script is run
again; no ``if __name__ == "__main__"`` is needed, and it works from a notebook. What a user's transform
prints goes to standard error. It ends when its input is closed, which also happens when the parent dies.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
import traceback
from typing import Any, BinaryIO

from surefast.data.wire import decode, encode, read, write


def main() -> None:
    """Serve jobs until the input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to decide
    source: BinaryIO = os.fdopen(os.dup(0), "rb", buffering=0)
    sink: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    cancelled: set[int] = set()
    threading.Thread(target=_receive, args=(source, inbox, cancelled), daemon=True).start()
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()
    _serve(inbox, sink, cancelled)


def _receive(source: BinaryIO, inbox: queue.SimpleQueue[tuple[Any, ...]], cancelled: set[int]) -> None:
    code = 1
    try:
        while parts := read(source):
            message = decode(parts)
            if message[0] == "cancel":  # overtakes the jobs that wait
                cancelled.add(message[1])
            else:
                inbox.put(message)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)  # also out of the middle of a batch that nobody waits for


def _watch_parent(parent: int) -> None:
    # The pipe stays open where something the parent forked has inherited it.
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def _serve(inbox: queue.SimpleQueue[tuple[Any, ...]], sink: BinaryIO, cancelled: set[int]) -> None:
    import torch

    torch.set_num_threads(1)
    write(sink, encode(("ready", 0, os.getpid())))
    datasets: dict[int, Any] = {}
    while True:
        kind, number, *rest = inbox.get()
        if kind == "build" and number in cancelled:
            cancelled.discard(number)
            continue
        try:
            if kind == "data":
                datasets[number] = _load(rest[0])
                continue
            if kind == "forget":
                datasets.pop(number, None)
                continue
            answer = ("built", number, _build(datasets[rest[0]], rest[1]))
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent raises it
            if kind == "data":
                datasets[number] = error
                continue
            answer = ("failed", number, _portable(error))
        try:
            write(sink, encode(answer))
        except OSError:
            os._exit(0)


def _load(payload: Any) -> Any:
    import cloudpickle  # type: ignore[import-untyped]

    return cloudpickle.loads(payload)


def _build(samples: Any, job: Any) -> Any:
    from surefast.data.assemble import build_batch

    if isinstance(samples, Exception):
        raise samples
    return build_batch(samples, job)


def _portable(error: Exception) -> Exception:
    from surefast.errors import SurefastError, WorkerError

    if isinstance(error, SurefastError):
        return error
    text = "".join(traceback.format_exception(error)).strip()
    return WorkerError(
        f"a data process failed: {type(error).__name__}: {error}",
        do="run it with num_workers=0 to see where, or look at the traceback below",
        traceback="\n" + text[-2000:],
    )


if __name__ == "__main__":
    main()
