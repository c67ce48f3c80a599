"""Convert a FocalNet checkpoint to another layout: the same as `focalnet-mm convert`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('convert')
