"""What the tables say, in every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import groupby

import numpy as np

from meteor_bench.runs.latency.tables import document as document_of
from meteor_bench.runs.latency.tables import lay_out
from tests.runs.latency.made import cell


def test_tables_of_a_cell() -> None:
    times, encoders, spread, work = lay_out([cell()])
    assert times.title == "Latency: m, ratio 0.76, batch 2"
    assert times.rows[0] == ["unpruned", "3.00", "30.0", "5.00", "1.00", "40.0", "76.0", "2.00", "93.0", "1.00x"]
    assert [row[0] for row in times.rows] == ["unpruned", "eager", "adaptive ~"]
    assert encoders.columns == ["ms, p50", "clip", "conv"] and encoders.rows[1] == ["eager", "40.0", "20.0"]
    assert spread.rows[0][1:5] == ["76.0", "76.0", "76.0", "0%"] and spread.rows[0][-2:] == ["+10.0%", "90.9%"]
    assert work.rows[0] == ["unpruned", "100", "1.3%", "80.0", "1.00x", "1.00x", "100%", "100%", "1053", "2.00"]
    assert work.rows[1][-1] == "–"
    said = " ".join([*times.notes, *spread.notes])
    for what in (
        "A processor, 2 thread(s), float32",
        "clock 2600 MHz before, 2400 after",
        "load 0.5 of 2 CPUs before, 2.5 after",
        "this process had 75% of its threads' time",
        "A CPU: what pays on a GPU may not pay here",
        "Random weights",
        "adaptive 23.8 (20-26)",
        "adaptive runs on m-variant, unpruned is m",
        "impossible: not timed, needs what is not there",
        "Unsteady machine: the middle half spans up to",
    ):
        assert what in said, what


def test_a_gpu_says_its_clocks_and_neighbours() -> None:
    gpu = {"clocks.sm": "1980 MHz", "temperature.gpu": "40", "power.draw": "300 W", "other_processes": [["7", "1 MiB"]]}
    base = cell()
    state = {when: {**base.state[when], **gpu} for when in ("before", "after")}
    made = replace(base, state=state, environment=replace(base.environment, device="NVIDIA H200"))
    said = " ".join(lay_out([made])[0].notes)
    assert "NVIDIA H200" in said and "clock 1980 MHz before" in said and "1 other processes on it" in said
    assert "A CPU" not in said


def test_what_is_captured_has_no_parts_and_stands_beside_what_is_not() -> None:
    base = cell()
    whole = {"encode_ms": {}, "fuse_ms": None, "prune_ms": None, "prefill_ms": None, "ttft_ms": 38.0}
    rows = [base.rows[0]]
    rows.append(replace(rows[0], name="unpruned, graphs", samples=tuple({**s, **whole} for s in rows[0].samples)))
    rows.append(replace(rows[0], name="adaptive, graphs", uncaptured="it waits"))
    made = replace(base, rows=tuple(rows))
    times, encoders, spread, work = lay_out([made])
    assert [row[0] for row in times.rows] == ["unpruned", "unpruned, graphs", "adaptive, graphs"]
    assert times.rows[1][1:7] == ["3.00", *["–"] * 4, "38.0"] and times.rows[2][1:7] == times.rows[0][1:7]
    assert [row[0] for row in encoders.rows] == ["unpruned", "adaptive, graphs"]
    assert spread.rows[1][1] == "38.0" and work.rows[1][2] == work.rows[1][7] == "–" and work.rows[1][5] == "2.00x"
    said = " ".join(times.notes)
    assert "nothing captured on a CPU" in said
    assert "adaptive, graphs: only its decoding; up to the first token as without, it waits." in said
    for how in ("csv", "json", "markdown", "latex"):
        assert "unpruned, graphs" in document_of([made]).render(how)


def test_a_steady_machine_is_not_complained_about() -> None:
    base = cell()
    tables = lay_out([replace(base, rows=base.rows[:2])])
    assert not any("Unsteady" in note for table in tables for note in table.notes)


def test_cells_of_one_ratio_and_batch_are_told_apart() -> None:
    cells = [cell(fingerprint="a" * 64), cell(fingerprint="b" * 64), cell(0.5)]
    titles = [table.title for table in lay_out(cells) if table.title.startswith("Latency: ")]
    assert titles == [
        "Latency: m, ratio 0.76, batch 2, record aaaaaaaa",
        "Latency: m, ratio 0.76, batch 2, record bbbbbbbb",
        "Latency: m, ratio 0.5, batch 2",
    ]
    assert lay_out(cells)[-1].columns == ["", "0.76, b2, record aaaaaaaa", "0.76, b2, record bbbbbbbb", "0.5, b2"]
    rows = list(csv.DictReader(io.StringIO(document_of(cells).render("csv"))))
    assert [record for record, _ in groupby(row["record"] for row in rows)] == ["aaaaaaaa", "bbbbbbbb", "f"]


def test_several_cells_end_with_an_overview() -> None:
    table = lay_out([cell(0.5, 1), cell(0.76, 8)])[-1]
    assert table.columns == ["", "0.5, b1", "0.76, b8"]
    assert table.rows == [
        ["unpruned, ms", "76.0", "76.0"],
        ["eager", "0.50x", "0.50x"],
        ["eager, by FLOPs‡", "1.00x", "1.00x"],
        ["eager, share of that‡", "50%", "50%"],
        ["adaptive", "0.80x", "0.80x"],
        ["adaptive, by FLOPs‡", "2.00x", "2.00x"],
        ["adaptive, share of that‡", "40%", "40%"],
    ]
    assert "inferred from closed forms" in table.notes[0]


def test_every_format() -> None:
    cells = [cell()]
    stream = io.StringIO()
    document_of(cells).write(stream)
    assert "Latency: m, ratio 0.76" in stream.getvalue()
    assert "| unpruned | 3.00 | 30.0 |" in document_of(cells).render("markdown")
    assert "\\toprule" in document_of(cells).render("latex")
    rows = list(csv.DictReader(io.StringIO(document_of(cells).render("csv"))))
    ttft = next(r for r in rows if r["contender"] == "adaptive" and r["quantity"] == "ttft")
    values = [s["ttft_ms"] for s in cells[0].rows[2].samples]
    for column, percent in (("p50", 50), ("p90", 90), ("p99", 99)):
        assert abs(float(ttft[column]) - np.percentile(values, percent)) < 1e-3
    document = json.loads(document_of(cells).render("json"))
    row = document["cells"][0]["rows"][2]
    assert row["times_ms"]["prefill"]["n"] == 4 and row["kept"]["max"] == 26 and row["unsteady"] is True
    assert "samples" not in row and document["cells"][0]["rows"][3]["failure"] == "needs what is not there"
