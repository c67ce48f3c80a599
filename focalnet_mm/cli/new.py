"""Write a config that trains on a folder of your own pictures, with annotations, a split and a report beside it.

DATA holds pictures and annotations in any of the usual forms; they stay as they are. Each value of the config has its
reason beside it. Without --method one is proposed for what the annotations hold.
"""

import argparse

from ..data.own import FORMATS, TASKS, UNLABELLED, fixable
from ..new.methods import METHODS
from ..new.project import Options, write_project
from .options import add_force, in_one_sentence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('data', metavar='DATA', help='folder of pictures and annotations')
    parser.add_argument('--out', metavar='DIR', required=True, help='folder of the project, outside DATA')
    parser.add_argument('--method', choices=METHODS, help='what to train; proposed where left out')
    parser.add_argument('--arch', help='its size, such as t, s, b, l or b-srf, as far as a config of it is shipped')
    parser.add_argument('--task', choices=TASKS, help='what to learn; by default all that data and METHOD have')
    parser.add_argument('--format', choices=FORMATS, help='form of the annotations; found out where left out')
    parser.add_argument('--unlabelled', choices=UNLABELLED, default=UNLABELLED[0],
                        help='pixels that no polygon covers, where a class for each pixel is learned from polygons: a '
                        'class of their own, or passed over (default: %(default)s)')
    parser.add_argument('--base', metavar='CONFIG',
                        help='a config of mmdet, mmseg or mmpretrain in place of METHOD and ARCH: its model, sizes, '
                        'augmentation and schedule are kept')
    parser.add_argument('--weights', metavar='SOURCE',
                        help='checkpoint to start from: path, URL, hf://owner/name, or "none"; by default the best '
                        'public one')
    parser.add_argument('--batch-size', type=_positive(int), metavar='N',
                        help='pictures a GPU and step; by default what fits')
    parser.add_argument('--lr', type=_positive(float),
                        help="learning rate; by default the recipe's, scaled to the batch")
    parser.add_argument('--val', type=float, default=0.2, metavar='SHARE',
                        help='of the pictures to validate on, where the data has no split (default: %(default)s)')
    parser.add_argument('--test', type=float, default=0.0, metavar='SHARE',
                        help='of the pictures to test on, the same (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the split and the training (default: %(default)s)')
    parser.add_argument('--fix', metavar='KINDS', type=_words, default=(),
                        help='kinds of problems to leave out or mend, with commas between them, or "all": '
                        + ', '.join(fixable(['all'])))
    add_force(parser, 'write a project anew, by its split.csv; edited files are never replaced')


def main(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    options = Options(method=args.method, arch=args.arch, task=args.task, format=args.format, base=args.base,
                      weights=args.weights, batch=args.batch_size, rate=args.lr, val=args.val, test=args.test,
                      seed=args.seed, unlabelled=args.unlabelled, fix=args.fix, force=args.force)
    with in_one_sentence(parser):
        made = write_project(args.data, args.out, options)
    choice, counts = made.choice, ' + '.join(f'{count} {split}' for split, count in made.pictures.items())
    print(f'{made.config}: {f"{choice.method} {choice.arch}".strip()} for {len(made.data.classes)} classes, '
          f'{counts} pictures')
    print(f'{made.report}: {_found(made.data.problems)}')
    print(f'Train it: focalnet-mm train {made.config}')


def _found(problems: list) -> str:
    if not problems:
        return 'nothing suspicious'
    by_kind: dict[str, int] = {}
    for problem in problems:
        by_kind[problem.kind] = by_kind.get(problem.kind, 0) + 1
    return 'suspicious: ' + ', '.join(f'{kind} ({count})' for kind, count in by_kind.items())


def _positive(kind: type) -> type:
    def read(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f'{text}: expected a number above 0')
        return value
    read.__name__ = kind.__name__
    return read  # type: ignore[return-value]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(',') if word.strip())
