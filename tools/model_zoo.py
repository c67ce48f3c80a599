"""Measure the size of every config: the same as `focalnet-mm zoo sizes`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('zoo_sizes')
