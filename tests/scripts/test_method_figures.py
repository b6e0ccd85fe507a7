"""The figures on the methods' pages are those of the methods as they are, and small."""

from __future__ import annotations

import pytest
from PIL import Image

from scripts import method_figures, method_pages
from scripts.method_figures import KEY, drawn_methods, figure, figures, png
from scripts.method_pages import FIGURES, figure_name

pytestmark = pytest.mark.xdist_group("lmms_eval")
MOST = 1_500_000  # bytes, all together


def test_every_page_has_its_figure_and_all_are_small() -> None:
    files = {path.name: path for path in FIGURES.glob("*.png")}
    assert sum(path.stat().st_size for path in files.values()) < MOST
    for method in drawn_methods():
        page = method_pages.FOLDER / method_pages.page_name(method)
        if page.exists():
            assert f"(figures/{figure_name(method)})" in page.read_text(encoding="utf-8")
            assert figure_name(method) in files, "run scripts/method_figures.py"
    assert files.keys() <= {figure_name(method) for method in drawn_methods()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_figures_show_what_the_methods_keep_now() -> None:
    stale = []
    for method, drawn in figures([name for name in drawn_methods() if (FIGURES / figure_name(name)).exists()]):
        with Image.open(FIGURES / figure_name(method)) as picture:
            if picture.text[KEY] != drawn.digest:
                stale.append(method)
    assert not stale, "run scripts/method_figures.py"


@pytest.mark.slow
def test_a_method_that_keeps_others_has_another_digest() -> None:
    (_, one), (_, same), (_, other) = figures(["uniform", "uniform", "fastv"])
    assert one.digest == same.digest != other.digest and png(one) == png(same)


def test_nothing_pruned_is_drawn_as_the_pictures_alone() -> None:
    from types import SimpleNamespace

    shown = [SimpleNamespace(points=[SimpleNamespace(panels=())], frames=[Image.new("RGB", (9, 9), "red")])] * 3
    drawn = figure(shown)  # type: ignore[arg-type]
    assert drawn.picture.height == method_figures.SIDE
