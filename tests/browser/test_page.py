"""The HTML report as a reader meets it: drawn, sorted, filtered, narrow and wide, dark and light, and safe."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.tokens import Grid
from meteor_bench.records.reader import read_run, read_samples
from meteor_bench.records.run_folder import find_runs
from meteor_bench.report.html.build import chapters
from meteor_bench.report.html.chapter import Chapter
from meteor_bench.report.html.page import page
from meteor_bench.report.runs import load
from meteor_bench.runs.patches.recorder import ALONE, DROPPED, Panel
from tests import synthetic

pytestmark = pytest.mark.browser

Visit = Callable[..., Any]


EVIL = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 1'>"


def pictured() -> dict[str, Any]:
    """Kept patches of pocket_gqa/3 under every setting: two encoders, four frames' worth of everything there is."""
    a = Panel("a", "a, output", Grid(1, 2, 2), 0, (0, -1, 2, 2), (ALONE, DROPPED, 1, 1), 2)
    b = Panel("b", "b, output", Grid(1, 1, 1), 0, (0,), (ALONE,), 1)
    points = [{"stage": "encode", "title": "encoders' output", "panels": [vars(a), vars(b)]}]
    settings = {at: {"answer": "red", "points": points} for at in range(4)}
    return {"task": "pocket_gqa", "doc": 3, "frames": [red_square()], "settings": settings}


def red_square() -> str:
    import base64
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 0, 0)).save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


@pytest.fixture(scope="session")
def report(chapter: Chapter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    made = replace(chapter, pictures=[pictured()], why_no_pictures="")
    file.write_text(page([made]), encoding="utf-8")
    return file


def column(view: Page, table: str, at: int) -> list[Any]:
    """What a column is sorted by."""
    cells = view.locator(f"{table} tbody tr > :nth-child({at})")
    return [
        float(v) if re.fullmatch(r"[\d.]+", v) else v
        for v in cells.evaluate_all("(all) => all.map((c) => c.dataset.v)")
    ]


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_opens_without_a_word_and_nothing_sticks_out(report: Path, visit: Visit, width: int, theme: str) -> None:
    with visit(report, width, theme) as seen:
        view = seen.page
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.evaluate("document.documentElement.dataset.theme") == theme
        background = view.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
        assert lightness > 230 if theme == "light" else lightness < 40
        for plot in view.locator("main [data-plot] svg").all():
            box = plot.bounding_box()
            assert box and box["width"] > min(260, width / 2) and box["height"] > 90
            assert box["x"] >= 0 and box["x"] + box["width"] <= width


def test_the_charts_hold_what_was_measured(report: Path, chapter: Chapter, visit: Visit) -> None:
    with visit(report) as seen:
        for name in ("trade-0", "trade-1"):
            points = seen.page.locator(f"[data-plot={name}] .mark-symbol path[aria-label*='95 % interval']")
            assert points.count() == len(chapter.settings)
        bars = seen.page.locator("[data-plot=bars] .layer_0_marks path")
        at_076 = [s for s in chapter.settings if s.ratio == 0.76]
        assert bars.count() == len(at_076) * len(chapter.tasks)
        widths = {s.label: s.scores["pocket_gqa"]["score"] for s in at_076}
        drawn = {b.get_attribute("aria-label"): b.bounding_box()["width"] for b in bars.all()}
        for label, score in widths.items():
            ours = next(width for said, width in drawn.items() if said and f"pocket_gqa: {label}" in said)
            theirs = next(width for said, width in drawn.items() if said and "pocket_gqa: random" in said)
            assert ours / theirs == pytest.approx(score / widths["random"], rel=0.02)
        stages = seen.page.locator("[data-plot=times] .mark-rect path")
        assert stages.count() == 4 * (1 + len(at_076))


def test_the_pareto_front_is_ringed(report: Path, chapter: Chapter, visit: Visit) -> None:
    """By brute force: nobody has at most as many tokens and at least the score."""
    points = [(s.cost("tokens after the last prune"), s.scores["average"]["score"]) for s in chapter.settings]
    beaten = [any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points) for p in points]  # type: ignore[operator]
    with visit(report) as seen:
        rings = seen.page.locator("[data-plot=trade-0] .mark-symbol path[fill=transparent]")
        assert rings.count() == beaten.count(False)


