"""Whether mmcv's operators load beside this torch, and run on the GPU where there is one; a sentence where not."""

import os
import shutil
import subprocess
import sys

COMPILE = 'FORCE_CUDA=1 CUDA_HOME=/usr/local/cuda make install'


def main():
    """Print what is wrong, and return 0 where nothing is, 1 where compiling mmcv anew cures it, or 2."""
    import torch
    try:
        from mmcv.ops import get_compiling_cuda_version
    except ImportError as error:
        print(f'The operators of mmcv do not load beside torch {torch.__version__}: {error}. They are compiled for one '
              'torch, and only where torch is installed already; torch 2.14 and later refuse to compile them.')
        return 1
    if torch.cuda.is_available():
        if get_compiling_cuda_version() != 'not available':
            return 0
        print('torch sees a GPU, but mmcv is compiled for the CPU alone: detectors would stop at their first operator '
              'on the GPU.')
        from torch.utils.cpp_extension import CUDA_HOME
        if CUDA_HOME is not None and shutil.which(os.path.join(CUDA_HOME, 'bin', 'nvcc')):
            return 1
        print(f'No nvcc was found to compile it with CUDA {torch.version.cuda}: install that toolkit, then '
              f'{COMPILE}. To go on with the CPU: CUDA_VISIBLE_DEVICES= make install.')
        return 2
    if os.environ.get('CUDA_VISIBLE_DEVICES') != '' and _names_of_gpus():
        why = 'is a build for the CPU' if torch.version.cuda is None else 'cannot use it (is its driver too old?)'
        print(f'This machine has {_names_of_gpus()}, but torch {torch.__version__} {why}: all runs on the CPU.')
    return 0


def _names_of_gpus():
    """What nvidia-smi lists, or nothing where it is missing or finds none."""
    try:
        found = subprocess.run(['nvidia-smi', '--query-gpu=name', '--format=csv,noheader'], capture_output=True,
                               text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ''
    return ' and '.join(filter(None, found.stdout.splitlines()))


if __name__ == '__main__':
    sys.exit(main())
