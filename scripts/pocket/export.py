"""From a training checkpoint to what ships: config, tokenizer, fp16 shards with an index."""

import json
import shutil
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import nn

from meteor_bench.models.pocket.modules import PocketConfig, PocketVLM, load_pocket
from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket.joint import JointModel
from scripts.pocket.scores import family_scores, score_samples

SHARD_BYTES = 3_800_000
FOLDERS = {"shared": "pocket", "independent": "pocket-independent"}


def trained_model(folder: Path, fusion: str) -> tuple[PocketVLM, dict]:
    """The fp32 model of a joint phase's last checkpoint."""
    saved = torch.load(folder / f"joint-{fusion}.pt", weights_only=True)
    tokenizer = PocketTokenizer(folder / "tokenizer.json")
    model = PocketVLM(PocketConfig(fusion=fusion, vocab_size=len(tokenizer)))  # type: ignore[arg-type]
    state = {**saved["model"], **saved["masters"]}
    own = {name.removeprefix("vlm."): w.float() for name, w in state.items() if name.startswith("vlm.")}
    model.load_state_dict(own, strict=False)
    model.decoder.tie_weights()
    return model, saved


def export(folder: Path, fusion: str, weights: Path) -> Path:
    model, _ = trained_model(folder, fusion)
    target = weights / FOLDERS[fusion]
    write_shards(model, target)
    model.config.save(target)
    shutil.copyfile(folder / "tokenizer.json", target / "tokenizer.json")
    return target


def write_shards(model: nn.Module, target: Path) -> None:
    """A model's weights in half precision, in shards with an index, in place of what is there."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.safetensors"):
        old.unlink()
    state = {n: w.half().contiguous() for n, w in model.state_dict().items() if n != "decoder.lm_head.weight"}
    plan = split_torch_state_dict_into_shards(state, max_shard_size=SHARD_BYTES)
    for name, tensors in plan.filename_to_tensors.items():
        save_file({t: state[t] for t in tensors}, target / name, metadata={"format": "pt"})
        (target / name).chmod(0o644)  # safetensors leaves it readable by its owner alone
    index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
    (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def exported_scores(target: Path, per_kind: int, split: str, seed: int = 7) -> dict[str, dict[str, float]]:
    """Scores of the files that ship, loaded back in fp32."""
    tokenizer = PocketTokenizer(target / "tokenizer.json")
    model = JointModel(PocketConfig.load(target), tokenizer)
    model.vlm.load_state_dict(load_pocket(target).state_dict())
    batches = score_samples(seed, per_kind, split)
    return {
        "full": family_scores(model, tokenizer, batches),
        "keep 24 %": family_scores(model, tokenizer, batches, keep=0.24),
        "blind": family_scores(model, tokenizer, batches, blind=True),
    }