def test_tables_sort_both_ways_and_keep_their_first_column(report: Path, visit: Visit) -> None:
    with visit(report, 390) as seen:
        view, table = seen.page, "#accuracy-table-0"
        header = view.locator(f"{table} thead th", has_text="average").first
        at = 1 + view.locator(f"{table} thead th").all_text_contents().index("average")
        header.locator("button").click()
        scores = column(view, table, at)
        assert scores == sorted(scores, reverse=True) and header.get_attribute("aria-sort") == "descending"
        header.locator("button").click()
        assert column(view, table, at) == sorted(scores)
        view.locator(f"{table} thead th button").first.click()
        names = column(view, table, 1)
        assert names == sorted(names) and names[-1] == "unpruned"
        before = view.locator(f"{table} tbody th").first.bounding_box()
        view.evaluate(f"document.querySelector('{table}').parentNode.scrollLeft = 300")
        after = view.locator(f"{table} tbody th").first.bounding_box()
        assert before and after and before["x"] == after["x"]


def test_scores_turn_into_differences(report: Path, visit: Visit) -> None:
    with visit(report) as seen:
        row = seen.page.locator("#accuracy-table-0 tbody tr", has_text="meteor76")
        score = row.locator("td").first.inner_text()
        assert re.fullmatch(r"\d+\.\d", score)
        seen.page.get_by_role("button", name="difference to unpruned").click()
        assert re.fullmatch(r"[−+]?\d+\.\d ±\d+\.\d", row.locator("td").first.inner_text())
        baseline = seen.page.locator("#accuracy-table-0 tbody tr", has_text="unpruned").locator("td").first
        assert baseline.inner_text() == "–"
        seen.page.get_by_role("button", name="score", exact=True).click()
        assert row.locator("td").first.inner_text() == score and baseline.inner_text() != "–"


def flips(runs: Path, method: str, ratio: float) -> dict[str, int]:
    """Straight from the records: questions that a method of the first seed lost and gained."""
    found = {}
    for folder in find_runs(runs):
        config = read_run(folder).config
        if config.seed == 0 and (config.method, config.ratio) in ((method, ratio), ("none", 0.0)):
            found[config.method] = {(s.task, s.doc_id): s.score for s in read_samples(folder)}
    changes = [score - found["none"][key] for key, score in found[method].items()]
    return {"lost": sum(c < 0 for c in changes), "gained": sum(c > 0 for c in changes), "all": len(changes)}


def test_questions_are_filtered(report: Path, runs: Path, visit: Visit) -> None:
    with visit(report) as seen:
        view = seen.page
        form, count = view.locator("[data-questions] form"), view.locator("[data-questions] .count")
        form.locator("[name=setting]").select_option(label="random 76 %")
        wanted = flips(runs, "random", 0.76)
        for choice, number in {**wanted, "flipped": wanted["lost"] + wanted["gained"]}.items():
            form.locator("[name=change]").select_option(choice)
            assert count.inner_text().startswith(f"{number} of 200 questions")
        form.locator("[name=change]").select_option("all")
        form.locator("[name=task]").select_option("pocket_gqa")
        assert count.inner_text().startswith("40 of 200")
        assert all("pocket_gqa/" in text for text in view.locator(".q .where").all_text_contents())
        assert view.locator(".q").count() == 12
        view.locator("[data-questions] .more").click()
        assert view.locator(".q").count() == 24
        form.locator("[name=text]").fill("no such words")
        assert count.inner_text().startswith("0 of 200") and view.locator(".q").count() == 0


