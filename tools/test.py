"""Evaluate a detector, segmenter or classifier: the same as `focalnet-mm test`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('test')
