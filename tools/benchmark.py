"""Measure FocalNet beside its peers: the same as `focalnet-mm benchmark`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('benchmark')
