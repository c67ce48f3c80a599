"""Commands in forks of a process that has the libraries imported: torch and OpenMMLab take seconds to import.

What a command says and does is the same, but for what depends on which modules are imported: tests of that start real
processes, and so does every test where ``FOCALNET_TESTS_COLD`` is set.
"""

import array
import atexit
import contextlib
import functools
import importlib
import json
import os
import random
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from pathlib import Path

# The client starts in milliseconds: it imports no site-packages, and nothing that this package imports.
CLIENT = r'''
import array, json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()
    server.sendmsg([len(request).to_bytes(8, 'big')],
                   [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0, 1, 2]))])
    server.sendall(request)
    status = server.recv(1)
sys.exit(status[0] if status else 'The process that runs commands for tests has ended')
'''
BASES = ('configs/mmdet/maskrcnn_focalnet_t_shapes.py', 'configs/mmseg/upernet_focalnet_t_shapes.py')
SERVER = 'from tests.helpers import warm; warm.serve()'


class Warm:
    """The process that waits for commands."""

    def __init__(self, cwd):
        self.folder = tempfile.TemporaryDirectory()
        self.address = str(Path(self.folder.name) / 'socket')
        self.process = subprocess.Popen(
            [sys.executable, '-c', SERVER, self.address], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': os.pathsep.join(
                [str(cwd), *filter(None, [os.environ.get('PYTHONPATH')])])})
        if not self.process.stdout.readline():
            raise RuntimeError('The process that runs commands for tests has not started')

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def command(self, *arguments):
        """What to start in place of ``python ARGUMENTS``."""
        return [sys.executable, '-I', '-S', '-c', CLIENT, self.address, *map(str, arguments)]

    def programs(self, folder):
        """Write programs into a folder for the PATH: ``focalnet-mm``, and ``python`` for files of ``tools/``."""
        installed = Path(sys.executable).with_name('focalnet-mm')
        lines = dict(
            python=f'case "$1" in tools/*) exec {shlex.join(self.command())} "$@";; esac\n'
                   f'exec {shlex.quote(sys.executable)} "$@"',
            **{installed.name: f'exec {shlex.join(self.command(installed))} "$@"'})
        for name, code in lines.items():
            (folder / name).write_text(f'#!/bin/sh\n{code}\n')
            (folder / name).chmod(0o755)


def serve():
    """Answer requests, each in a fork, until the process is ended."""
    import mmengine.config.utils
    for name in ('mmdet.apis', 'mmseg.apis', 'mmpretrain.apis', 'focalnet_mm'):
        importlib.import_module(name)
    # For each base of another library mmengine reads all of that library's metafiles.
    mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)
    for name in BASES:
        mmengine.Config.fromfile(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        print('ready', flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork():
                connection.close()
            else:
                listener.close()
                _answer(connection)


def _answer(connection):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    streams = array.array('i')
    head, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_LEN(3 * streams.itemsize))
    streams.frombytes(ancillary[0][2])
    left, request = int.from_bytes(head, 'big'), b''
    while len(request) < left:
        request += connection.recv(left - len(request))
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        # A shell's number for a process that a signal ended.
        code = os.waitstatus_to_exitcode(status)
        connection.sendall(bytes([code if code >= 0 else 128 - code]))
        os._exit(0)
    connection.close()
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    _become(*json.loads(request))


def _become(arguments, cwd, environment):
    """Go on as ``python ARGUMENTS``."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get('PYTHONPATH', '').split(os.pathsep)
    sys.path[:0] = [path for path in paths if path and path not in sys.path]
    if environment.get('PYTHONWARNINGS') == 'ignore':
        warnings.simplefilter('ignore')
    _forget()
    code = 1
    try:
        _run(arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    # As the interpreter ends.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)


def _run(arguments):
    if arguments[0] == '-m':
        sys.argv = ['', *arguments[2:]]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name='__main__')


def _forget():
    """What a process of its own would not share with others: random numbers, and settings read from the environment."""
    import numpy as np
    import torch
    random.seed()
    np.random.seed()
    torch.seed()
    for name in [name for name in sys.modules if name.split('.')[0] == 'huggingface_hub']:
        del sys.modules[name]
