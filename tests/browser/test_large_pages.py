"""Reports of many methods, the shipped ones among them: read, linked into, printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from meteor_bench.core.registry import METHODS
from meteor_bench.report.html.build import chapters
from meteor_bench.report.html.chapter import Chapter
from meteor_bench.report.html.page import AT_FIRST, page
from meteor_bench.report.html.reported import reported
from meteor_bench.report.runs import load
from meteor_bench.report.sections import sections
from tests import synthetic

pytestmark = pytest.mark.browser


Visit = Callable[..., Any]


@pytest.fixture(scope="session")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of all methods at three ratios."""
    folder = tmp_path_factory.mktemp("crowded")
    (made,) = chapters(load(synthetic.whole(folder / "runs")))
    file = folder / "report.html"
    file.write_text(page([made]), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [390, 1400])
def test_eighty_runs_can_be_read(crowded: Path, visit: Visit, width: int) -> None:
    """Charts start with some methods; tables scroll in a window with their head and first column in sight."""
    methods = len(METHODS.names()) - 1
    with visit(crowded, width) as seen:
        view = seen.page
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        bars = view.locator("[data-plot=bars] .layer_0_marks path")
        assert bars.count() == (AT_FIRST - 1) * 5
        legend = view.locator("[data-legend]").first
        assert legend.locator(".chip[aria-pressed=true]").count() == AT_FIRST
        legend.get_by_role("button", name=f"show all {methods + 1}").click()
        expect(bars).to_have_count(methods * 5)
        legend.get_by_role("button", name=f"show {AT_FIRST}", exact=True).click()
        expect(bars).to_have_count((AT_FIRST - 1) * 5)
        box = view.locator("#accuracy-table-0").locator("xpath=..")
        assert view.locator("#accuracy-table-0 tbody tr").count() == 1 + 3 * methods
        assert box.evaluate("(b) => b.clientHeight <= innerHeight && b.scrollHeight > 2 * b.clientHeight")
        head, name = (
            view.locator("#accuracy-table-0 thead th").nth(1),
            view.locator("#accuracy-table-0 tbody th").nth(40),
        )
        box.evaluate("(b) => b.scrollTo(0, 900)")
        top, left = box.bounding_box(), name.bounding_box()
        assert top and left and abs(head.bounding_box()["y"] - top["y"]) < 3
        box.evaluate("(b) => b.scrollTo(200, 900)")
        assert name.bounding_box()["x"] == left["x"]


@pytest.mark.parametrize("width", [390, 1400])
def test_what_is_far_from_sight_waits_and_its_place_is_exact(crowded: Path, visit: Visit, width: int) -> None:
    """Long tables are laid out when they come near, which moves nothing."""
    drawn = "(e) => e.querySelector('td').checkVisibility({contentVisibilityAuto: true})"
    places = "(all) => all.map((e) => [e.getBoundingClientRect().top + scrollY, e.offsetHeight])"
    with visit(crowded, width) as seen:
        view = seen.page
        tall = view.locator(".part > .tall, .part > div > .tall")
        before, height = tall.evaluate_all(places), view.evaluate("document.documentElement.scrollHeight")
        far = [at for at, (top, _) in enumerate(before) if top > 4 * 900]
        assert len(far) > 1 and not any(tall.nth(at).evaluate(drawn) for at in far)
        for table in tall.all():
            table.evaluate("(e) => e.scrollIntoView({ behavior: 'instant' })")
            view.wait_for_function(drawn, arg=table.element_handle())
            assert table.evaluate("(e) => e.scrollHeight > e.clientHeight"), "rows fill their window"
        assert tall.evaluate_all(places) == before
        assert view.evaluate("document.documentElement.scrollHeight") == height
        assert {size for _, size in before} == {int(0.78 * 900)}


