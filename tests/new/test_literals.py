"""Values as text: Python reads them back."""

import random

import pytest

from focalnet_mm.new.literals import Code, assignment, literal

NAMES = ('ship', "it's", 'a "b"', 'größe', 'a, b', 'line\nbreak', '{{ x }}', '船', '')


def value(rng, depth=3):
    """Any value that a config holds."""
    kind = rng.randrange(8 if depth else 5)
    if kind < 5:
        return (rng.randrange(-99, 10**6), rng.random(), rng.choice(NAMES), None, rng.random() < 0.5)[kind]
    parts = [value(rng, depth - 1) for _ in range(rng.randrange(9))]
    if kind == 5:
        return parts
    if kind == 6:
        return tuple(parts)
    return {rng.choice(('type', 'scale', '_delete_', 'a-b', *NAMES)): part for part in parts}


@pytest.mark.parametrize('seed', range(40))
def test_python_reads_it_back(seed):
    rng = random.Random(seed)
    expected = [value(rng) for _ in range(30)]
    for each in expected:
        assert eval(literal(each)) == each
        names = {}
        exec(assignment('name', each, 'a reason'), names)
        assert names['name'] == each


def test_lines_are_short():
    text = assignment('model', dict(head=dict(classes=tuple(range(500)), colours=[(i, i, i) for i in range(200)]),
                                    stages=[dict(type='Shared4Conv1FCBBoxHead', number=i) for i in range(20)]))
    assert max(map(len, text.splitlines())) <= 120
    # Short values share lines.
    assert len(text.splitlines()) < 100


def test_code_stands_as_it_is():
    assert assignment('a', dict(b=Code('c + 1'))) == 'a = dict(b=c + 1)'


def test_a_long_reason_stands_above():
    why = 'reason ' * 14
    assert assignment('name', 'x' * 30, why.strip()).splitlines()[0] == f'# {why.strip().capitalize()}.'
