"""A method straight from a file: ``--method ./loudest.py``, or ``./loudest.py:Loudest`` where the file holds several.

The file is run when the method is made, as Python code that the user named; nothing else is looked for beside it. Its
digest is part of the module's name, so that two versions of a file never stand for each other in one process.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from inspect import isabstract
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from meteor_bench.core.errors import ConfigError
from meteor_bench.core.registry import parts_of

__all__ = ["MethodFile", "digests", "shown"]

_ENDING = ".py"
_MODULES: dict[tuple[Path, str], ModuleType] = {}


@dataclass(frozen=True)
class MethodFile:
    """A file that holds a method.

    Attributes:
        path: the file.
        attribute: the class in it; "" for the only one.
    """

    path: Path
    attribute: str = ""

    @classmethod
    def of(cls, method: str) -> MethodFile | None:
        """What ``method`` means as a file; None where it is a name of the table."""
        path, colon, attribute = method.rpartition(":")
        if colon and path.endswith(_ENDING):
            return cls(Path(path).expanduser(), attribute)
        return cls(Path(method).expanduser()) if method.endswith(_ENDING) else None

    @property
    def name(self) -> str:
        """What tables and folders call it: "loudest", or "loudest.Loudest"."""
        return self.path.stem + (f".{self.attribute}" if self.attribute else "")

    @property
    def digest(self) -> str:
        """SHA-256 of the file; 64 hex digits.

        Raises:
            ConfigError: it cannot be read.
        """
        return _digest(self._content())

    def check(self) -> None:
        """Whether the file can be read as Python, without running it.

        Raises:
            ConfigError: naming file, line and reason.
        """
        self._compiled(self._content())

    def _compiled(self, content: bytes) -> CodeType:
        try:
            return compile(content, str(self.path), "exec", dont_inherit=True)
        except SyntaxError as error:
            raise ConfigError(f"{self.path}:{error.lineno or 1}: not valid Python: {error.msg}") from None
        except ValueError as error:
            raise ConfigError(f"{self.path}: not valid Python: {error}") from None

    def load(self, base: type) -> type[Any]:
        """Run the file and give its class.

        Args:
            base: what the class must derive from.

        Raises:
            ConfigError: the file fails, holds no such class, or several of which none was named.
        """
        content = self._content()  # once: what is run is what the digest is of, whatever becomes of the file
        module = _module(self.path.resolve(), _digest(content), self._compiled(content))
        found = {
            name: kind
            for name, kind in vars(module).items()
            if isinstance(kind, type)
            and issubclass(kind, base)
            and kind.__module__ == module.__name__
            and not isabstract(kind)
        }
        if self.attribute:
            if self.attribute not in found:
                held = f"it holds {', '.join(found)}" if found else "it holds no method"
                raise ConfigError(f"{self.path} holds no method '{self.attribute}'; {held}")
            return found[self.attribute]
        if not found:
            raise ConfigError(f"{self.path} holds no method: no class in it derives from {base.__name__}")
        if len(found) > 1:
            raise ConfigError(
                f"{self.path} holds {len(found)} methods ({', '.join(found)}); name one, as in "
                f"--method {self.path}:{next(iter(found))}"
            )
        return next(iter(found.values()))

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConfigError(f"method file {self.path} cannot be read: {error.strerror}") from None


def shown(method: str) -> str:
    """What tables and folders call a method: files by their stems, names of the table as they are."""
    files = ((part, MethodFile.of(part)) for part in parts_of(method))
    return "+".join(part if file is None else file.name for part, file in files)


def digests(method: str) -> dict[str, str]:
    """Name -> digest of the files that a method, or a composition's parts, come from.

    Raises:
        ConfigError: one cannot be read.
    """
    files = (MethodFile.of(part) for part in parts_of(method))
    return {file.name: file.digest for file in files if file is not None}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _module(path: Path, digest: str, code: CodeType) -> ModuleType:
    """The module that a file makes; run once for each content.

    Not by an importer, which would take the compiled file beside it where that looks like its own.
    """
    name = f"meteor_bench_method_{path.stem}_{digest[:12]}"
    if (path, digest) in _MODULES:
        return _MODULES[path, digest]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        exec(code, module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"method file {path} fails when it is run: {said}") from error
    _MODULES[path, digest] = module
    return module