@pytest.mark.parametrize("width", [390, 1400])
def test_a_link_of_the_bar_leads_to_its_part_at_once(tmp_path: Path, visit: Visit, width: int) -> None:
    """On the longest page that ships: the part's head stands below the bar when scrolling has settled."""
    file = tmp_path / "pocket.html"
    folder = Path(__file__).parents[2] / "results/reference/pocket"
    file.write_text(page(chapters(load(folder))), encoding="utf-8")
    with visit(file, width) as seen:
        view = seen.page
        view.emulate_media(reduced_motion="no-preference")
        for link in view.locator(".bar nav a").all():
            part = link.get_attribute("href").removeprefix("#")
            link.click()
            wanted = "document.documentElement.scrollHeight - innerHeight - scrollY < 2"
            top = f"document.getElementById('{part}').getBoundingClientRect().top"
            view.wait_for_function(f"() => Math.abs({top} - 64) < 3 || {wanted}")
            assert 0 <= view.evaluate(top) < 900, part
        view.goto("about:blank")  # for the page to be opened anew, not scrolled
        view.goto(f"{file.as_uri()}#accuracy-0")
        view.wait_for_selector("html[data-ready=yes]")
        view.wait_for_selector("main [data-plot]:not([data-drawn])", state="detached")
        view.wait_for_timeout(500)  # what is under way has come to rest
        assert abs(view.evaluate("document.getElementById('accuracy-0').getBoundingClientRect().top") - 64) < 3


def test_paper_shows_tables_whole(tmp_path: Path, visit: Visit) -> None:
    """Of the widest report that ships: nothing is cut, and nothing is wider than A4 in landscape, less its margins."""
    file = tmp_path / "pocket.html"
    folder = Path(__file__).parents[2] / "results/reference/pocket"
    file.write_text(page(chapters(load(folder))), encoding="utf-8")
    width = int((297 - 2 * 10) / 25.4 * 96)
    with visit(file, width) as seen:
        tables = seen.page.locator(".scroll")
        cut = "(all) => all.filter((e) => getComputedStyle(e).overflow !== 'visible').length"
        assert tables.evaluate_all(cut) > 3 and seen.page.locator(".scroll.tall").count() > 0
        seen.page.emulate_media(media="print")
        assert tables.evaluate_all(cut) == 0
        assert tables.evaluate_all("(all) => all.every((e) => e.scrollHeight <= e.offsetHeight)")
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


def test_reported_figures_stand_apart(tmp_path: Path, visit: Visit, chapter: Chapter) -> None:
    """Beside METEOR's reported row stands the shipped one, each in its own labelled table, on a phone too."""
    folder = Path(__file__).parents[2] / "results/reference/pocket"
    made = replace(chapter, reported=reported(sections(load(folder))[0]))
    file = tmp_path / "papers.html"
    file.write_text(page([made]), encoding="utf-8")
    with visit(file, 390) as seen:
        view = seen.page
        assert view.evaluate("document.documentElement.scrollWidth") <= 390
        figure = view.locator("#papers-0 .figure", has_text="METEOR: Accuracy and cost beside other methods")
        here, there = (figure.locator(f"[data-origin={origin}]") for origin in ("measured", "reported"))
        assert here.locator(".badge").inner_text() == "measured here"
        assert there.locator(".badge").inner_text() == "reported § by the paper, not measured here"
        assert "13.42" in there.locator("tr", has_text="METEOR").inner_text() and "13.42" not in here.inner_text()
        assert "arXiv 2507.20842" in there.inner_text() and "confidence secondary" in there.inner_text()
        styles = [side.locator(".scroll").evaluate("(e) => getComputedStyle(e).borderStyle") for side in (here, there)]
        assert styles == ["solid", "dashed"]


def test_the_reference_results_open(tmp_path: Path, visit: Visit) -> None:
    """All of the shipped model's questions, as people will open them."""
    file = tmp_path / "pocket.html"
    folder = Path(__file__).parents[2] / "results/reference/pocket"
    file.write_text(page(chapters(load(folder))), encoding="utf-8")
    assert file.stat().st_size < 4e6
    with visit(file) as seen:
        assert seen.page.locator("[data-questions] .count").inner_text().endswith("beside unpruned")
        assert seen.page.locator("[data-plot=bars] .layer_0_marks path").count() >= 12
