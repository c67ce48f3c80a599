"""Evaluate the published models: the same as `focalnet-mm zoo evaluate`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('zoo_evaluate')
