"""Check a config and its data before a long training: the same as `focalnet-mm check`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('check')
