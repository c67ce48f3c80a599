"""Train every method on the built-in data set: the same as `focalnet-mm zoo shapes`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('zoo_shapes')
