"""Configs with one value changed, each of which the comparison with the recipes must notice."""

import copy

from tests.helpers.tools import ROOT

from . import differences, groups, leaves, of_rule, unexplained
from .rest import READ

# What only the parameters of a model tell.
_OF_GROUPS = (('optim_wrapper', 'paramwise_cfg'), ('optim_wrapper', 'constructor'))


def values(cfg):
    """Paths of all values of a config that mmengine's runner or the evaluation reads."""
    keys = (*READ, 'val_dataloader', 'val_evaluator')
    return [path for path, _ in leaves({key: cfg[key] for key in keys if key in cfg})
            # The model's own wins.
            if not (path[0] == 'data_preprocessor' and 'data_preprocessor' in cfg['model'])]


def changed(cfg, path):
    """A copy of a config with another value at a path."""
    cfg = copy.deepcopy(cfg)
    *owners, key = path
    node = cfg
    for owner in owners:
        node = node[owner]
    node[key] = another(node[key])
    return cfg


def additions(cfg):
    """What is a key more in each dict, and in each list of dicts its first or last one once more.

    Args:
        cfg (dict): A config as ``load`` gives it.

    Yields:
        tuple: Where, and a copy of the config with it.
    """
    keys = (*READ, 'val_dataloader', 'val_evaluator')
    for path, node in _nodes({key: cfg[key] for key in keys if key in cfg}):
        if path[:2] in _OF_GROUPS or (path[0] == 'data_preprocessor' and 'data_preprocessor' in cfg['model']):
            continue
        if isinstance(node, dict):
            yield path, _with(cfg, path, {**node, 'one_more': 1})
        elif all(isinstance(value, dict) for value in node):
            for value in node[:1] + node[-1:]:
                yield path, _with(cfg, path, [*node, value])


def _nodes(node, path=()):
    if isinstance(node, (dict, list)) and node:
        if path:
            yield path, node
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _nodes(value, (*path, key))


def _with(cfg, path, value):
    key, *rest = path
    whole = cfg.copy()
    whole[key] = _with(cfg[key], rest, value) if rest else value
    return whole


def another(value):
    """A value of the same type that differs."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.25 + 0.01
    if isinstance(value, str):
        return f'{value}_'
    return {dict: dict(another=1), list: [1]}.get(type(value), 1)


def survivors(name, cfg, recipe, deviations, with_groups=True):
    """Changes that nothing notices.

    Args:
        name (str): Name of a config, below configs/.
        cfg (dict): The config as ``load`` gives it.
        recipe (dict): Field → value.
        deviations (list): All deviations.
        with_groups (bool): Whether to build a model for each change of what settles the parameters' groups.

    Returns:
        tuple: The number of values that were changed, and the paths of those whose change went unnoticed.
    """
    found, paths = [], values(cfg)
    for path in paths:
        noticed = is_noticed(name, changed(cfg, path), recipe, deviations)
        if not noticed and path[:2] in _OF_GROUPS:
            noticed = not with_groups or _groups_differ(name, path, recipe)
        if not noticed:
            found.append('.'.join(map(str, path)))
    return len(paths), found


def is_noticed(name, cfg, recipe, deviations):
    """Whether a config differs from its recipe in what no deviation lists, or cannot be read at all."""
    try:
        return bool(unexplained(name, differences(name, cfg, recipe), deviations))
    except Exception:
        # Nothing that can be built or read.
        return True


def _groups_differ(name, path, recipe):
    def change(cfg):
        node = cfg
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = another(node[path[-1]])
    try:
        model, found = groups(ROOT / 'configs' / f'{name}.py', change)
    except Exception:
        return True
    return found != of_rule(model, recipe)
