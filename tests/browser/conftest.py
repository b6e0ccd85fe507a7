"""A browser for the tests: Debian's Chromium, driven through Playwright; where there is none the tests fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from meteor_bench.report.html.build import chapters
from meteor_bench.report.html.chapter import Chapter
from meteor_bench.report.runs import load
from tests import synthetic

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.fail(f"none of {', '.join(NAMES)} is installed; `make setup-browser` does it")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Opened:
    """A page that has drawn everything.

    Attributes:
        said: errors and warnings of the console.
        asked: what the page requested, the file itself left out.
    """

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Browser) -> Callable[..., Any]:
    """Open a file at a width and in a theme; on leaving, nothing may have been said or fetched."""

    @contextmanager
    def opened(file: Path, width: int = 1400, theme: Any = "light") -> Iterator[Opened]:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
        page = context.new_page()
        visited = Opened(page)
        page.on("console", lambda m: visited.said.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: visited.said.append(str(error)))
        page.on("request", lambda r: visited.asked.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(file.as_uri())
        # By selectors: the page's policy forbids to evaluate the text of a function.
        page.wait_for_selector("html[data-ready=yes]")
        page.wait_for_selector("main [data-plot]:not([data-drawn])", state="detached")
        yield visited
        context.close()
        assert visited.said == [] and visited.asked == []

    return opened


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    synthetic.reference(folder)
    return folder


@pytest.fixture(scope="session")
def chapter(runs: Path) -> Chapter:
    (made,) = chapters(load(runs))
    return made
