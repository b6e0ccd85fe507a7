"""Where a checkpoint lies: a local folder, or a hub id in the local hub cache; what its config.json says it is.

Nothing is fetched unless ``HF_HUB_OFFLINE=0`` (the flag ``--online``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meteor_bench.core.errors import ConfigError, ModelError
from meteor_bench.core.registry import FAMILIES, UNSUPPORTED
from meteor_bench.models.config_bounds import check_described, without_code
from meteor_bench.utils.safe_files import UnsafeFile, read_json

__all__ = [
    "check_model",
    "family_of",
    "go_online",
    "indexed",
    "is_location",
    "is_online",
    "locate",
    "read_config",
    "read_object",
    "short_name",
]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_ONLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
_SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]


def is_location(name: str) -> bool:
    """Whether ``name`` can only mean a folder or a hub id, not a row of a table."""
    return "/" in name or os.sep in name or name in (".", "..") or _is_dir(Path(name))


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long for any file, a zero byte in it
        return False


def _folder(location: str) -> Path | None:
    """The folder that a name may mean; None where it can mean none: "~nobody", or too long for a file's name."""
    try:
        folder = Path(location).expanduser()
        folder.exists()
    except (OSError, RuntimeError, ValueError):
        return None
    return folder


def short_name(location: str) -> str:
    """The last part of a folder or hub id, for records and tables."""
    return Path(location).absolute().name


def go_online() -> None:
    """Allow the hub to be asked; before any library that reads these variables is imported."""
    for name in _ONLINE:
        os.environ[name] = "0"


def is_online() -> bool:
    """Whether the user allowed it."""
    return os.environ.get("HF_HUB_OFFLINE") == "0"


def locate(location: str, *, fetch: bool = True) -> Path:
    """The folder of a checkpoint.

    Args:
        location: a folder, or a hub id that is looked up in the local hub cache.
        fetch: whether what is not here may be fetched, where the hub may be asked at all.

    Raises:
        ModelError: neither exists here.
    """
    folder = _folder(location)
    if folder is not None and folder.is_dir():
        return folder
    if folder is None or not _HUB_ID.fullmatch(location) or folder.exists():
        raise ModelError(f"'{location}' is not a folder; give a checkpoint's folder or a hub id (owner/name)")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    offline = not fetch or os.environ.get("HF_HUB_OFFLINE", "1").lower() not in ("0", "false", "no", "off", "")
    try:
        if offline:
            return Path(snapshot_download(location, local_files_only=True))
        family_of(read_config(Path(snapshot_download(location, allow_patterns=_SMALL_FILES))), location)
        return Path(snapshot_download(location, allow_patterns=[*_SMALL_FILES, *_weight_files(location)]))
    except LocalEntryNotFoundError as error:
        said = "say --online to fetch it, or give a folder" if offline else "and the hub cannot be reached"
        raise ModelError(f"'{location}' is not in the hub cache ({constants.HF_HUB_CACHE}); {said}") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"cannot fetch '{location}': {' '.join(str(error).split())}") from error


def _weight_files(hub_id: str) -> list[str]:
    """The shards that the index in the cache names; repositories carry stale ones beside them."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(hub_id, local_files_only=True))
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / name).exists():
            return indexed(folder / name)
    return ["model.safetensors", "pytorch_model.bin"]


def indexed(index: Path) -> list[str]:
    """The names of the files of weights that an index lists.

    Raises:
        ModelError: it cannot be read, or is no index.
    """
    try:
        names = set(read_object(index)["weight_map"].values())
    except (LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of weights: {error}") from None
    odd = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if odd:
        raise ModelError(f"{index} names '{odd[0]}', which is no file of that folder")
    return sorted(names)


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json, checked as far as our families read it, without what would choose code.

    Raises:
        ModelError: there is none, it is no JSON object, or a value makes no sense (see `check_described`).
    """
    file = folder / "config.json"
    if not file.exists():
        raise ModelError(f"{folder} holds no config.json; it is not a checkpoint's folder")
    config = without_code(read_object(file))
    if config.get("model_type") in [*FAMILIES.rows]:
        check_described(config, str(file))
    return dict(config)


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        ModelError: the file cannot be read, is far too large, or holds something else.
    """
    try:
        found = read_json(file)
    except (OSError, UnsafeFile) as error:
        raise ModelError(f"cannot read {file}: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} is not a JSON object")
    return found


def family_of(config: Mapping[str, Any], where: str) -> str:
    """The row of the family table that a config.json belongs to.

    Args:
        where: the model's name, for the message.

    Raises:
        ModelError: no such family here.
    """
    kind = config.get("model_type")
    if kind in FAMILIES.names():
        return str(kind)
    for model in UNSUPPORTED:
        if str(kind).startswith(model.kinds):
            raise ModelError(f"'{where}' is a {model.name} (model_type '{kind}'), not supported: {model.why}")
    known = ", ".join(FAMILIES.names())
    raise ModelError(f"'{where}' has model_type '{kind}', for which there is no adapter; there are: {known}")


def check_model(name: str) -> None:
    """Whether ``name`` can be loaded as far as that can be told without importing anything heavy.

    Raises:
        ConfigError, ModelError: a folder without config.json or of no known family.
    """
    folder = _folder(name)
    if folder is not None and folder.is_dir():
        family_of(read_config(folder), name)
    elif folder is None or not _HUB_ID.fullmatch(name):
        raise ConfigError(f"model '{name}' is neither a folder nor a hub id (owner/name)")
