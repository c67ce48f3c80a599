"""Measurements as a table and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .agreement import Agreement
from .models import OURS

__all__ = ['agreement_table', 'draw', 'summary']


def summary(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table, each beside the best peer of its group."""
    lines = ['| model | step | size | dtype | mode | ms | spread | images/s | peak GB | speed / best peer | '
             'memory / best peer | time / floor |', '| --- ' * 12 + '|']
    for row in rows:
        peers = [other for other in rows if group(other) == group(row) and other['model'] not in OURS
                 and 'FocalNet' in other['kind']]
        speed = memory = ''
        above = f'{row["seconds"] / row["floor"]:.1f}' if row['floor'] else ''
        if peers:
            speed = f'{min(peer["seconds"] for peer in peers) / row["seconds"]:.2f}'
            memory = f'{row["peak"] / min(peer["peak"] for peer in peers):.2f}'
        lines.append(
            f'| {row["model"]} | {row["step"]} | {row["size"]} | {row["dtype"]} | {row["mode"]} | '
            f'{row["seconds"] * 1e3:.0f} | ±{row["spread"]:.0%} | {row["batch"] / row["seconds"]:.1f} | '
            f'{row["peak"] / 1e9:.2f} | {speed} | {memory} | {above} |')
    return '\n'.join(lines) + '\n'


def agreement_table(rows: Sequence[Agreement]) -> str:
    """What was compared with the reference in float64, as a Markdown table."""
    lines = ['| compared with float64 | largest error / allowed |', '|---|---|']
    lines += [f'| {row.name} | {f"not compared: {row.reason}" if row.reason else f"{row.share:.2f}"} |' for row in rows]
    return '\n'.join(lines) + '\n'


def group(row: dict[str, Any]) -> tuple[str, ...]:
    """Rows that are compared: a peer is measured once, eager or compiled."""
    mode = 'eager' if row['mode'] == 'with_cp' else row['mode']
    return row['step'], row['size'], row['dtype'], mode


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib
    matplotlib.use('agg')
    import matplotlib.pyplot as plt
    groups = list(dict.fromkeys(group(row) for row in rows))
    figure, axes = plt.subplots(2, len(groups), figsize=(4 * len(groups), 6), squeeze=False, layout='constrained')
    for column, key in enumerate(groups):
        members = [row for row in rows if group(row) == key]
        names = [row['model'] + (' with_cp' if row['mode'] == 'with_cp' else '') for row in members]
        colours = ['tab:orange' if row['model'] in OURS else 'tab:gray' for row in members]
        for axis, values, label in ((axes[0][column], [row['seconds'] * 1e3 for row in members], 'time (ms)'),
                                    (axes[1][column], [row['peak'] / 1e9 for row in members], 'peak memory (GB)')):
            axis.barh(names, values, color=colours)
            axis.invert_yaxis()
            axis.set_xlabel(label)
            if column:
                axis.set_yticklabels([])
        axes[0][column].set_title(f'{key[0]}, {key[1]}\n{key[2]}, {key[3]}', fontsize=10)
    figure.savefig(path, dpi=100)
