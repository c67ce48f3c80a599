"""What `pip install focalnet-mm[own]` brings, looked for before anything of it is imported."""

from importlib.util import find_spec

from ...installed import MissingExtraError

for _name in ('PIL', 'defusedxml', 'imagehash', 'pycocotools'):
    if find_spec(_name) is None:
        raise MissingExtraError(
            f"{_name} is not installed: to read one's own data, run pip install 'focalnet-mm[own]'.", name=_name)
