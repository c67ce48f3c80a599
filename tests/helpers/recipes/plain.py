"""Configs as plain dicts, lists and scalars."""

from mmengine.config import Config


def load(path):
    """A resolved config, plain."""
    return plain(Config.fromfile(path)._cfg_dict)


def plain(node):
    """Without what mmengine marks as inherited from another library, nor a library before a type's name."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items() if key != '_scope_'}
    if isinstance(node, (list, tuple)):
        return [plain(value) for value in node]
    if isinstance(node, str):
        for library in ('mmdet.', 'mmseg.', 'mmpretrain.'):
            node = node.removeprefix(library)
        return node
    if node is None or isinstance(node, (bool, int, float)):
        return node
    return getattr(node, '__name__', str(node))


def leaves(node, path=()):
    """Pairs of path and value for each scalar and each empty dict or list in a tree."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not items:
        yield path, node
    for key, value in items:
        yield from leaves(value, (*path, key))


def flat(node, path=''):
    """Dotted path → value; a list without dicts is a value, and so is an empty dict."""
    if isinstance(node, dict) and node:
        items = node.items()
    elif isinstance(node, list) and _holds_dicts(node):
        items = enumerate(node)
    else:
        return {path: node}
    found = {}
    for key, value in items:
        found.update(flat(value, f'{path}.{key}' if path else str(key)))
    return found


def _holds_dicts(node):
    return any(isinstance(value, dict) or (isinstance(value, list) and _holds_dicts(value)) for value in node)
