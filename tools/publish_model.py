"""Make a checkpoint of a training run ready for others: weights and classes only, with the hash in its name."""

import argparse
from pathlib import Path

from focalnet_mm.weights import publish


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('in_file', metavar='IN', help='checkpoint of a training run')
    parser.add_argument('out_file', metavar='OUT',
                        help='NAME.safetensors or NAME.pth; NAME-HASH.safetensors or .pth is written')
    parser.add_argument('--force', action='store_true', help='replace a file of that name')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        path, left_out = publish(args.in_file, args.out_file, args.force)
    except (ValueError, OSError) as error:
        raise SystemExit(f'publish_model.py: {error}') from None
    before, after = (Path(file).stat().st_size / 1e6 for file in (args.in_file, path))
    print(f'{path}: {after:.1f} MB of {before:.1f} MB; left out: {", ".join(left_out) or "nothing"}')


if __name__ == '__main__':
    main()
