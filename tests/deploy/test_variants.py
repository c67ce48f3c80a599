"""Modulations of the paper in one network, exported."""

import pytest
import torch

from focalnet_mm.backbone.variants import MODULATIONS
from focalnet_mm.deploy.export import export_model
from tests.helpers.variants import all_in_one


@pytest.mark.slow
@pytest.mark.parametrize(('names', 'to', 'ending'), [
    # That of the rarest operators: ONNX takes many seconds a block.
    (['sliding_window'], 'onnx', '.onnx'), (['sliding_window'], 'pt2', '.pt2'), (MODULATIONS, 'torchscript', '.pt')])
def test_exported(names, to, ending, tmp_path):
    """The command compares at three sizes, one of them odd."""
    with torch.no_grad():
        net = all_in_one(names).eval()
        # Further from 0, each block multiplies what the one before did.
        for name, parameter in net.named_parameters():
            if 'gamma' in name:
                parameter.mul_(0.1)
    assert export_model(net, tmp_path / f'x{ending}', to, 'backbone', tell=lambda _: None) < 1e-4
