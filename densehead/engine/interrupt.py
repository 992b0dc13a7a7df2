"""Ctrl-C and SIGTERM during training: stop between two iterations, at a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingStopped(KeyboardInterrupt):
    """Training ended at the wish of a user or a scheduler.

    Attributes:
        signum: the signal.
        checkpoint: where training can be taken up again, or None.
    """

    def __init__(self, signum: int, checkpoint: str | None = None) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.checkpoint = checkpoint


class StopRequest:
    """Catches the first signal while it can be waited for; the second one, and any at other times, stops at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.can_wait = False
        self._owner = os.getpid()

    def __call__(self, signum: int, frame: object) -> None:
        """Handle a signal."""
        if os.getpid() != self._owner:
            # A data-loading process inherits the handler. The parent needs its batches to the end of the iteration, so
            # the first signal is passed over; the second is the parent's own way of ending it.
            signal.signal(signum, signal.SIG_DFL if signum == signal.SIGTERM else signal.SIG_IGN)
            return
        if self.signum is not None or not self.can_wait:
            raise TrainingStopped(signum)
        self.signum = signum


@contextmanager
def stop_request():
    """Listen for SIGINT and SIGTERM inside the ``with``; yields a :class:`StopRequest`.

    Signal handlers can be set in the main thread only; elsewhere the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {one: signal.signal(one, request) for one in SIGNALS}
    try:
        yield request
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