def test_kept_patches_are_drawn_and_filtered_by_encoder(report: Path, visit: Visit) -> None:
    with visit(report) as seen:
        view = seen.page
        form = view.locator("[data-questions] form")
        form.locator("[name=change]").select_option("all")
        form.locator("[name=pictured]").check()
        assert view.locator(".q").count() == 1 and view.locator(".q .panel").count() == 2
        view.wait_for_selector(".q canvas[data-painted]")
        colours = view.locator(".q canvas").first.evaluate(
            """(c) => {
                 const all = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
                 const at = (x, y) => 4 * (Math.floor(y * c.height) * c.width + Math.floor(x * c.width));
                 return [[.25, .25], [.75, .25], [.1, .6]].map(([x, y]) => [...all.slice(at(x, y), at(x, y) + 4)]);
               }"""
        )
        kept, dropped, merged = colours
        assert kept == [200, 0, 0, 255], "a kept patch is the picture itself"
        assert min(dropped[:3]) > 170, "a dropped one is veiled"
        assert merged[2] > 80 and merged[0] < 120, "a merged one is tinted, the first group blue"
        form.locator("[name=tower]").select_option("b")
        assert view.locator(".q .panel").count() == 1
        view.locator(".q summary").click()
        expect(view.locator(".q details .panel")).to_have_count(2)  # settings beside the chosen one and the unpruned
        first, second = (film.bounding_box() for film in view.locator(".q .beside > .film").all())
        assert first["y"] == second["y"] and first["x"] + first["width"] < second["x"], "side by side"


def test_theme_ratio_and_methods_redraw_the_charts(report: Path, visit: Visit) -> None:
    with visit(report, theme="dark") as seen:
        view = seen.page
        label = view.locator("[data-plot=bars] .role-axis-label text").first
        dark = label.get_attribute("fill")
        view.get_by_role("button", name="light", exact=True).click()
        assert view.evaluate("document.documentElement.dataset.theme") == "light"
        expect(label).not_to_have_attribute("fill", str(dark))
        bars = view.locator("[data-plot=bars] .layer_0_marks path")
        expect(bars).to_have_count(2 * 5)
        view.locator("[data-plot=bars]").locator("xpath=..").get_by_role("button", name="50 %").click()
        expect(bars).to_have_count(5)
        view.locator("[data-legend] .chip", has_text="meteor").first.click()
        expect(bars).to_have_count(0)
        assert view.locator(".chip[aria-pressed=false]").count() == view.locator("[data-legend]").count()


def test_no_text_becomes_markup(chapter: Chapter, tmp_path: Path, visit: Visit) -> None:
    asked = replace(chapter.questions, texts=[f"{text} {EVIL}" for text in chapter.questions.texts])
    settings = [replace(s, label=f"{s.label}{EVIL}") for s in chapter.settings]
    made = replace(chapter, questions=asked, settings=settings, notes=[EVIL], model=EVIL, facts={EVIL: EVIL})
    file = tmp_path / "evil.html"
    file.write_text(page([made]), encoding="utf-8")
    with visit(file) as seen:
        view = seen.page
        view.locator("[name=change]").select_option("all")
        assert EVIL in view.locator(".q .ask").first.inner_text()
        assert EVIL in view.locator(".q .said").first.inner_text()
        view.locator("[data-plot=trade-0] .mark-symbol path").last.hover(force=True)
        view.locator(".q summary").first.click()
        assert view.evaluate("window.harmed") is None
        assert view.locator("img[src=x]").count() == 0


def test_two_models_stand_behind_a_switch(runs: Path, tmp_path: Path, visit: Visit) -> None:
    other = tmp_path / "other"
    synthetic.write(RunConfig(out=other, model="pocket-independent"))
    both = chapters([*load(runs), *load(other)])
    assert [c.model for c in both] == ["pocket", "pocket-independent"]
    file = tmp_path / "both.html"
    file.write_text(page(both), encoding="utf-8")
    with visit(file, 390) as seen:
        view = seen.page
        assert view.locator("[data-section]:visible").count() == 1
        view.get_by_role("button", name="pocket-independent, 5 benchmarks").click()
        assert view.locator("[data-section='1']").is_visible() and not view.locator("[data-section='0']").is_visible()
        view.wait_for_selector("[data-section='1'] [data-plot=flow][data-drawn]")
        assert view.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_address_opens_its_section(runs: Path, tmp_path: Path, visit: Visit) -> None:
    other = tmp_path / "other"
    synthetic.write(RunConfig(out=other, model="pocket-independent"))
    file = tmp_path / "both.html"
    file.write_text(page(chapters([*load(runs), *load(other)])), encoding="utf-8")
    with visit(file) as seen:
        view = seen.page
        view.goto(f"{file.as_uri()}#accuracy-1")
        view.reload()
        view.wait_for_selector("html[data-ready=yes]")
        assert view.locator("#accuracy-1").is_visible() and view.locator("#accuracy-0").is_hidden()
