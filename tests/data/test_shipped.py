"""Files of questions are compared with the digests in their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from meteor_bench.core.errors import DataError
from meteor_bench.data.calibration import calibration_digest
from meteor_bench.data.shipped import check_data


def test_data_are_checked(tmp_path: Path) -> None:
    digest = calibration_digest()
    assert len(digest) == 64
    file = tmp_path / "calib-0123456789ab.parquet"
    file.write_bytes(b"something else")
    with pytest.raises(DataError, match="corrupted"):
        check_data(tmp_path)
    with pytest.raises(DataError, match="no parquet file"):
        check_data(tmp_path / "nowhere")
