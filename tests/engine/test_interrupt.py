import os
import signal
import threading
import time

import pytest

from densehead.engine.interrupt import TrainingStopped, stop_request


def test_first_signal_waits_second_does_not():
    with stop_request() as request:
        request.can_wait = True
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.signum == signal.SIGTERM
        with pytest.raises(TrainingStopped, match="stopped by SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)


def test_signal_stops_at_once_where_it_cannot_wait():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_request():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loading_process_outlives_the_first_signal():
    with stop_request() as request:
        request.can_wait = True
        child = os.fork()
        if child == 0:
            while True:
                time.sleep(1)
        for _ in range(2):
            time.sleep(0.2)
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
            os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert request.signum is None


def test_other_threads_listen_to_nothing():
    seen = []

    def listen():
        with stop_request() as request:
            seen.append(request.signum)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [None]
