"""Answers of a run on fewer questions, put into the journal of the same run on more of them.

Only where an answer depends on its question alone: in float32, or with ``deterministic``. Below float32 it also
depends on the questions beside it (docs/architecture.md), and all are asked again.
"""

from __future__ import annotations

import json
from pathlib import Path

from meteor_bench.records.run_folder import RunFolder, find_complete
from meteor_bench.runs.distributed.journals import append, whole_lines
from meteor_bench.runs.single_run import SingleRun
from meteor_bench.utils.safe_files import LARGE, UnsafeFile, json_value, read_bytes

__all__ = ["carry"]


def carry(small: SingleRun, large: SingleRun) -> int:
    """Put the answers of a finished run into the journal of a larger one; how many there were.

    The runs must differ in nothing but the limit of questions; none are carried where an answer may depend on others.
    """
    alone = large.blueprint.provenance["dtype"] == "float32" or large.config.deterministic
    before = find_complete(small.config.out, small.fingerprint)
    if not alone or before is None or find_complete(large.config.out, large.fingerprint) is not None:
        return 0
    lines = _lines(before / "answers.jsonl", small.fingerprint[:16], large.fingerprint[:16])
    if lines:
        with RunFolder.open(large.config, large.fingerprint) as folder:
            append(folder.journal, [b"".join(lines)])
    return len(lines)


def _lines(journal: Path, old: str, new: str) -> list[bytes]:
    """Its answers under another fingerprint; none where it cannot be read, for they can be asked again."""
    try:
        found = [json_value(line) for line in whole_lines(read_bytes(journal, LARGE)).split(b"\n") if line]
        return [
            json.dumps({**line, "fingerprint": new}, ensure_ascii=False).encode() + b"\n"
            for line in found
            if line["fingerprint"] == old
        ]
    except (OSError, UnsafeFile, KeyError, TypeError):
        return []
