"""`make natural`: what it says of packages, and of those that are missing, on packages made here."""

from __future__ import annotations

import os
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from meteor_bench.core.errors import DataError
from scripts import natural_packages
from scripts.natural import debian

STAMPS = debian.STAMPS
CONTROL = "Package: {0}\nVersion: {1}\nDescription: stamps\n Version: 3 of something\n"
RIGHTS = "Source: http://example.org/stamps\n\nFiles: *\nLicense: GPL-2\n\nLicense: GPL-2\n The text.\n"


def unpack(folder: Path, archive: debian.Archive) -> None:
    place = folder / archive.name
    rights = place / "usr" / "share" / "doc" / archive.name / "copyright"
    for file in (place / "DEBIAN" / "control", rights):
        file.parent.mkdir(parents=True)
    (place / "DEBIAN" / "control").write_text(CONTROL.format(*archive))
    rights.write_text(RIGHTS)


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_what_a_debian_package_says_of_itself(tmp_path: Path) -> None:
    unpack(tmp_path, STAMPS)
    row = natural_packages.of_debian(STAMPS.name, debian.unpacked(STAMPS, tmp_path))
    assert row == (STAMPS.name, STAMPS.version, "GPL-2", "Debian, http://example.org/stamps")


@pytest.mark.parametrize(
    ("about", "licence", "origin"),
    [
        ("License: MIT\nProject-URL: Homepage, http://a.org/b\n", "MIT", "PyPI, http://a.org/b"),
        (
            "License: UNKNOWN\nHome-page: http://c.org\n",
            "UNKNOWN in its metadata; LICENSE: Some Licence 2",
            "http://c.org",
        ),
        ("", "none named in its metadata; LICENSE: Some Licence 2", "PyPI"),
    ],
)
def test_what_a_package_of_pypi_says_of_itself(tmp_path: Path, about: str, licence: str, origin: str) -> None:
    place = tmp_path / "x-1.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: x\nVersion: 1\n{about}")
    (place / "LICENSE").write_text("\n  Some Licence 2\n\nand more\n")
    (place / "RECORD").write_text("x/LICENSE.py,,\nx-1.dist-info/LICENSE,,\n")
    row = natural_packages.of_pypi(Distribution.at(place))
    assert (row.package, row.version, row.licence) == ("x", "1", licence) and row.origin.endswith(origin)


def test_a_missing_package_is_one_line_and_exit_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(natural_packages, "PACKAGES", ())  # PyPI's are tested beside the code that reads them
    unpack(tmp_path, STAMPS)
    with pytest.raises(SystemExit) as ended:
        natural_packages.main(["--offline", "--folder", str(tmp_path)])
    out, err = capsys.readouterr()
    said = "package plasma-workspace-wallpapers 4:5.27.5-2 is not unpacked here; it comes with: make natural\n"
    assert (ended.value.code, out, err) == (2, "", said)


def test_another_version_says_how_to_get_the_right_one(tmp_path: Path) -> None:
    unpack(tmp_path, STAMPS._replace(version="1999-1"))
    with pytest.raises(
        DataError, match=r"is 1999-1, expected 2022.06.04-1; it comes anew with: rm -r .* && make natural"
    ):
        debian.unpacked(STAMPS, tmp_path)


def test_it_is_fetched_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With programs in the place of apt's, which say what they were asked."""
    programs, folder = tmp_path / "bin", tmp_path / "natural"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    program(programs, "apt-get", f'echo "$@" >> {tmp_path}/asked; : > a.deb')
    program(programs, "dpkg-deb", "mkdir -p $3/DEBIAN; echo 'E: it is broken' >&2; exit 1")
    with pytest.raises(DataError, match=r"dpkg-deb has no .* \(it is broken\); on Debian 12: .*make natural"):
        debian.fetch(STAMPS, folder)
    assert not list(folder.iterdir())
    control = CONTROL.format(*STAMPS)
    program(programs, "dpkg-deb", f'mkdir -p $3/DEBIAN; cat > $3/DEBIAN/control <<"END"\n{control}END')
    debian.fetch(STAMPS, folder)
    debian.fetch(STAMPS, folder)  # it is there
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 2 and asked[1].endswith(f"download --quiet {STAMPS.name}={STAMPS.version}")
    assert [path.name for path in folder.iterdir()] == [STAMPS.name]
    debian.unpacked(STAMPS, folder)


def test_without_apt_the_line_says_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"apt-get is not here; on Debian 12: make natural"):
        debian.fetch(STAMPS, tmp_path / "natural")
