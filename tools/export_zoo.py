"""Export every config to ONNX and run it: the same as `focalnet-mm zoo exports`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('zoo_exports')
