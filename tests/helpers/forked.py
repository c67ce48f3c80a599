"""Two processes of a training, forked from a server that has imported what they need and has computed nothing."""

import multiprocessing
import os
import socket
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import cloudpickle
import torch.distributed as dist

# A fork of a process whose libraries have started threads, as that of the tests has, now and then ends in a
# segmentation fault.
_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['tests.conftest', 'mmdet.apis', 'focalnet_mm.run.build', 'focalnet_mm.explain'])


def two_ranks(work, folder, seconds=60):
    """Run a function in two processes that find each other, and end what is left after some seconds.

    Args:
        work: Takes the rank. It and what it refers to are pickled: it sees nothing that a test has put in the place
            of something else.
        folder: Where what they print goes.
        seconds: How long the second may take once the first has ended.

    Returns:
        For each rank its status as ``os.waitstatus_to_exitcode`` gives it, and what it printed.
    """
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port = found.getsockname()[1]
    files = [Path(folder) / f'rank_{rank}.txt' for rank in range(2)]
    children = [_CONTEXT.Process(target=_child, args=(cloudpickle.dumps(work), rank, port, file))
                for rank, file in enumerate(files)]
    for child in children:
        child.start()
    until = None
    while any(child.is_alive() for child in children):
        if not until and not all(child.is_alive() for child in children):
            until = time.monotonic() + seconds
        if until and time.monotonic() > until:
            for child in children:
                child.kill()
        time.sleep(0.05)
    return [(child.exitcode, file.read_text()) for child, file in zip(children, files, strict=True)]


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
        work = cloudpickle.loads(work)
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
