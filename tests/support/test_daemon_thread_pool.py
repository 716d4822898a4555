"""A pool of daemon threads."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import pytest

from bigupload import errors
from bigupload.support.daemon_threads import DaemonThreadPool


def test_it_gives_results_and_errors() -> None:
    pool = DaemonThreadPool(2, "test")
    assert pool.submit(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 7, 0).result()
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(divmod, 7, 2)


def test_it_starts_no_more_threads_than_it_may_and_does_every_call() -> None:
    pool = DaemonThreadPool(3, "test")
    together, names = threading.Barrier(3), set()

    def work() -> None:
        together.wait()
        names.add(threading.current_thread().name)

    wait([pool.submit(work) for _ in range(30)])
    pool.shutdown()
    assert names == {"test_0", "test_1", "test_2"}


def test_shutdown_waits_for_the_calls_that_were_submitted() -> None:
    pool, done = DaemonThreadPool(1, "test"), []
    for n in range(20):
        pool.submit(done.append, n)
    pool.shutdown()
    assert done == list(range(20))


def test_a_call_for_which_there_is_no_thread_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, done = DaemonThreadPool(2, "test"), []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(errors.OutOfThreads):
            pool.submit(done.append, "refused")
    pool.submit(done.append, "accepted").result(60)
    pool.shutdown()
    assert done == ["accepted"]


def test_a_call_waits_for_a_busy_thread_if_there_can_be_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, gate = DaemonThreadPool(2, "test"), threading.Event()
    pool.submit(gate.wait)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    second = pool.submit(divmod, 7, 2)
    gate.set()
    assert second.result(60) == (3, 1)
    pool.shutdown()


def refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
