"""Show what a model looks at: the same as `focalnet-mm explain`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('explain')
