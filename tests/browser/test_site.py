"""The documentation's site as a reader meets it: built strictly, opened from a folder, offline, narrow and wide."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.method_pages import FOLDER

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SHOWN = ["index", "compare-methods", "methods", "methods/meteor", "results", "honesty", "api", "latency-on-a-gpu"]
NAVIGATION = '.md-nav--primary a.md-nav__link[href="{}"]'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built(ROOT, folder)
    return folder


def built(root: Path, folder: Path, *, good: bool = True) -> str:
    """What `make docs` builds; returns what it says."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=root, env={**os.environ}, capture_output=True, text=True)
    assert (done.returncode == 0) == good, done.stderr
    return done.stderr


@pytest.fixture
def read(browser: Browser, site: Path) -> Callable[..., object]:
    """Open a page of the site at a width, without a network; on leaving, nothing may have been asked of one."""

    @contextmanager
    def opened(name: str, width: int) -> Iterator[Page]:
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        yield page
        context.close()
        assert asked == []

    return opened


def test_no_page_names_anything_to_fetch(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        tags = re.findall(r"<(?:link|script|img|iframe|source|video)\b[^>]*>", text)
        assert tags and not [tag for tag in tags if re.search(r"(?:href|src|srcset)=[\"']?(?:https?:)?//", tag)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet


def test_each_method_has_a_page_and_the_api_has_its_docstrings(site: Path) -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {path.stem for path in (site / "methods").glob("*.html")}
    text = (site / "api.html").read_text(encoding="utf-8")
    assert "A model with its weights, to be shared by several sessions." in text and ":::" not in text


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", SHOWN)
def test_a_page_is_no_wider_than_the_screen(read: Callable[..., object], name: str, width: int) -> None:
    with read(name, width) as page:  # type: ignore[attr-defined]
        expect(page.locator("h1")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        pictures = page.locator("article img")
        for at in range(pictures.count()):
            assert pictures.nth(at).evaluate("image => image.complete && image.naturalWidth > 0")


def test_the_navigation_leads_on_where_it_is_wide(read: Callable[..., object]) -> None:
    with read("index", 1400) as page:  # type: ignore[attr-defined]
        page.locator(NAVIGATION.format("methods.html")).first.click()
        expect(page.locator("h1")).to_contain_text("Methods")
        page.locator("article a", has_text=re.compile("^meteor$")).first.click()
        expect(page.locator("h1")).to_contain_text("meteor")


def test_the_navigation_opens_where_it_is_narrow(read: Callable[..., object]) -> None:
    with read("index", 390) as page:  # type: ignore[attr-defined]
        link = page.locator(NAVIGATION.format("methods.html")).first
        expect(link).not_to_be_in_viewport()
        page.locator("label.md-header__button[for=__drawer]").click()
        link.click()
        expect(page.locator("h1")).to_contain_text("Methods")


def test_a_link_to_nowhere_does_not_build(tmp_path: Path) -> None:
    for name in ("docs", "scripts", "meteor_bench"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    for name in ("mkdocs.yml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("results", "tasks"):
        (tmp_path / name).symlink_to(ROOT / name)
    page = tmp_path / "docs" / "models.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n[gone](no-such-page.md) [gone](../no/such/file.md)\n")
    said = built(tmp_path, tmp_path / "site", good=False)
    assert "no-such-page.md" in said and "../no/such/file.md" in said
