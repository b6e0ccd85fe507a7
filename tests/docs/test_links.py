"""Links of README.md, CONTRIBUTING.md and the pages under docs/ lead to files and headings of the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.docs.guides import DOCS

ROOT = DOCS.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """As the site and a repository's view name headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        found = page if not target else page.parent / target
        assert found.resolve().is_relative_to(ROOT) and found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- [^:\n]+: (\S+\.md)$|^ +- [^:\n]+: (\S+\.md)$", text, re.M)
    named = {one or other for one, other in listed}
    assert named == {path.name for path in DOCS.glob("*.md")}
    assert yaml.safe_load(text)["strict"] is True


def test_the_page_of_the_api_has_every_public_name() -> None:
    import meteor_bench

    shown = {line.rpartition(".")[2] for line in (DOCS / "api.md").read_text().splitlines() if line.startswith(":::")}
    assert shown == set(meteor_bench.__all__) - {"__version__"}
