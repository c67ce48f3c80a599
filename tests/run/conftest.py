"""What a runner says."""

import logging

import pytest


@pytest.fixture
def log_of():
    """The warnings and errors of a runner from now on."""
    added = []

    def of(runner):
        lines, handler = [], logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        runner.logger.setLevel('WARNING')
        runner.logger.addHandler(handler)
        added.append((runner.logger, handler))
        return lines

    yield of
    for logger, handler in added:
        logger.removeHandler(handler)
