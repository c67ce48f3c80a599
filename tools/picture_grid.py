"""Join pictures to a grid: the same as `focalnet-mm grid`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('grid')
