"""For `mkdocs build`: pages under docs/ may link to any file of the repository, as they do where it is read as files.

A linked Markdown file outside docs/ becomes a page of the site, under `repository/` and the path it has; any other file
is copied there. A folder stands for its README.md; to one that has none there is no link on the site. A link that leads
nowhere stays as it is, and the strict build fails.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = PurePosixPath("docs")
PLACE = PurePosixPath("repository")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]+)((?:#[^)\s]*)?)\)")
FENCED = re.compile(r"(^```.*?^```$)", re.S | re.M)


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to outside docs/, and what that links to in turn."""
    waiting = [DOCS / file.src_uri for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for target in linked(page, (ROOT / page).read_text(encoding="utf-8")) - seen:
            seen.add(target)
            if not target.is_relative_to(DOCS):
                files.append(File.generated(config, site_uri(target), abs_src_path=str(ROOT / target)))
                if target.suffix == ".md":
                    waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links of a page as they are between the places that its files have on the site."""
    here = repository_path(page.file.src_uri)
    folder = str(PurePosixPath(page.file.src_uri).parent)

    def moved(link: re.Match[str]) -> str:
        if (target := resolved(here, link[2])) is not None:
            return f"[{link[1]}]({os.path.relpath(site_uri(target), folder)}{link[3]})"
        return link[1] if (ROOT / here.parent / link[2]).is_dir() else link[0]

    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in FENCED.split(markdown))


def linked(page: PurePosixPath, markdown: str) -> set[PurePosixPath]:
    """Files of the repository that a page links to."""
    text = FENCED.sub("", markdown)
    return {target for link in LINK.finditer(text) if (target := resolved(page, link[2])) is not None}


def resolved(page: PurePosixPath, link: str) -> PurePosixPath | None:
    """The file of the repository that a link of a page leads to, or None."""
    path = PurePosixPath(os.path.normpath(page.parent / link))
    if (ROOT / path).is_dir():
        path /= "README.md"
    return path if ".." not in path.parts and (ROOT / path).is_file() else None


def site_uri(path: PurePosixPath) -> str:
    """Where a file of the repository lies among the site's sources."""
    return str(path.relative_to(DOCS) if path.is_relative_to(DOCS) else PLACE / path)


def repository_path(uri: str) -> PurePosixPath:
    """The reverse of `site_uri`."""
    path = PurePosixPath(uri)
    return path.relative_to(PLACE) if path.is_relative_to(PLACE) else DOCS / path
