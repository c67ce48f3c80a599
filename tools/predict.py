"""Predict on pictures, folders and videos: boxes, masks, segments, label maps or classes, as the config's model does.

OUT gets predictions.json, with the results in COCO's form, and under pictures/ every input with what was found.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress

from focalnet_mm import launch
from focalnet_mm.predict import Predictor, find_inputs, left_out, read_image, read_video


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='checkpoint of any layout: path, URL or hf://owner/name')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='pictures, videos, and folders of them')
    parser.add_argument('--out', required=True, metavar='DIR', help='where predictions and pictures go')
    parser.add_argument('--score-thr', type=float, default=0.3,
                        help='draw what a detector scores at least this (default: %(default)s); the JSON has all')
    parser.add_argument('--device', help='where to compute (default: the GPU if there is one)')
    parser.add_argument('--force', action='store_true', help='write into a folder that is not empty')
    launch.add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        out = launch.check_folder(args.out, args.force)
        cfg = launch.load_config(args.config, args.cfg_options)
        inputs, other = find_inputs(args.inputs, leave_out=out)
        predictor = Predictor(cfg, args.checkpoint, args.device)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise SystemExit(f'predict.py: {error}') from None
    if other:
        print(left_out(other))

    images, annotations, failed = [], [], []

    def predict(image: np.ndarray, path: Path, **more: int) -> np.ndarray:
        """Store what is predicted for an image; returns its picture."""
        sample = predictor.predict(image)
        image_id = len(images) + 1
        images.append(dict(id=image_id, file_name=str(path), height=image.shape[0], width=image.shape[1], **more))
        annotations.extend(predictor.entries(sample, image_id))
        return predictor.draw(image, sample, args.score_thr)

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task('', total=len(inputs))
        for item in inputs:
            progress.update(task, description=item.name)
            picture = out / 'pictures' / item.name
            try:
                source = read_video(item.path) if item.is_video else read_image(item.path)
            except (ValueError, OSError) as error:
                failed.append(item)
                progress.console.print(f'predict.py: {error}', markup=False, soft_wrap=True)
                progress.advance(task)
                continue
            picture.parent.mkdir(parents=True, exist_ok=True)
            if item.is_video:
                count, rate, frames = source
                film = picture if picture.suffix == '.mp4' else picture.with_name(picture.name + '.mp4')
                part, writer = progress.add_task('frames', total=count or None), None
                for i, frame in enumerate(frames):
                    drawn = predict(frame, item.path, frame=i)
                    if writer is None:
                        writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*'mp4v'),
                                                 rate, drawn.shape[1::-1])
                    writer.write(drawn)
                    progress.advance(part)
                writer.release()
                progress.remove_task(part)
            else:
                drawn = predict(source, item.path)
                if picture.suffix.lower() not in ('.jpg', '.jpeg', '.png'):
                    picture = picture.with_name(picture.name + '.png')
                _, data = cv2.imencode(picture.suffix, drawn)
                picture.write_bytes(data.tobytes())
            progress.advance(task)

    out.mkdir(parents=True, exist_ok=True)
    file = out / 'predictions.json'
    file.write_text(json.dumps(dict(
        info=dict(config=args.config, checkpoint=args.checkpoint), images=images,
        categories=[dict(id=i, name=name) for i, name in enumerate(predictor.classes)], annotations=annotations),
        ensure_ascii=False, indent=1) + '\n', encoding='utf-8')
    print(f'{len(images)} images, {len(annotations)} predictions: {file}')
    if failed:
        raise SystemExit(f'predict.py: {len(failed)} of {len(inputs)} inputs could not be read, see above.')


if __name__ == '__main__':
    main()
