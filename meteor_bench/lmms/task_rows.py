"""lmms-eval's own tasks over rows that may be anything: what a task cannot take is told of that row alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from meteor_bench.core.errors import DataError

__all__ = ["made", "unasked"]

# What functions of a task raise for a column that is not there, nothing where text belongs, a number, ...
_NOT_EXPECTED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_MARK = "\0no question: "


def unasked(question: str) -> str | None:
    """Why a row has no question, where its task could not make one."""
    return question.partition(_MARK)[2] if _MARK in question else None


def made(task: str, manager: Any, *, looking: bool) -> Any:
    """A task of lmms-eval, made anew.

    Args:
        manager: lmms-eval's task manager.
        looking: whether lmms-eval may decode the first document's picture, as it does by itself.

    Raises:
        DataError: when an answer is scored: its row is not what the task expects.
    """
    from lmms_eval.tasks import get_task_dict

    config = manager._get_config(task)
    changed: dict[str, Any] = {"task": task}
    if callable(own := config.get("doc_to_text")):
        changed["doc_to_text"] = _asking(own)
    if callable(own := config.get("process_results")):
        changed["process_results"] = _scoring(task, own)
    pictured: dict[str, Mapping[str, Any]] = {}
    if not looking:
        changed["process_docs"] = _stored(config.get("process_docs"), pictured)
    (found,) = get_task_dict([changed], manager, "simple").values()
    for split, docs in found.dataset.items() if pictured else ():
        for name, kind in pictured.get(docs._fingerprint, {}).items():
            docs = docs.cast_column(name, kind)
        found.dataset[split] = docs
    return found


def _asking(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def asking(*arguments: Any, **more: Any) -> Any:
        try:
            return own(*arguments, **more)
        except _NOT_EXPECTED as error:
            return _MARK + _said(error)

    return asking


def _scoring(task: str, own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def scoring(doc: Any, *arguments: Any, **more: Any) -> Any:
        try:
            return own(doc, *arguments, **more)
        except _NOT_EXPECTED as error:
            row = " ".join(str(doc).split())[:120]
            raise DataError(f"{task}: an answer cannot be scored, its row is not what the task expects "
                            f"({_said(error)}): {row}") from error  # fmt: skip

    return scoring


def _stored(own: Callable[[Any], Any] | None, pictured: dict[str, Mapping[str, Any]]) -> Callable[[Any], Any]:
    """lmms-eval's ``process_docs``, which leaves pictures as they are stored; ``pictured`` notes what they were."""
    from datasets import Dataset, Image, List

    def stored(kind: Any) -> Any:
        """The kind of the same column with its pictures undecoded; itself where it has none."""
        if isinstance(kind, List):
            return replace(kind, feature=stored(kind.feature))
        return replace(kind, decode=False) if isinstance(kind, Image) else kind

    def process(docs: Any) -> Any:
        docs = docs if own is None else own(docs)
        if isinstance(docs, Dataset):
            kinds = {name: kind for name, kind in docs.features.items() if stored(kind) != kind}
            for name, kind in kinds.items():
                docs = docs.cast_column(name, stored(kind))
            pictured[docs._fingerprint] = kinds
        return docs

    return process


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
