"""Make a checkpoint of a training run ready for others: the same as `focalnet-mm publish`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('publish')
