"""Signals as a wish to stop."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time

import pytest

from focalnet_mm.run.stopping import stop_on_signals


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_second_one_ends_at_once(number):
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert (stop.signal, stop.status) == (number, 128 + number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_in_another_thread_nobody_wishes():
    wishes = []

    def work():
        with stop_on_signals() as stop:
            wishes.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert wishes == [False]


def test_what_is_ignored_stays_so():
    """As `nohup` wants it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals((signal.SIGHUP, signal.SIGTERM)) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_patient_one_waits_for_a_person():
    with stop_on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGUSR1), patient=True) as stop:
        for number in (signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.signal is signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_a_forked_child_ends_for_its_parent_alone(number, status):
    """A pool, as mmdet's metrics of VOC have it, waits for children that it ended with SIGTERM."""
    fork = multiprocessing.get_context('fork')
    runs = fork.Event()

    def work():
        runs.set()
        time.sleep(1)

    with stop_on_signals() as stop:
        child = fork.Process(target=work)
        child.start()
        assert runs.wait(20)
        os.kill(child.pid, number)
        child.join(20)
        assert not child.is_alive()
        assert child.exitcode == status
        assert not stop


def test_a_child_that_has_just_begun():
    """A pool that has nothing to do ends it before it has come to its first line."""
    with stop_on_signals((signal.SIGTERM,)) as stop:
        for _ in range(10):
            child = os.fork()
            if not child:
                time.sleep(5)
                os._exit(0)
            os.kill(child, signal.SIGTERM)
            assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        assert not stop
        signal.raise_signal(signal.SIGTERM)
        assert stop


def test_after_the_work_they_do_what_they_did():
    """Where an error has ended it and nobody left the context, as in a notebook."""
    found, left = [], contextlib.ExitStack()

    def work():
        stop = left.enter_context(stop_on_signals((signal.SIGTERM,), within=work))
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        raise RuntimeError

    before = signal.signal(signal.SIGTERM, lambda number, _: found.append(number))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(RuntimeError):
            work()
        assert not found
        os.kill(os.getpid(), signal.SIGTERM)
        assert found == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is handler
        left.close()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
