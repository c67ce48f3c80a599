"""What stands for the configs of other libraries in a checkpoint: plain dicts and lists of what they hold.

The libraries themselves are not needed, and none of their code runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ['CONFIGS', 'OmegaNode']


class _DictNode:
    """Stands for configs that are dicts with attributes (yacs and those made of it, addict, EasyDict)."""

    def __new__(cls, *_: Any) -> OrderedDict:  # type: ignore[misc]
        # PyTorch's reader fills dicts of no other kind that may have attributes too.
        return OrderedDict()


class OmegaNode:
    """Stands for a node of OmegaConf, of which the content is kept.

    Attributes:
        content: Other nodes in a dict or list, or a plain value; a missing value or a reference is the text that stands
            for it.
    """

    def __init__(self, *_: Any) -> None:
        self.content: Any = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What is left out leads to the parent and back.
        self.content = state.get('_content', state.get('_val'))


class _Nothing:
    """Stands for what OmegaConf notes of a node beside its content."""

    def __setstate__(self, state: Any) -> None:
        pass


_DICTS = ('yacs.config.CfgNode', 'fvcore.common.config.CfgNode', 'detectron2.config.config.CfgNode',
          'addict.addict.Dict', 'easydict.EasyDict')
_NODES = ('Any', 'String', 'Integer', 'Float', 'Boolean', 'Bytes', 'Path', 'Enum')
#: Full name → what stands for it.
CONFIGS: dict[str, Callable] = {
    **dict.fromkeys(_DICTS, _DictNode),
    **{f'omegaconf.{name}': OmegaNode for name in ('dictconfig.DictConfig', 'listconfig.ListConfig',
                                                   'nodes.UnionNode', *(f'nodes.{kind}Node' for kind in _NODES))},
    'omegaconf.base.UnionNode': OmegaNode,
    'omegaconf.base.ContainerMetadata': _Nothing,
    'omegaconf.base.Metadata': _Nothing,
}
