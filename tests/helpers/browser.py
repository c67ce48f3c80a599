"""A real headless Chromium, through Playwright."""

import contextlib
import shutil

import pytest


@contextlib.contextmanager
def page_of(path, **options):
    """A page of a file, and the list of errors that it causes; skips the test where there is no browser."""
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    browser = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if browser is None:
        pytest.skip('no Chromium on this machine: install the package chromium')
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=[
            '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'])
        page = chromium.new_page(**options)
        errors = []
        page.on('console', lambda message: errors.append(message.text) if message.type != 'log' else None)
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('request', lambda request: errors.append(request.url) if not request.url.startswith(
            ('file:', 'data:')) else None)
        page.goto(path.absolute().as_uri())
        yield page, errors
        chromium.close()
