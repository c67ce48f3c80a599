"""Print how far the configs are the published recipes: ``python -m tests.helpers.recipes [fields] [groups] [changes]``.

``fields`` counts values, ``groups`` compares the groups of parameters, and ``changes`` changes every value of every
config, by itself, and counts what the comparison notices; it takes some minutes.
"""

import sys

from mmengine.config import Config

from focalnet_mm.zoo.recipes import read_deviations
from tests.helpers.tools import ROOT

from . import counterpart, differences, fields, groups, load, of_rule, read_recipes, unexplained
from .mutation import survivors


def main(tables):
    recipes, deviations = read_recipes(), read_deviations(ROOT)
    names = sorted(str(path.relative_to(ROOT / 'configs'))[:-3] for path in (ROOT / 'configs').glob('*/*.py'))
    names = [name for name in names if counterpart(name)]
    if 'fields' in tables:
        print_fields(names, recipes, deviations)
    if 'groups' in tables:
        print_groups(names, recipes)
    if 'changes' in tables:
        print_changes(names, recipes, deviations)


def print_fields(names, recipes, deviations):
    print('| config | recipe | equal of compared | of the library, differing | not listed |\n|---|---|---|---|---|')
    total = [0, 0]
    for name in names:
        cfg, entry = load(ROOT / 'configs' / f'{name}.py'), counterpart(name)
        found = differences(name, cfg, recipes[entry])
        compared = {*fields(cfg), *(field for field in recipes[entry] if not field.startswith('no_decay'))}
        differing = len(compared & set(found))
        total = [total[0] + len(compared) - differing, total[1] + len(compared)]
        print(f'| {name} | {entry} | {len(compared) - differing} of {len(compared)} | {len(found) - differing} | '
              f'{len(unexplained(name, found, deviations))} |')
    print(f'| all {len(names)} | | {total[0]} of {total[1]} | | |')


def print_groups(names, recipes):
    print('| config | parameters | of other rate or decay |\n|---|---|---|')
    for name in names:
        path, recipe = ROOT / 'configs' / f'{name}.py', recipes[counterpart(name)]
        model, found = groups(path)
        lr = recipe['optimizer.lr'] or Config.fromfile(path).optim_wrapper.optimizer.lr
        expected = of_rule(model, {**recipe, 'optimizer.lr': lr})
        other = [one for one, settings in expected.items()
                 if any(abs(a - b) > 1e-12 for a, b in zip(settings, found[one]))]
        print(f'| {name} | {len(found)} | {len(other)} |', flush=True)


def print_changes(names, recipes, deviations):
    print('| config | values changed | noticed | not noticed |\n|---|---|---|---|')
    total = [0, 0]
    for name in names:
        cfg = load(ROOT / 'configs' / f'{name}.py')
        count, unnoticed = survivors(name, cfg, recipes[counterpart(name)], deviations)
        total = [total[0] + count, total[1] + len(unnoticed)]
        print(f'| {name} | {count} | {count - len(unnoticed)} | {", ".join(unnoticed)} |', flush=True)
    print(f'| all {len(names)} | {total[0]} | {total[0] - total[1]} | |')


if __name__ == '__main__':
    main(sys.argv[1:] or ['fields'])
