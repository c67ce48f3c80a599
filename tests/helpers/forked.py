"""Two processes of a training, forked from this one, which has imported all that they need."""

import os
import socket
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist


def two_ranks(work, folder, seconds=60):
    """Run a function in two processes that find each other, and end what is left after some seconds.

    Args:
        work: Takes the rank.
        folder: Where what they print goes.
        seconds: How long the second may take once the first has ended.

    Returns:
        For each rank its status as ``os.waitstatus_to_exitcode`` gives it, and what it printed.
    """
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port = found.getsockname()[1]
    children = {}
    for rank in range(2):
        child = os.fork()
        if not child:
            _child(work, rank, port, Path(folder) / f'rank_{rank}.txt')
        children[child] = rank
    left, ended, until = dict(children), {}, None
    while left:
        for child in list(left):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                ended[left.pop(child)] = os.waitstatus_to_exitcode(status)
                until = until or time.monotonic() + seconds
        if until and time.monotonic() > until:
            for child in left:
                os.kill(child, 9)
        time.sleep(0.05)
    return [(ended[rank], (Path(folder) / f'rank_{rank}.txt').read_text()) for rank in range(2)]


def _child(work, rank, port, file):
    status = 1
    try:
        out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(out, number)
        # What a test captures is not what is printed.
        sys.stdout, sys.stderr = open(1, 'w', closefd=False), open(2, 'w', closefd=False)  # noqa: SIM115
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=str(port))
        dist.init_process_group('gloo', timeout=timedelta(minutes=2))
        work(rank)
        dist.barrier()
        status = 0
    except SystemExit as end:
        print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
