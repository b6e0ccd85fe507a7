"""Debian's packages of photographs, unpacked into an ignored folder: nothing of them is installed or run.

apt downloads a package and checks it against the archive's signed lists, dpkg-deb unpacks it. Neither wants root.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from meteor_bench.core.errors import DataError
from meteor_bench.utils.plain_text import shortened

FOLDER = Path(__file__).resolve().parents[2] / ".natural"
COMMAND = "make natural"


class Archive(NamedTuple):
    """A package of Debian 12 at the version that is known."""

    name: str
    version: str


STAMPS = Archive("tuxpaint-stamps-default", "2022.06.04-1")
WALLPAPERS = Archive("plasma-workspace-wallpapers", "4:5.27.5-2")
ARCHIVES = (STAMPS, WALLPAPERS)


def unpacked(archive: Archive, folder: Path = FOLDER) -> Path:
    """Where a package was unpacked.

    Raises:
        DataError: it is not there, or is of another version.
    """
    place = folder / archive.name
    control = place / "DEBIAN" / "control"
    if not control.is_file():
        raise DataError(f"package {archive.name} {archive.version} is not unpacked here; it comes with: {COMMAND}")
    version = field(control.read_text(encoding="utf-8"), "Version")
    if version != archive.version:
        raise DataError(
            f"package {archive.name} in {place} is {version}, expected {archive.version}; "
            f"it comes anew with: rm -r {place} && {COMMAND}"
        )
    return place


def field(text: str, name: str) -> str:
    """The first value of a field in Debian's format, "" where there is none."""
    found = re.search(rf"^{name}: *(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def fetch(archive: Archive, folder: Path = FOLDER) -> None:
    """Download and unpack a package that is not there yet.

    Raises:
        DataError: apt or dpkg-deb are missing, or do not have that version.
    """
    if (folder / archive.name / "DEBIAN" / "control").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        # Root's downloads go through another user, who may not write here; apt says so at length.
        sandbox = ["-o", "APT::Sandbox::User=root"] if os.getuid() == 0 else []
        _call(archive, Path(made), "apt-get", *sandbox, "download", "--quiet", f"{archive.name}={archive.version}")
        (deb,) = Path(made).glob("*.deb")
        _call(archive, Path(made), "dpkg-deb", "--raw-extract", deb.name, "whole")
        (Path(made) / "whole").rename(folder / archive.name)


def _call(archive: Archive, folder: Path, *command: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DataError(
            f"package {archive.name} {archive.version} is Debian's and {command[0]} is not here; "
            f"on Debian 12: {COMMAND}"
        ) from error
    if done.returncode:
        said = shortened(" ".join(done.stderr.replace("E: ", "").split()) or f"exit status {done.returncode}", 200)
        raise DataError(
            f"{command[0]} has no {archive.name} {archive.version} ({said}); on Debian 12: apt-get update && {COMMAND}"
        )
