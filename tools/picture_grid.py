"""Join pictures, such as those that `tools/test.py --show-dir` drew, to a grid."""

import argparse
from pathlib import Path

import cv2
import numpy as np


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('pictures', nargs='+', metavar='PICTURE', help='pictures, or folders of pictures')
    parser.add_argument('--out', required=True, help='the file to write, .png or .jpg')
    parser.add_argument('--columns', type=int, default=2, help='pictures in a row')
    parser.add_argument('--most', type=int, default=8, help='how many pictures at the most')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    paths = []
    for path in map(Path, args.pictures):
        paths += sorted(p for p in path.iterdir() if p.suffix in ('.png', '.jpg')) if path.is_dir() else [path]
    pictures = []
    for path in paths[:args.most]:
        picture = cv2.imread(str(path))
        if picture is None:
            raise SystemExit(f'picture_grid.py: {path} is missing or no picture.')
        pictures.append(picture)
    if not pictures:
        raise SystemExit(f'picture_grid.py: no .png or .jpg in {", ".join(args.pictures)}.')

    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    gap = 8
    rows = -(-len(pictures) // args.columns)
    grid = np.full((rows * (height + gap) - gap, args.columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // args.columns * (height + gap), i % args.columns * (width + gap)
        grid[y:y + picture.shape[0], x:x + picture.shape[1]] = picture
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(args.out, grid):
        raise SystemExit(f'picture_grid.py: {args.out} could not be written.')
    print(args.out)


if __name__ == '__main__':
    main()
