"""Write a config for your own data: the same as `focalnet-mm new`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('new')
