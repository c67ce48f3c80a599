"""What a checkpoint must hold beside mmengine's own state, so that a resumed run equals one without a break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.hooks import EarlyStoppingHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from .attributes import changed_attributes
from .build import unwrap
from .randomness import random_states, seed_everything, set_random_states

__all__ = ['collect_state', 'restore_gradients', 'restore_random', 'restore_stopping', 'set_sampler_seed']


def collect_state(runner: Runner, run: str, over: int, validated: bool, states: Mapping[str, Any] | None = None,
                  metrics: Mapping[str, Any] | None = None, attributes: Mapping[str, Any] | None = None,
                  ) -> dict[str, Any]:
    """The state of a run. All processes take part.

    Args:
        runner: The runner.
        run: The name of the run.
        over: How many batches of the epoch are over, 0 at its end; of a run by iterations, how many in all.
        validated: Whether the validation that is due here is over.
        states: The random states to note, by default those of now.
        metrics: Those of the validation that is over, which hooks that end a training look at last.
        attributes: Those of the model before the training, as :func:`~.attributes.plain_attributes` gives them.

    Returns:
        Plain values and tensors: the random states of each process, the seed of the sampler, the gradients that await
        the next update, what hooks that end a training have seen, and what the model has changed beside its tensors.
    """
    scores = {name: float(value) for name, value in (metrics or {}).items() if isinstance(value, (
        int, float, np.number)) or (isinstance(value, torch.Tensor) and value.numel() == 1)}
    return dict(run=run, over=over, validated=validated, random=all_gather_object(dict(states or random_states())),
                sampler_seed=getattr(_sampler(runner), 'seed', None), gradients=_gradients(runner),
                stopping=[(hook.wait_count, float(hook.best_score)) for hook in _stopping(runner)],
                metrics=scores if validated else {}, attributes=changed_attributes(
                    unwrap(runner.model), attributes) if attributes is not None else {})


def restore_random(runner: Runner, state: Mapping[str, Any]) -> None:
    """Restore the random states of this process."""
    states = state.get('random') or []
    if runner.rank < len(states):
        set_random_states(states[runner.rank])
    else:
        seed_everything(runner.seed, runner.rank, runner.iter)
    if len(states) != runner.world_size:
        runner.logger.warning(f'The checkpoint holds the random states of {len(states)} processes, and there are '
                              f'{runner.world_size}: the run goes on with other random numbers.')


def restore_gradients(runner: Runner, state: Mapping[str, Any]) -> None:
    """Restore the gradients of the steps since the last update of the parameters."""
    gradients = state.get('gradients') or {}
    for name, parameter in unwrap(runner.model).named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device, copy=True)
    if gradients:
        runner.logger.info('The gradients of the steps since the last update are restored.')


def restore_stopping(runner: Runner, state: Mapping[str, Any]) -> None:
    """Let hooks that end a training go on with what they had seen, the last validation included."""
    hooks, seen = _stopping(runner), state.get('stopping') or []
    if len(hooks) != len(seen):
        return
    for hook, (count, score) in zip(hooks, seen):
        hook.wait_count, hook.best_score = count, score
        if state.get('metrics'):
            hook.after_val_epoch(runner, state['metrics'])


def set_sampler_seed(runner: Runner, state: Mapping[str, Any]) -> None:
    """Let the sampler go through the data in the order in which it did, where the config sets no seed."""
    sampler, seed = _sampler(runner), state.get('sampler_seed')
    if seed is not None and hasattr(sampler, 'seed'):
        sampler.seed = seed


def _stopping(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def _sampler(runner: Runner) -> Any:
    loader = runner.train_dataloader
    inner = getattr(getattr(loader, 'batch_sampler', None), 'sampler', None)
    return inner if inner is not None else getattr(loader, 'sampler', None)


def _gradients(runner: Runner) -> dict[str, torch.Tensor]:
    wrapper = runner.optim_wrapper
    wrappers = list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    # DeepSpeed counts by itself.
    if all(each._inner_count % each._accumulative_counts == 0 for each in wrappers if isinstance(each, OptimWrapper)):
        return {}
    found = {name: parameter.grad.detach().clone() for name, parameter in unwrap(runner.model).named_parameters()
             if parameter.grad is not None}
    if get_world_size() > 1:
        if not isinstance(runner.model, DistributedDataParallel):
            # Where each process has a part of the parameters, there is no mean.
            runner.logger.warning('The gradients that await their update are in parts, which are not saved: a resumed '
                                  'run goes on without those of the last steps.')
            return {}
        # Their mean is what the update will be made of. One process may lack what another has.
        somewhere = set[str]().union(*all_gather_object(list(found)))
        found = {name: found.get(name, torch.zeros_like(parameter))
                 for name, parameter in unwrap(runner.model).named_parameters() if name in somewhere}
        for gradient in found.values():
            all_reduce(gradient, 'mean')
    return {name: gradient.cpu() for name, gradient in found.items()}
