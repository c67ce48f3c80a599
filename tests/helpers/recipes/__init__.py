"""Our configs and the authors' recipes in one form: dotted field → plain value.

tests/data/recipes/README.md says what the fields mean.
"""

from .groups import groups, of_rule
from .listed import COUNTERPARTS, LIBRARIES_OWN, WITHOUT, counterpart, read_recipes
from .models import backbone_fields, model_fields
from .plain import flat, leaves, load, plain
from .rest import decided, rest
from .training import training_fields

__all__ = ['COUNTERPARTS', 'LIBRARIES_OWN', 'WITHOUT', 'counterpart', 'decided', 'differences', 'fields', 'groups',
           'leaves', 'load', 'of_rule', 'plain', 'read_recipes', 'rest', 'unexplained']


def fields(cfg):
    """Everything that a resolved config settles of what recipes state.

    Args:
        cfg (dict): A config as :func:`load` gives it.

    Returns:
        dict: Field → value.
    """
    return flat({**backbone_fields(cfg), **model_fields(cfg), **training_fields(cfg)})


def differences(name, cfg, recipe):
    """Where a config differs from its recipe, and, where that states nothing, from the library's own.

    Args:
        name (str): Name of the config, below configs/.
        cfg (dict): The config as :func:`load` gives it.
        recipe (dict): Field → value.

    Returns:
        dict: Field → (published value, value of ours); ``'absent'`` where one lacks it.
    """
    ours, theirs = fields(cfg), {field: value for field, value in recipe.items() if not field.startswith('no_decay')}
    found = {field: (theirs.get(field, 'absent'), ours.get(field, 'absent')) for field in sorted({*ours, *theirs})
             if theirs.get(field, 'absent') != ours.get(field, 'absent')}
    return {**found, **rest(name, cfg)}


def unexplained(name, found, deviations):
    """Differences that are no listed deviation, and listed deviations that are no difference.

    Args:
        name (str): Name of the config.
        found (dict): What :func:`differences` found.
        deviations (list): All deviations.

    Returns:
        dict: Field → (what was found, what is listed), ``None`` where it is not.
    """
    listed = {}
    for one in deviations:
        if one.holds_for(name):
            assert not set(listed) & set(one.fields), f'{name}: listed twice'
            listed.update(one.fields)
    return {field: (found.get(field), listed.get(field)) for field in sorted({*found, *listed})
            if found.get(field) != listed.get(field)}
