"""The three sentences above a run's tables, and what they say where a number is not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meteor_bench.config.run_config import RunConfig
from meteor_bench.records.reader import read_run
from meteor_bench.report.accuracy import accuracy
from meteor_bench.report.closing import closing
from meteor_bench.report.runs import load
from meteor_bench.report.sections import sections
from tests import synthetic


def test_the_numbers_are_those_of_the_records(runs: Mapping[str, Path]) -> None:
    path = next(path for path in runs.values() if read_run(path).config.method == "meteor")
    record, base = read_run(path), read_run(runs["none"])
    score, before = (sum(t.score for t in one.tasks) / len(one.tasks) for one in (record, base))
    said, tokens, cost = closing(path).sentences()
    how = "below" if score < before else "above"
    assert said.startswith(
        f"Accuracy: {score:.1f} on {sum(t.n for t in record.tasks)} questions, {abs(score - before):.1f} points {how} "
        f"the unpruned model's {before:.1f} (95 % interval of the difference: "
    )
    # The interval is that of the table.
    (section,) = sections(load(path))
    frame = accuracy(section)
    row = frame[(frame["name"] == "average") & (frame["unpruned"].notna())].iloc[0]
    assert f"difference: {row['difference_low']:+.1f} to {row['difference_high']:+.1f})" in said
    assert ("chance" in said) == (row["difference_low"] <= 0 <= row["difference_high"])
    assert record.tokens is not None
    kept = record.tokens.final.mean
    assert tokens == (
        f"Tokens: {kept:.1f} visual tokens a question after the last prune instead of 256.0, "
        f"{100 * (1 - kept / 256):.1f} % fewer."
    )
    flops, whole = (sum(v for k, v in one.flops.items() if k != "decode") for one in (record, base))
    assert cost.startswith(f"Cost: {flops / 1e9:.3g} GFLOPs to the first token instead of {whole / 1e9:.3g}, ")


def test_what_is_missing_is_said_to_be(tmp_path: Path) -> None:
    config = RunConfig(method="random", ratio=0.5, suite="pocket11", out=tmp_path / "alone", baseline=False)
    said, tokens, cost = closing(synthetic.write(config)).sentences()
    assert said.endswith(
        "There is no difference to the unpruned model, because no run of it on these questions was found."
    )
    assert "instead" not in tokens + cost and tokens.endswith("after the last prune.")
    plainly = RunConfig(suite="pocket11", out=tmp_path / "plain")
    said, *_ = closing(synthetic.write(plainly)).sentences()
    assert said.endswith("Nothing was pruned, so there is no difference to the unpruned model.")


def test_a_run_without_times_says_so(tmp_path: Path) -> None:
    synthetic.write(RunConfig(suite="pocket11", out=tmp_path))
    config = RunConfig(method="random", ratio=0.5, suite="pocket11", out=tmp_path)
    path = synthetic.write(config)
    (path / "latency.jsonl").write_text("")
    *_, cost = closing(path).sentences()
    assert cost.endswith("Speed beside the unpruned model was not measured.")


def test_one_picture_has_no_interval(tmp_path: Path) -> None:
    synthetic.write(RunConfig(suite="pocket11", out=tmp_path), n=1)
    config = RunConfig(method="random", ratio=0.5, suite="pocket11", out=tmp_path)
    said, *_ = closing(synthetic.write(config, n=1)).sentences()
    assert said.endswith("There is no interval: the questions are about too few pictures.")
