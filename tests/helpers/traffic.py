"""``python -m tests.helpers.traffic`` prints how many bytes the steps of FocalNet-T's blocks move on a GPU."""

import math

from focalnet_mm.benchmark.traffic import Shape, backward, forward

#: Maps of C channels that the forward pass of a block moves by count of its steps: in plain PyTorch under bfloat16
#: autocast; with its elementwise steps fused; with norm and f, level, product and projection, and MLP as a step each.
COUNTED = {'plain PyTorch': 72, 'elementwise steps fused': 45, 'four fused steps': 30}


def main():
    for name, count, height, width in (('800×1216, batch 2', 2, 200, 304), ('224×224, batch 64', 64, 56, 56)):
        shape = Shape(count, height, width, 96, (9, 11, 13) if height == 200 else (3, 5, 7))
        print(f'\nFirst stage of FocalNet-T, {name}, kernels {shape.kernels}, bfloat16 autocast, in maps of C channels '
              f'of {shape.map / 1e6:.1f} MB:\n\n| pass | step | read | written |\n|---|---|---|---|')
        passes = dict(inference=forward(shape, keep=False), forward=forward(shape), backward=backward(shape))
        for label, steps in passes.items():
            for step in steps:
                print(f'| {label} | {step.name} | {step.read / shape.map:.2f} | {step.written / shape.map:.2f} |')
        print()
        for label, steps in passes.items():
            total = math.fsum(step.read + step.written for step in steps)
            print(f'{label}: {total / shape.map:.1f} maps, {total / 1e9:.2f} GB')
    print('By count, forward: ' + ', '.join(f'{name} {maps}' for name, maps in COUNTED.items()))


if __name__ == '__main__':
    main()
