"""Wrong command lines and what each gets: ``python -m tests.helpers.wrong_commands`` runs all and prints the table.

Each must end with a status other than 0 and one sentence, or work. They run in this process.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch

from focalnet_mm import cli
from focalnet_mm.run.build import build_model
from focalnet_mm.run.config import load_config
from tests.helpers.corpus import mmpretrain

#: Words of a command line → what is told, or ``None`` where it works. ``@`` stands for the folder of :func:`prepare`.
LINES = {
    # Configs.
    'train': 'the following arguments are required: config',
    'train @/nowhere.py': r'nowhere\.py does not exist',
    'train @': 'is a folder: give the path of a config file',
    'train @/x.png': 'cannot be read as a config|expected',
    'train @/x.pth': 'cannot be read as a config|expected',
    'train @/syntax.py': r'syntax\.py, line \d+: invalid syntax',
    'train @/empty.py': 'empty.py has no model: expected model',
    'test @/config.py': 'the following arguments are required: checkpoint',
    'test @/nowhere.py @/x.pth': r'nowhere\.py does not exist',
    'predict @/syntax.py @/x.pth @/x.png --out @/out': r'syntax\.py, line \d+: invalid syntax',
    'export @/syntax.py @/x.pth --to onnx --out @/x.onnx': r'syntax\.py, line \d+: invalid syntax',
    'explain @/nowhere.py @/x.png --out @/out': r'nowhere\.py does not exist',
    'check @/nowhere.py': r'nowhere\.py does not exist',
    'benchmark --config @/nowhere.py --out @/out': r'nowhere\.py: there is no such file',
    # Options.
    'train @/config.py --cfg-options lr': 'lr: expected KEY=VALUE',
    'train @/config.py --cfg-options =3': '=3: expected KEY=VALUE',
    'train @/config.py --resume=': '--resume is given an empty name',
    'train @/config.py --launcher pytorch': 'is for processes that torchrun starts',
    'train @/config.py --cfg-options default_hooks.checkpoint.intervall=2': 'did you mean interval?',
    'train @/config.py --cfg-options default_hooks.checkpoint.filename_tmpl=a_{}_{}.pth': 'one place for the number',
    'train @/config.py --cfg-options default_hooks.checkpoint.out_dir=@/x.png': r'cannot be written to .*x\.png',
    'train @/config.py --cfg-options train_cfg.val_interval=0': 'val_interval is 0, expected a whole number from 1 up',
    'train @/config.py --cfg-options model.head.type=LinearClsHed': 'did you mean LinearClsHead?',
    'train @/config.py --cfg-options optim_wrapper.optimizer.type=AdanW': 'did you mean Ada',
    'train @/config.py --cfg-options train_cfg.type=EpochBasedLoop': 'did you mean EpochBasedTrainLoop?',
    'train @/config.py --cfg-options train_dataloader.sampler.type=DefaultSample': 'did you mean DefaultSampler?',
    'train @/config.py --cfg-options default_hooks.logger.type=LogerHook': 'did you mean LoggerHook?',
    'train @/config.py --cfg-options model.backbone.depths=(1,1)': 'out_indices must name stages 0 to 1 of 2',
    'train @/config.py --cfg-options model.backbone.embed_dims=x': 'embed_dims',
    'train @/config.py --cfg-options train_dataloader.batch_size=0': 'batch_size|batch size',
    'train @/config.py --cfg-options train_dataloader.batch_size=two': 'batch_size|batch size',
    'train @/config.py --cfg-options train_cfg.max_epochs=many': "train_cfg.max_epochs is 'many', expected a whole",
    'train @/config.py --cfg-options optim_wrapper.optimizer.lr=-1': 'learning rate',
    'train @/config.py --cfg-options optim_wrapper.optimizer.lr=fast': 'lr|learning rate|str',
    'train @/config.py --cfg-options train_dataloader.num_workers=-1': 'num_workers',
    'train @/config.py --cfg-options train_dataloader.persistent_workers=True': 'persistent_workers',
    'train @/config.py --cfg-options model.head.num_classes=7': 'head has 7 classes',
    'train @/config.py --cfg-options load_from=@/nowhere.pth': r'nowhere\.pth does not exist',
    'train @/config.py --cfg-options load_from=@/x.png': 'damaged or not',
    'train @/config.py --cfg-options data_root=@/nowhere train_cfg.max_epochs=1 --work-dir @/moved': None,
    'train @/config.py --cfg-options model.head.0.x=1': '.',
    'train @/config.py --cfg-options model=': '.',
    'train @/config.py --work-dir @/x.png': r'x\.png cannot be written: File exists: name another',
    'train @/config.py --work-dir /proc/nothing': 'nothing cannot be written: No such file or directory: name another',
    'train @/config.py --launcher slurm': 'needs GPUs',
    'train @/config.py --launcher lsf': 'invalid choice',
    'train @/config.py --auto-scale-lr': 'needs auto_scale_lr.base_batch_size',
    'train @/config.py --epochs 3': 'unrecognized arguments: --epochs',
    # Resuming.
    'train @/config.py --resume @/nowhere.pth': r'nowhere\.pth does not exist',
    'train @/config.py --resume @/x.pth': 'holds weights only',
    'train @/config.py --resume @/another.pth': 'weights only|another model',
    'train @/config.py --resume @/x.png': 'damaged or not',
    # Checkpoints and devices.
    'test @/config.py @/nowhere.pth': r'nowhere\.pth does not exist',
    'test @/config.py @/another.pth': 'is not of this config',
    'test @/config.py @/x.png': 'damaged or not',
    'test @/config.py @/x.pth --out @/x.json': r'\.pkl',
    'test @/config.py @/x.pth --cfg-options test_evaluator.type=Acuracy': 'did you mean Accuracy?',
    'predict @/config.py @/x.pth @/nowhere.png --out @/out': r'nowhere\.png',
    'predict @/config.py @/x.pth @/x.pth --out @/out': '1 of 1 inputs failed, see above',
    'predict @/config.py @/x.pth @/x.png --out @/x.png': 'is a file, where a folder was to be made',
    'predict @/config.py @/x.pth @/x.png --out @/out2 --device gpu': 'gpu',
    'predict @/config.py @/x.pth @/x.png --out @/out3 --device cuda:7': 'cuda|GPU',
    'predict @/config.py @/x.pth @/x.png --out @/out5 --score-thr high': 'invalid float',
    'explain @/config.py @/x.png --out @/out4 --stage 9': 'stage',
    'explain @/config.py --out @/out': 'picture|IMAGE|images',
    'export @/config.py @/x.pth --to onx --out @/x.onnx': 'invalid choice',
    'export @/config.py @/x.pth --to onnx --check @/x.onnx': 'not allowed with argument',
    'export @/config.py @/x.pth --to onnx --out @/made/x.onnx': None,
    'export @/config.py @/x.pth --to torchscript --out /proc/x.pt': '/proc/x.pt cannot be written',
    'export @/config.py @/another.pth --to onnx --out @/x.onnx': 'is not of this config',
    'check @/config.py --steps 0': 'steps',
    'check @/config.py --device gpu --work-dir @/work': '1 thing is certainly wrong, see above',
    # What reads no config.
    'convert @/nowhere.pth @/y.pth --to mm': r'nowhere\.pth does not exist',
    'convert @/x.pth @/y.pth --to mmm': 'invalid choice',
    'publish @/x.pth': 'the following arguments are required',
    'publish @/x.png @/y.pth': 'damaged or not',
    'config nothing_like_it': 'nothing_like_it',
    'shapes @/shapes --train -3': 'train',
    'shapes @/x.png': r'x\.png',
    'export @/config.py @/x.pth --to torchscript --out @/x.pth --force': 'x.pth is what is read here, and',
    'export @/config.py @/x.pth --to pt2 --out @/config.py --force': 'config.py is what is read here',
    'export @/config.py @/x.pth --to onnx --precision int8 --calibrate @ --out @/x.png --force': 'is what is read',
    'test @/config.py @/x.pth --out @/x.pth': 'x.pth is what is read here',
    'grid @ --out @/x.png': 'x.png is what is read here',
    'grid @/nowhere --out @/y.png': 'nowhere',
    'grid @/x.png --out @/y.txt': r'y\.txt',
    'grid @/x.png --out @/y.png --columns 0': 'columns',
    'new @/nowhere --out @/project': 'nowhere',
    'new @/data --out @/data/project': 'outside|within|in it|inside',
    'new @/data --out @/project --val 2': 'val',
    'new @/data --out @/project --lr 0': 'lr',
    'new @/data --out @/project --method yolo': 'invalid choice',
    'zoo evaluate @/nowhere --coco @/data --out @/zoo': 'nowhere',
    'zoo sizes nothing_like_it': 'nothing_like_it',
    'zoo shapes nothing_like_it': 'nothing_like_it',
    'benchmark --sizes 12 --out @/out': '12',
    'trane @/config.py': "did you mean|invalid choice",
    # The scope stays in this process.
    'train @/config.py --cfg-options default_scope=mmdett': 'is not known to',
}


def prepare(folder):
    """Write what the command lines name: a config that works, checkpoints of it and of another, and a picture."""
    folder = Path(folder)
    text = mmpretrain.folders(folder / 'data')
    (folder / 'config.py').write_text(text)
    (folder / 'syntax.py').write_text(text.replace('model = dict(', 'model = = dict('))
    (folder / 'empty.py').write_text('')
    for name, changes in dict(x={}, another={'model.backbone.embed_dims': 16, 'model.head.in_channels': 128}).items():
        model = build_model(load_config(str(folder / 'config.py'), changes))
        torch.save(dict(state_dict=model.state_dict()), folder / f'{name}.pth')
    cv2.imwrite(str(folder / 'x.png'), np.zeros((40, 40, 3), np.uint8))
    return folder


def outcome(line, folder):
    """Run a command line.

    Returns:
        Its status, and the lines that it ended with: one for a sentence, more for a traceback.
    """
    words = [word.replace('@', str(folder)) for word in line.split()]
    out, before = io.StringIO(), Path.cwd()
    work = Path(folder) / 'here'
    work.mkdir(exist_ok=True)
    os.chdir(work)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            cli.main(words)
    except SystemExit as ended:
        if ended.code is None or ended.code == 0:
            return 0, []
        # What argparse says stands behind the usage.
        told = ended.code if isinstance(ended.code, str) else out.getvalue().strip().splitlines()[-1]
        return 1, str(told).splitlines()
    except BaseException as error:
        return 1, [f'Traceback: {type(error).__name__}: {error}'.splitlines()[0], '(traceback)']
    finally:
        os.chdir(before)
    return 0, []


def fault(line, folder):
    """What is wrong with the end of a command line, and what it told; the first is ``None`` where nothing is."""
    expected = LINES[line]
    status, told = outcome(line, folder)
    text = ' '.join(told)
    if (status == 0) != (expected is None):
        return f'status {status}', text
    if expected is not None and (len(told) != 1 or not re.search(expected, text)):
        return 'a traceback' if '(traceback)' in told else 'another sentence', text
    return None, text


def main():
    warnings.simplefilter('ignore')
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        for line in LINES:
            why, told = fault(line, folder)
            wrong += why is not None
            told = told.replace(folder, '@')
            print(f'| `{line}` | {told or "works"} |{f" **{why}**" if why else ""}', flush=True)
    print(f'{len(LINES)} command lines, {wrong} without a sentence')
    sys.exit(wrong > 0)


if __name__ == '__main__':
    main()
