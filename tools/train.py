"""Train a detector, segmenter or classifier: the same as `focalnet-mm train`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('train')
