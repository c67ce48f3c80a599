"""Folders that DeepSpeed saved a training run to."""

from __future__ import annotations

from pathlib import Path

__all__ = ['find_states']


def find_states(folder: Path) -> Path | None:
    """The file of the model's tensors in a checkpoint of DeepSpeed.

    Args:
        folder: That of a run, whose file ``latest`` names the last checkpoint in it, or that of a checkpoint.

    Returns:
        Path of ``mp_rank_00_model_states.pt``, or ``None`` where the folder is no such checkpoint.

    Raises:
        FileNotFoundError: The file ``latest`` names a checkpoint that is not there.
        ValueError: The tensors are in parts, one a process.
    """
    latest = folder / 'latest'
    if latest.is_file():
        tag = latest.read_text(errors='replace').strip()
        if not tag or tag != Path(tag).name or not (folder / tag).is_dir():
            raise FileNotFoundError(f'The file {latest} names {tag[:100]!r}, which is no folder beside it: give the '
                                    'folder of a checkpoint.')
        folder /= tag
    whole = sorted(folder.glob('mp_rank_*_model_states.pt'))
    parts = sorted(folder.glob('zero_pp_rank_*_model_states.pt'))
    if len(whole) > 1 or (parts and not whole):
        raise ValueError(f'The DeepSpeed checkpoint {folder} has the tensors in parts, one a process '
                         f'({(whole or parts)[0].name}, …): join them with the script zero_to_fp32.py that DeepSpeed '
                         'puts beside them, and give the file that it writes.')
    return whole[0] if whole else None
