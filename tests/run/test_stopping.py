"""Signals as a wish to stop."""

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
    with stop_on_signals() as stop:
        child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(1,))
        child.start()
        os.kill(child.pid, number)
        child.join(20)
        assert not child.is_alive()
        assert child.exitcode == status
        assert not stop
