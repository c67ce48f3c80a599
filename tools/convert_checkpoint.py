"""Convert a FocalNet checkpoint: between official, timm, transformers, mm (mmdet, mmseg, mmpretrain) and detrex."""

import argparse

from focalnet_mm import ARCHS
from focalnet_mm.weights import LAYOUTS, convert_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', metavar='SRC', help='path, folder, URL or hf://owner/name[@revision][/file]')
    parser.add_argument('dst', metavar='DST',
                        help='a file that ends in .safetensors or .pth; for transformers a folder')
    parser.add_argument('--to', required=True, choices=LAYOUTS, help='layout to convert to')
    parser.add_argument('--arch', choices=ARCHS, metavar='ARCH',
                        help='variant, where the tensors do not show it: ' + ', '.join(ARCHS))
    parser.add_argument('--backbone-only', action='store_true', help='leave out the heads')
    parser.add_argument('--force', action='store_true', help='replace DST where it is there')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        print(convert_file(args.src, args.dst, args.to, args.arch, args.backbone_only, args.force))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f'convert_checkpoint.py: {error}') from None


if __name__ == '__main__':
    main()
