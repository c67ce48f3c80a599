"""Export a model to ONNX, TorchScript or PT2: the same as `focalnet-mm export`."""

from focalnet_mm.cli import run

if __name__ == '__main__':
    run('export')
