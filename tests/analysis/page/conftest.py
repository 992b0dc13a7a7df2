"""A browser for all tests of pages, and a page of three scenes in it."""

from __future__ import annotations

import pytest

from densehead.analysis.page import write_page
from tests.analysis.page.opened import OpenedPage
from tests.analysis.page.scenes import HOSTILE, empty_scene, make_scene
from tests.browser import WITHOUT_BROWSER, Browser


@pytest.fixture(scope="session")
def browser():
    if WITHOUT_BROWSER:
        pytest.skip(WITHOUT_BROWSER)
    with Browser() as one:
        yield one


@pytest.fixture(scope="session")
def scenes():
    return [make_scene(0), empty_scene(1), make_scene(2)]


@pytest.fixture(scope="session")
def file(tmp_path_factory, scenes):
    return write_page(tmp_path_factory.mktemp("page") / "page.html", scenes, title=f"Title {HOSTILE}")


@pytest.fixture
def page(browser, file):
    yield OpenedPage(browser, file).open()
    assert browser.complaints() == []
