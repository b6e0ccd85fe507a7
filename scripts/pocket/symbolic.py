"""Phase 1a: the decoder learns to reason on symbols.

The embeddings of each cell's true labels stand in for visual tokens. Half of the batches imitate the shared fusion (one
token per cell), half the independent one (up to three per cell, each with part of the labels), so that one decoder
serves both models.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from meteor_bench.models.pocket.tokenizer import PocketTokenizer
from scripts.pocket import words
from scripts.pocket.batches import Packed, block_mask
from scripts.pocket.sample import BAR, CHAR, COLOR, IN_ARROW, KIND, OUT_ARROW, PLATE, SIZE

FUSED, TOWER_A, TOWER_B, TOWER_C = range(4)
INDEPENDENT_TOKENS = 576


def label_words(tokenizer: PocketTokenizer) -> Tensor:
    """[7, 48]: the word for each value of each label channel (row 6: the value of a bar); -1 for none."""
    table = torch.full((7, 48), -1)

    def fill(channel: int, start: int, names: tuple[str, ...]) -> None:
        table[channel, start : start + len(names)] = torch.tensor([tokenizer.id_of(name) for name in names])

    fill(KIND, 1, words.SHAPES)
    fill(KIND, PLATE, ("sign",))
    fill(KIND, BAR, ("bar",) * 10)
    fill(6, BAR, tuple(words.CHARS[:10]))
    fill(COLOR, 1, words.COLORS)
    fill(CHAR, 1, tuple(words.CHARS))
    fill(SIZE, 1, words.SIZES)
    fill(OUT_ARROW, 1, words.OUT)
    fill(IN_ARROW, 1, words.IN)
    return table


class SymbolEmbedding(nn.Module):
    """Labels -> LayerNorm(sum of the words' embeddings); an empty cell is <pad>."""

    def __init__(self, tokenizer: PocketTokenizer, hidden: int, table: Tensor | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.register_buffer("words", label_words(tokenizer) if table is None else table, persistent=False)
        self.vocab = len(tokenizer)

    def counts(self, labels: Tensor) -> Tensor:
        """[batch, 6, n] -> [batch, n, vocab]: how often each word applies."""
        channels = torch.cat([labels, labels[:, KIND : KIND + 1]], dim=1)
        ids = self.words[torch.arange(7)[None, :, None], channels]
        ids = ids.masked_fill(ids < 0, self.vocab).transpose(1, 2)
        counts = torch.zeros(*ids.shape[:2], self.vocab + 1).scatter_add_(2, ids, torch.ones(ids.shape))
        counts[..., 0] = (labels == 0).all(1)
        return counts[..., : self.vocab]

    def forward(self, labels: Tensor, embedding: Tensor) -> Tensor:
        return self.norm(self.counts(labels).to(embedding.dtype) @ embedding)


class TiedPositions(nn.Module):
    """LayerNorm(E[row word] + E[column word] (+ E[frame word]) + fine + kind): places in the decoder's own words."""

    def __init__(self, tokenizer: PocketTokenizer, hidden: int) -> None:
        super().__init__()
        self.fine_rows = nn.Parameter(torch.randn(16, hidden) * 0.02)
        self.fine_cols = nn.Parameter(torch.randn(16, hidden) * 0.02)
        self.fine_frame_rows = nn.Parameter(torch.randn(8, hidden) * 0.02)
        self.fine_frame_cols = nn.Parameter(torch.randn(8, hidden) * 0.02)
        self.kind = nn.Parameter(torch.randn(4, hidden) * 0.02)
        self.norm = nn.LayerNorm(hidden)
        nn.init.constant_(self.norm.weight, 0.7)
        for name, group in (("rows", words.ROWS), ("cols", words.COLS), ("frames", words.FRAMES)):
            self.register_buffer(name, torch.tensor([tokenizer.id_of(w) for w in group]), persistent=False)

    def forward(self, embedding: Tensor, kind: int, is_clip: bool) -> Tensor:
        """[n, hidden] in raster order: image 256 (tower c 64), clip 4 x 64 (tower c 4 x 16)."""
        fine_rows, fine_cols = (
            (self.fine_frame_rows, self.fine_frame_cols) if is_clip else (self.fine_rows, self.fine_cols)
        )
        if kind == TOWER_C:
            fine_rows, fine_cols = (fine.unflatten(0, (-1, 2)).mean(1) for fine in (fine_rows, fine_cols))
        side = fine_rows.shape[0]
        rows = embedding[self.rows].repeat_interleave(side // 4, 0) + fine_rows
        cols = embedding[self.cols].repeat_interleave(side // 4, 0) + fine_cols
        table = (rows[:, None] + cols[None]).flatten(0, 1) + self.kind[kind]
        if is_clip:
            table = (embedding[self.frames][:, None] + table[None]).flatten(0, 1)
        return self.norm(table)


class SymbolicModel(nn.Module):
    def __init__(self, decoder: LlamaForCausalLM, tokenizer: PocketTokenizer) -> None:
        super().__init__()
        hidden = decoder.config.hidden_size
        self.decoder = decoder
        self.symbols = SymbolEmbedding(tokenizer, hidden)
        self.positions = TiedPositions(tokenizer, hidden)

    @property
    def embedding(self) -> Tensor:
        return self.decoder.model.embed_tokens.weight

    def visual(self, labels: Tensor, kinds: tuple[int, ...], clips: Tensor, index: Tensor) -> Tensor:
        """Labels [batch, 6, k] of the chosen tokens and their index [batch, k] in the full sequence -> tokens."""
        z = self.symbols(labels, self.embedding)
        z = z + 0.1 * torch.randn_like(z)
        image, clip = (torch.cat([self.positions(self.embedding, kind, c) for kind in kinds]) for c in (False, True))
        tables = torch.stack([image, clip])  # [2, N, hidden]
        return z + tables[clips.long()[:, None], index]


def prompt_of(
    decoder: LlamaForCausalLM, visual: Tensor, index: Tensor, total: int, packed: Packed
) -> tuple[Tensor, Tensor, Tensor]:
    """What goes into the layers: embeddings [batch, 1 + k + T, hidden], their positions, and the mask.

    `index` [batch, k] places the visual tokens among `total`.
    """
    embedding = decoder.model.embed_tokens.weight
    batch = packed.rows()
    x = torch.cat([embedding[1].expand(batch, 1, -1), visual, F.embedding(packed.ids, embedding)], dim=1)
    positions = torch.cat([torch.zeros(batch, 1, dtype=torch.long), 1 + index, total + 1 + packed.offset], dim=1)
    return x, positions, block_mask(visual.shape[1], packed.segment, x.dtype)


def answer_logits(decoder: LlamaForCausalLM, visual: Tensor, index: Tensor, total: int, packed: Packed) -> Tensor:
    """Logits at the positions that have a target; arguments as for `prompt_of`."""
    x, positions, mask = prompt_of(decoder, visual, index, total, packed)
    hidden = decoder.model(
        inputs_embeds=x, position_ids=positions, attention_mask=mask, use_cache=False
    ).last_hidden_state
    text = hidden[:, 1 + visual.shape[1] :]
    return (text[packed.target >= 0] @ decoder.model.embed_tokens.weight.T).float()


def split_labels(labels: Tensor, clips: Tensor, rng: np.random.Generator) -> Tensor:
    """[batch, 6, 256] -> [batch, 6, 576]: what each tower would know, with random gaps in that."""
    a, b = labels.clone(), labels.clone()
    b[:, COLOR] = 0
    batch = labels.shape[0]
    for tower, channels, rate in (
        (a, (CHAR,), 0.5), (a, (OUT_ARROW, IN_ARROW), 0.5), (a, (SIZE,), 0.2), (b, (SIZE,), 0.3), (b, (KIND,), 0.15),
    ):  # fmt: skip
        gone = torch.as_tensor(rng.random(batch) < rate)
        for channel in channels:
            tower[gone, channel] = 0
    c = torch.zeros(batch, 6, 64, dtype=labels.dtype)
    for is_clip, shape in ((False, (batch, 6, 8, 2, 8, 2)), (True, (batch, 6, 4, 4, 2, 4, 2))):
        coarse = labels.reshape(shape).amax(dim=(-3, -1)).reshape(batch, 6, 64)
        c = torch.where((clips == is_clip)[:, None, None], coarse, c)
    c[:, CHAR:] = 0
    c[torch.as_tensor(rng.random(batch) < 0.5), COLOR] = 0
    for tower, rate in ((a, 0.15), (b, 0.05), (c, 0.4)):
        gone = torch.as_tensor(rng.random((batch, 1, tower.shape[2])) < rate * rng.random((batch, 1, 1)))
        tower.masked_fill_(gone, 0)
    return torch.cat([a, b, c], dim=2)


def choose_cells(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Index [batch, k] of every labelled cell and a few empty ones, in order."""
    full = (labels > 0).any(1)
    k = min(int(full.sum(1).max()) + int(rng.integers(2, 20)), labels.shape[2])
    noise = torch.as_tensor(rng.random(full.shape))
    return (full + 0.5 * noise).topk(k, dim=1).indices.sort(dim=1).values


def gather_cells(labels: Tensor, index: Tensor) -> Tensor:
    return labels.gather(2, index[:, None].expand(-1, 6, -1))
