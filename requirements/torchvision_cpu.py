"""Makes PyPI's torchvision importable beside a CPU build of torch.

That wheel is a CUDA build. Its compiled part does not load beside a CPU torch, and then its import fails with
"operator torchvision::nms does not exist". The Makefile puts this file into .venv where, and only where, that
happens: the two operators are declared just before torchvision is imported. They can't be run, and none of the
OpenMMLab libraries does.
"""

import sys


class _DeclareOperators:

    def find_spec(self, name, path=None, target=None):
        if name == 'torchvision':
            sys.meta_path.remove(self)
            import torch
            library = torch.library.Library('torchvision', 'DEF')
            for operator in ('nms', 'qnms'):
                library.define(f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
            # The declarations last as long as the library object.
            _DeclareOperators.library = library


sys.meta_path.insert(0, _DeclareOperators())
