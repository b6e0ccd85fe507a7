"""What a composition says of its parts: a vision encoder, the fusion, the language model.

`encoders` has the types of vision encoders. Names of sizes are those of transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

from meteor_bench.core.settings import Range

__all__ = [
    "DECODERS",
    "Decoder",
    "Depth",
    "Fusion",
    "Heads",
    "Inner",
    "Normal",
    "Side",
    "Tower",
    "Width",
    "Wrong",
    "wrong_heads",
]

Side = Annotated[int, Range(least=1, most=1 << 13)]
Width = Annotated[int, Range(least=1, most=1 << 16)]
Inner = Annotated[int, Range(least=1, most=1 << 18)]
Depth = Annotated[int, Range(least=1, most=512)]
Heads = Annotated[int, Range(least=1, most=1024)]
Epsilon = Annotated[float, Range(above=0, most=1)]
Normal = Literal["clip", "siglip", "imagenet"]


class Wrong(NamedTuple):
    """A value that does not fit the others: its key, and what would be right."""

    key: str
    said: str


def wrong_heads(width: int, heads: int, multiple: int, key: str = "num_attention_heads") -> Iterator[Wrong]:
    """What does not fit where heads are to be a multiple of that many channels wide."""
    if width % (heads * multiple):
        whole = f"whose heads are a multiple of {multiple} wide" if multiple > 1 else "that divides it"
        yield Wrong(key, f"expected a number {whole}, of hidden_size ({width}), found {heads}")


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A vision encoder.

    Attributes:
        about: for tables.
        pixels: whose mean and deviation its pixels have.
    """

    about: ClassVar[str]
    pixels: Normal = "clip"

    @property
    def pixels_side(self) -> int | None:
        """Pixels of the square that it sees; None where it makes its own of the whole picture."""
        raise NotImplementedError

    @property
    def side(self) -> int:
        """Cells of a side of its grid."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Channels of a token that leaves it."""
        raise NotImplementedError

    def wrong(self) -> Iterator[Wrong]:
        """What does not fit together."""
        yield from ()

    def __str__(self) -> str:
        size = f" at {self.pixels_side} px" if self.pixels_side else ""
        return f"{self.about}{size}, {self.side}x{self.side} tokens of {self.width}"


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How the towers' tokens come into the language model's space; projectors are Linear, GELU, Linear.

    Attributes:
        kind: sequence: a projector for each tower, their tokens one tower after another. channels: all towers
            resampled to one grid (bilinear, corners aligned), joined along channels, one projector.
        grid: channels: side of the common grid.
        fold: channels: towers of whose map 2 x 2 cells become channels instead.
    """

    kind: Literal["sequence", "channels"]
    grid: Side | None = None
    fold: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A language model of transformers; by default the size of a 7B Llama (Vicuna).

    Attributes:
        num_key_value_heads: by default as many as heads.
        head_dim: by default hidden_size over the heads.
    """

    hidden_size: Width = 4096
    intermediate_size: Inner = 11008
    num_hidden_layers: Depth = 32
    num_attention_heads: Heads = 32
    num_key_value_heads: Heads | None = None
    head_dim: Annotated[int, Range(least=2, most=1 << 12)] | None = None
    vocab_size: Annotated[int, Range(least=16, most=1 << 24)] = 32_000
    max_position_embeddings: Annotated[int, Range(least=1, most=1 << 27)] = 4096
    rope_theta: Annotated[float, Range(above=0, most=1e12)] = 1e4
    rms_norm_eps: Epsilon = 1e-5
    tie_word_embeddings: bool = False

    def wrong(self) -> Iterator[Wrong]:
        """What does not fit together."""
        if self.head_dim is None:
            yield from wrong_heads(self.hidden_size, self.num_attention_heads, 2)
        elif self.head_dim % 2:
            yield Wrong("head_dim", f"expected an even number, found {self.head_dim}")
        kv = self.num_key_value_heads
        if kv is not None and self.num_attention_heads % kv:
            yield Wrong("num_key_value_heads", f"expected a divisor of num_attention_heads, found {kv}")


# The decoder's type: the configuration and the model of transformers.
DECODERS: Mapping[str, tuple[str, str]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM"),
    "mistral": ("MistralConfig", "MistralForCausalLM"),
}
