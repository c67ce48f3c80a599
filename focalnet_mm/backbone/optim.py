"""Learning rates by depth: layer-wise decay and slow backbones, for every library."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from .parts import named_parts, plain_name

__all__ = ['FocalNetOptimWrapperConstructor']

_OURS = ('layer_decay_rate', 'backbone_lr_mult')
_MMENGINES = ('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult',
              'dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate')
# Keys of the constructors of mmdet and mmseg for other backbones.
_ELSEWHERE = {
    'decay_rate': 'it is called layer_decay_rate here',
    'num_layers': 'leave it out, the backbone tells its depth itself',
    'decay_type': 'leave it out, the decay is layer-wise; norm_decay_mult, bias_decay_mult or flat_decay_mult say what '
                  'has no weight decay',
}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FocalNetOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning-rate decay and slow backbones, in mmdet, mmseg and mmpretrain alike.

    ``optim_wrapper = dict(constructor='FocalNetOptimWrapperConstructor', paramwise_cfg=dict(...))`` in a config. All
    that mmengine's default constructor takes holds here too: ``custom_keys``, ``norm_decay_mult``,
    ``bias_decay_mult``, ``flat_decay_mult``, ``dwconv_decay_mult``, ``bypass_duplicate`` and so on. Two more keys are
    multiplied with the learning rates that those lead to:

    - ``layer_decay_rate`` (float): A parameter of a backbone gets the rate to the power of its distance from the top,
      as ``get_layer_depth`` of the backbone tells it. The output norms and all that is outside of backbones keep
      theirs. Defaults to 1.
    - ``backbone_lr_mult`` (float): For all parameters of backbones, the output norms among them. Defaults to 1.

    Backbones are FocalNets and all others that have mmpretrain's ``get_layer_depth(param_name, prefix)``, each with a
    depth of its own. Unlike in mmpretrain's constructor, ``lr_mult`` of ``custom_keys`` holds.

    It is built as mmengine's is: of ``optim_wrapper_cfg`` (dict), the settings of the optimizer wrapper, and
    ``paramwise_cfg`` (dict, optional), those above.

    Raises:
        ValueError: A key of ``paramwise_cfg`` is unknown, a value is out of range, the optimizer has no ``lr``, or,
            when it is called, the model has no backbone that tells depths, or FSDP has flattened its parameters.
    """

    def _validate_cfg(self) -> None:
        super()._validate_cfg()
        name = type(self).__name__
        for key in self.paramwise_cfg:
            if key not in (*_OURS, *_MMENGINES):
                nearest = difflib.get_close_matches(key, (*_OURS, *_MMENGINES), 1, 0.5)
                advice = _ELSEWHERE.get(key) or (f'{nearest[0]} is the nearest' if nearest
                                                 else f'there are {", ".join((*_OURS, *_MMENGINES))}')
                raise ValueError(f'paramwise_cfg.{key} is unknown to {name}: {advice}.')
        for key, least in (('layer_decay_rate', 'more than 0'), ('backbone_lr_mult', '0 or more')):
            value = self.paramwise_cfg.get(key, 1)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not (
                    value > 0 or (value == 0 and key == 'backbone_lr_mult')):
                raise ValueError(f'paramwise_cfg.{key} must be a number, {least}, got {value!r}.')
        if self.base_lr is None and any(key in self.paramwise_cfg for key in _OURS):
            raise ValueError(f'{name} multiplies the learning rate of the optimizer: give optimizer.lr.')

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '',
                   is_dcn_module: Any = None) -> None:
        """Add the parameters of a module, a group for each.

        Args:
            params: The groups, changed in place.
            module: The module.
            prefix: Its name, empty for the whole model.
            is_dcn_module: As mmengine's constructor hands it down.
        """
        super().add_params(params, module, plain_name(prefix), is_dcn_module)
        if not prefix:
            names = {parameter: plain_name(name) for name, parameter in module.named_parameters()}
            self._tell_idle_keys(names.values())
            if any(key in self.paramwise_cfg for key in _OURS):
                self._multiply(params, module, names)

    def _multiply(self, params: list[dict[str, Any]], model: nn.Module, names: dict[nn.Parameter, str]) -> None:
        """Multiply the learning rates of backbones."""
        if any(name.rpartition('.')[2] == '_flat_param' for name in names.values()):
            raise ValueError('FSDP has flattened parameters of different depths into one: wrap the model with '
                             'use_orig_params=True.')
        backbones = list(_backbones(model))
        if not backbones:
            raise ValueError(f'{type(self).__name__} needs a backbone that tells the depth of its parameters, but the '
                             f'{type(model).__name__} has no FocalNet, and no other one with get_layer_depth.')
        decay = self.paramwise_cfg.get('layer_decay_rate', 1)
        multiplier = self.paramwise_cfg.get('backbone_lr_mult', 1)
        for path, depth_of in backbones:
            prefix = f'{path}.' if path else ''
            scales = []
            for group in params:
                name = names[group['params'][0]]
                if name.startswith(prefix):
                    depth, depths = depth_of(name, prefix)
                    scales.append(multiplier * decay**(depths - depth - 1))
                    group['lr'] = group.get('lr', self.base_lr) * scales[-1]
            if scales and decay != 1:
                print_log(f'The learning rates of {path or "the model"} are multiplied by {min(scales):.3g} to '
                          f'{max(scales):.3g}, by depth.', logger='current')
            elif multiplier != 1:
                print_log(f'The learning rates of {path or "the model"} are multiplied by {multiplier:.3g}.',
                          logger='current')

    def _tell_idle_keys(self, names: Iterable[str]) -> None:
        # mmengine searches '.name' for a parameter of the model itself.
        names = [name if '.' in name else f'.{name}' for name in names]
        for key in self.paramwise_cfg.get('custom_keys', {}):
            if not any(key in name for name in names):
                print_log(f"paramwise_cfg.custom_keys: {key!r} is in no parameter's name and changes nothing.",
                          logger='current')


def _backbones(model: nn.Module) -> Iterator[tuple[str, Callable[[str, str], tuple[int, int]]]]:
    """The modules that tell depths, by their plain names; a whole model that asks its backbone takes no prefix."""
    found: list[str] = []
    for name, module in named_parts(model):
        depth_of = getattr(module, 'get_layer_depth', None)
        inside = any(not outer or f'{name}.'.startswith(f'{outer}.') for outer in found)
        if depth_of is not None and not inside and 'prefix' in inspect.signature(depth_of).parameters:
            found.append(name)
            yield name, depth_of
