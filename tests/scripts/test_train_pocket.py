"""The whole recipe at tiny step counts, and what it leaves behind."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from meteor_bench.models.pocket.modules import load_pocket
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.loop import Progress
from scripts.pocket.words import write_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SHARD_LIMIT = 3_900_000


def test_tokenizer_reads_words_and_characters(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = PocketTokenizer(tmp_path / "tokenizer.json")
    for text in ("what color is the sign that says K7P", "row1 col2 out-left row1 col1 T", "top-left", "3 plus 2 is 5"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("zebra") == [tokenizer.unk_id]
    assert tokenizer.decode([tokenizer.bos_id, *tokenizer.encode("K 7"), tokenizer.eos_id]) == "K7"


def test_a_phase_whose_time_is_over_before_it_begins_takes_one_step_and_is_saved(tmp_path: Path) -> None:
    """As on a machine so busy that making the model takes a smoke run's seconds."""
    progress = Progress("joint", tmp_path, minutes=1e-9)
    assert progress.fraction == 1 and progress.goes_on
    progress.count(4)
    progress.save({})
    assert not progress.goes_on
    again = Progress("joint", tmp_path, minutes=1e-9)
    assert again.resume() is not None and again.samples == 4 and not again.goes_on


@pytest.mark.slow
def test_smoke_run_leaves_checkpoints_that_load(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/train_pocket.py", "all", "--smoke"]
    folders = ["--folder", str(tmp_path / "train"), "--weights", str(tmp_path / "weights")]
    subprocess.run([*command, *folders], cwd=ROOT, check=True, timeout=600)
    for name in ("pocket", "pocket-independent"):
        folder = tmp_path / "weights" / name
        assert all(shard.stat().st_size < SHARD_LIMIT for shard in folder.glob("*.safetensors"))
        assert (folder / "README.md").read_text().count("pocket_gqa") == 2
        model = load_pocket(folder)
        tokens = model.visual(torch.zeros(1, 4, 64, 64, 3, dtype=torch.uint8))
        assert tokens.shape == (1, model.config.visual_tokens, model.config.hidden_size)
