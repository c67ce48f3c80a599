"""The site as it is built: strictly, and seen in a headless Chromium as it opens from disk."""

import re
import subprocess
import sys
import urllib.parse

import pytest

from tests.helpers.tools import ROOT

SIZES = {'desk': dict(width=1280, height=900), 'phone': dict(width=390, height=844)}


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('mkdocs', reason='mkdocs is not installed')
    folder = tmp_path_factory.mktemp('site')
    done = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', folder], cwd=ROOT,
                          text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_public_names_are_in_the_api(site):
    import focalnet_mm
    import focalnet_mm.deploy
    import focalnet_mm.explain
    import focalnet_mm.weights
    text = (site / 'api.html').read_text()
    for module in (focalnet_mm, focalnet_mm.weights, focalnet_mm.explain, focalnet_mm.deploy):
        for name in module.__all__:
            assert name.startswith('__') or re.search(rf'\b{name}\b', text), name


@pytest.mark.browser
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', ['index', 'zoo', 'speed', 'api', 'contributing/house'])
def test_pages_in_a_browser(site, page_of, name, size):
    """No error, nothing from elsewhere, and no page that is wider than the screen."""
    with page_of(site / f'{name}.html', viewport=SIZES[size]) as (page, errors):
        page.wait_for_selector('article h1')
        assert page.evaluate('document.documentElement.scrollWidth') <= SIZES[size]['width']
        assert page.evaluate('[...document.images].every(image => image.complete && image.naturalWidth > 0)')
        assert not errors


@pytest.mark.browser
def test_search(site, page_of):
    with page_of(site / 'index.html', viewport=SIZES['desk']) as (page, errors):
        page.click('.md-search__input')
        page.keyboard.type('Mask2Former', delay=30)
        page.wait_for_selector('.md-search-result__link')
        titles = page.locator('.md-search-result__link').all_inner_texts()
        assert any('Mask2Former' in title for title in titles)
        page.locator('.md-search-result__link').first.click()
        page.wait_for_load_state()
        assert 'Mask2Former' in page.inner_text('article')
        assert not errors


LINKED = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md',
          *sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').glob('*/*.md'))]


def anchors(text):
    """Those that a Markdown page gets on the hosts of repositories, and in mkdocs."""
    headings = re.findall(r'^#+ (.+)$', re.sub(r'^```.*?^```', '', text, flags=re.S | re.M), re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).strip().replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('name', LINKED)
def test_links_of_pages_outside_the_site(name):
    text = (ROOT / name).read_text()
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if urllib.parse.urlparse(target).scheme:
            continue
        path, _, anchor = target.partition('#')
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target
