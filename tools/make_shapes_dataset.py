"""Write the built-in data set: the same as `focalnet-mm shapes`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('shapes')
