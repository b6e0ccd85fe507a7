"""Every error that a user can cause, in one tree.

MeteorBenchError            base; the CLI prints its one line and exits with 2
├── ConfigError             a flag or a YAML value is wrong
│   └── UnknownNameError    a name is in no table (carries "did you mean")
├── BudgetError             a token target that the method cannot reach
├── UnsupportedError        method and model (or task) do not fit; names both sides
├── PluginError             somebody's method or model cannot be imported, breaks the protocol, ends the process
├── ModelError              a checkpoint cannot be loaded
├── DataError               a benchmark's data is missing, broken or different
│   └── MediaError          a document's pictures cannot be read, or the model cannot take them
├── RecordError             a results folder cannot be read, written or compared
└── RankError               of several processes at one run, one has failed or cannot be reached
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "BudgetError",
    "ConfigError",
    "DataError",
    "MediaError",
    "MeteorBenchError",
    "ModelError",
    "NotInstalledError",
    "PluginError",
    "RankError",
    "RecordError",
    "UnknownNameError",
    "UnsupportedError",
]


class MeteorBenchError(Exception):
    """Base of all errors whose message is meant for the user: one line, what is wrong and what would be right."""


class ConfigError(MeteorBenchError):
    """A flag, a YAML key or a value is wrong."""


class UnknownNameError(ConfigError):
    """A name that is in no table.

    Args:
        kind: what was looked up, say "method".
        name: what the user wrote.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        import difflib

        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} '{name}'; {hint}")
        self.kind, self.name, self.known = kind, name, names


class BudgetError(MeteorBenchError):
    """A token target that a method cannot reach; names the nearest one that it can."""


class UnsupportedError(MeteorBenchError):
    """A combination that does not work; names both sides and the missing thing."""


class PluginError(MeteorBenchError):
    """A method or model of somebody's: cannot be imported, does not keep the protocol, tried to end the process."""


class ModelError(MeteorBenchError):
    """A checkpoint is missing, incomplete or corrupted."""


class NotInstalledError(ModelError):
    """A model needs a package that is not installed with ours."""


class DataError(MeteorBenchError):
    """A benchmark's data is missing, incomplete or corrupted."""


class MediaError(DataError):
    """A document whose pictures or video cannot be read, or that a model cannot take.

    Attributes:
        media_key: of all requests that cannot be answered for it.
    """

    def __init__(self, message: str, media_key: str) -> None:
        super().__init__(message)
        self.media_key = media_key


class RecordError(MeteorBenchError):
    """A results folder or record cannot be read, written or compared."""


class RankError(MeteorBenchError):
    """Of several processes at one run, one has failed, has died or cannot be reached; with its message."""
