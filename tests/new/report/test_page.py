"""report.html: read by a parser and by a real browser."""

from html.parser import HTMLParser

import numpy as np
import pytest

from focalnet_mm.data.own.records import Problem
from focalnet_mm.new.report import Checked, Finding, View, write_report
from tests.helpers.own import data, picture

NAMES = ['<!--<script>', '</script><b>x</b>', 'a"b\'c&amp;', '{{data}}{% raw %}{# x #}', 'größe, 漢字', 'line\u2028end',
         '$\\frac$ `${1}`']
LEVELS = ('passed', 'note', 'warning', 'error')


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """A page whose every text is strange."""
    root = tmp_path_factory.mktemp('&<title>')
    pictures = [picture(root / f'{i} {name.replace("/", "_")}.png', 100, 150, *(
        (label, (10, 10, 60, 70)) for label in range(i + 1)), split='val' if i % 2 else 'train')
        for i, name in enumerate(NAMES)]
    found = data(root, NAMES, pictures, 'boxes', problems=[
        Problem('outside', name, root / name.replace('/', '_')) for name in NAMES])
    losses = [3.0, 2.5, float('nan'), 1.5, 1.0]
    checked = Checked(f'{NAMES[1]}/config.py', [Finding(level, name) for level, name in zip(LEVELS, NAMES)], losses,
                      [View(np.full((40, 60, 3), 9, np.uint8), name) for name in NAMES])
    return write_report(found, tmp_path_factory.mktemp('out'), checked=checked)


def test_texts_are_texts(page):
    tags, texts = [], []

    class Reader(HTMLParser):

        def handle_starttag(self, tag, attributes):
            tags.append(tag)

        def handle_data(self, text):
            texts.append(text)

        def handle_comment(self, text):
            raise AssertionError(text)

    Reader().feed(page.read_text(encoding='utf-8'))
    # Of findings and numbers alone.
    assert tags.count('script') == 1
    assert tags.count('title') == 1
    for name in NAMES:
        assert any(name in text for text in texts), name


def test_in_a_browser(page, page_of):
    with page_of(page, viewport=dict(width=1200, height=900)) as (shown, errors):
        names = [name.strip() for name in shown.locator('#table tbody tr td:first-child').all_text_contents()]
        assert names == NAMES
        # In the order of how bad they are.
        assert shown.locator('.findings b').all_text_contents() == list(LEVELS[::-1])
        assert shown.locator('.findings span').all_text_contents() == NAMES[3::-1]
        assert shown.locator('#problems li').all_text_contents() == NAMES
        assert len(shown.locator('polyline').all()) == 2

        shown.locator('#find').fill('GRÖSSE'.replace('SS', 'ß'))
        assert [row.is_visible() for row in shown.locator('#table tbody tr').all()] == [
            name == NAMES[4] for name in NAMES]
        shown.locator('#find').fill('')
        shown.locator('#order').select_option('fewest')
        assert [name.strip() for name in shown.locator('#table tbody tr td:first-child').all_text_contents()
                ] == NAMES[::-1]
        # Lazy pictures are loaded where they are scrolled to.
        for image in shown.locator('img').all():
            image.scroll_into_view_if_needed()
        shown.wait_for_function('[...document.images].every(image => image.complete && image.naturalWidth > 0)')
        assert errors == []


def test_on_a_phone_in_the_dark(page, page_of):
    with page_of(page, viewport=dict(width=360, height=700), color_scheme='dark') as (shown, errors):
        assert shown.evaluate('document.documentElement.scrollWidth') <= 360
        colours = shown.evaluate("(style => [style.backgroundColor, style.color])(getComputedStyle(document.body))")
        page_is, text_is = ([int(part) for part in colour[4:-1].split(',')] for colour in colours)
        assert max(page_is) < 60
        assert min(text_is) > 180
        assert errors == []
