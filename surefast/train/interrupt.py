"""Ctrl-C waits for the end of the step, so that no optimizer is left half-way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from surefast.train.state import TrainState


@contextlib.contextmanager
def interruptible(run: TrainState) -> Iterator[None]:
    """Hold Ctrl-C until the step that is under way is done; a second one does not wait.

    Between steps it is raised at once. A handler of the user's own is left alone, and so is every thread
    but the main one, which no signal reaches.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler:
        yield
        return

    def wait(number: int, frame: FrameType | None) -> None:
        if run.updating and not run.interrupted:
            run.interrupted = True
            return
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
