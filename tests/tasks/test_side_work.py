"""Jobs beside other work: in threads, or at once."""

import threading
import time

import pytest

from tasks.side_work import SideWork


def test_with_threads_a_job_goes_on_while_its_starter_does():
    released = threading.Event()
    with SideWork(1) as side_work:
        waiting = side_work.start(released.wait, 30)
        released.set()
        assert waiting.result()


def test_without_threads_a_job_is_done_by_who_starts_it():
    with SideWork(0) as side_work:
        started = side_work.start(threading.current_thread)
        assert started.done()
        assert started.result() is threading.current_thread()


def test_no_job_is_lost_when_the_block_is_left_by_an_error():
    done = []

    def fail():
        with SideWork(1) as side_work:
            for number in range(50):
                side_work.start(done.append, number)
            raise ValueError("the fit")

    with pytest.raises(ValueError, match="the fit"):
        fail()
    assert done == list(range(50))


@pytest.mark.parametrize("threads", [0, 2])
def test_the_cpu_seconds_of_jobs_are_counted_of_failed_ones_too(threads):
    spent = 0.02

    def work(*, fail):
        started = time.thread_time()
        while time.thread_time() - started < spent:
            pass
        if fail:
            raise ValueError("no image")

    with SideWork(threads) as side_work:
        side_work.start(work, fail=False).result()
        with pytest.raises(ValueError, match="no image"):
            side_work.start(work, fail=True).result()
    assert side_work.seconds >= 2 * spent
