"""Predict on pictures, folders and videos: the same as `focalnet-mm predict`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('predict')
