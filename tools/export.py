"""Export a model to ONNX, TorchScript or PT2 for images of any number, height and width, and check what was written."""

import argparse
from pathlib import Path

from focalnet_mm import launch
from focalnet_mm.export import FORMATS, PARTS, export_model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='checkpoint of any layout: path, URL or hf://owner/name')
    parser.add_argument('--to', required=True, choices=FORMATS, help='format to write')
    parser.add_argument('--part', default='model', choices=PARTS,
                        help='model: all of a classifier or of a segmenter with UPerNet, backbone and neck of a '
                        'detector; backbone: the feature maps alone (default: %(default)s)')
    parser.add_argument('--out', metavar='FILE',
                        help='the file to write (default: NAME_OF_CONFIG-PART.ENDING in the work dir)')
    parser.add_argument('--force', action='store_true', help='replace FILE where it is there')
    launch.add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        cfg = launch.load_config(args.config, args.cfg_options)
        out = args.out or Path(cfg.work_dir) / f'{Path(args.config).stem}-{args.part}{FORMATS[args.to]}'
        model = launch.build_model(cfg, args.checkpoint)
        export_model(model, out, args.to, args.part, args.force)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f'export.py: {error}') from None


if __name__ == '__main__':
    main()
