"""A tiny random checkpoint of each family that transformers ships, in the library's own classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from tests.hub_pieces import CHAT, IMAGE, VIDEO, Library, clip, enliven, llama, siglip, tokenizer

__all__ = ["FAMILIES"]


def _of_clip(kind: Any, images: Any) -> Any:
    """A processor before `clip`, whose class token is not for the language model."""
    return kind(
        images,
        tokenizer("<image>"),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )


def _llava() -> Library:
    config = transformers.LlavaConfig(vision_config=clip(), text_config=llama(), image_token_index=IMAGE)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = _of_clip(transformers.LlavaProcessor, images)
    return Library(enliven(transformers.LlavaForConditionalGeneration(config), 3), processor)


def _deepseek() -> Library:
    config = transformers.DeepseekVLHybridConfig(
        vision_config=siglip(),
        high_res_vision_config={
            "model_type": "sam_vision_model",
            "hidden_size": 32,
            "mlp_dim": 48,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "window_size": 3,
            "global_attn_indexes": [1, 3],
            "output_channels": 8,
        },
        text_config=llama(),
        image_token_id=IMAGE,
        tie_word_embeddings=False,
    )
    images = transformers.DeepseekVLHybridImageProcessor(
        size={"height": 32, "width": 32},
        high_res_size={"height": 64, "width": 64},
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.5, 0.5, 0.5),
    )
    processor = transformers.DeepseekVLHybridProcessor(
        images,
        tokenizer("<image>"),
        chat_template=(
            "{% for m in messages %}USER: {% for c in m['content'] %}"
            "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
            "{% endfor %}\n\n{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
        ),
        num_image_tokens=16,
    )
    return Library(enliven(transformers.DeepseekVLHybridForConditionalGeneration(config), 4), processor)


PINPOINTS = [[32, 64], [64, 32], [64, 64]]


def _llava_next() -> Library:
    config = transformers.LlavaNextConfig(
        vision_config=clip(), text_config=llama(), image_token_index=IMAGE, image_grid_pinpoints=PINPOINTS
    )
    images = transformers.LlavaNextImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=PINPOINTS
    )
    processor = _of_clip(transformers.LlavaNextProcessor, images)
    return Library(enliven(transformers.LlavaNextForConditionalGeneration(config), 5), processor)


def _llava_onevision() -> Library:
    pinpoints = [[32, 64], [64, 64]]
    config = transformers.LlavaOnevisionConfig(
        vision_config=siglip(),
        text_config=llama(model_type="qwen2"),
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        image_grid_pinpoints=pinpoints,
        vision_aspect_ratio="anyres_max_1",
    )
    size = {"height": 32, "width": 32}
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer("<image>", "<video>", begin=False),
        transformers.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHAT,
        vision_aspect_ratio="anyres_max_1",
    )
    return Library(enliven(transformers.LlavaOnevisionForConditionalGeneration(config), 6), processor)


QWEN_SIZE = {"shortest_edge": 16 * 16, "longest_edge": 40 * 40}  # in pixels
QWEN_IDS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": 6, "vision_end_token_id": 7}


def _qwen_vision(**more: Any) -> dict[str, Any]:
    return {
        "depth": 5,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_heads": 2,
        "out_hidden_size": 48,
        "patch_size": 4,
        **more,
    }


def _qwen_processor(kind: type[Any], videos: Any) -> Any:
    """The processor of a Qwen, whose template encloses images and videos alike."""
    chat = CHAT
    for seen in ("<image>", "<video>"):
        chat = chat.replace(f"{seen}\n", f"<vision_start>{seen}<vision_end>")
    images = transformers.Qwen2VLImageProcessor(size=QWEN_SIZE, patch_size=4)
    words = tokenizer("<image>", "<video>", "<vision_start>", "<vision_end>", begin=False)
    return kind(images, words, videos, chat_template=chat)


def _qwen() -> Library:
    config = transformers.Qwen2_5_VLConfig(
        vision_config=_qwen_vision(window_size=16, tokens_per_second=2, fullatt_block_indexes=[1, 4]),
        text_config=llama(
            model_type="qwen2_5_vl_text",
            rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]},
        ),
        **QWEN_IDS,
    )
    videos = transformers.Qwen2VLVideoProcessor(size=QWEN_SIZE, patch_size=4)
    processor = _qwen_processor(transformers.Qwen2_5_VLProcessor, videos)
    return Library(enliven(transformers.Qwen2_5_VLForConditionalGeneration(config), 7), processor)


def _qwen3_config(kind: type[Any], **text: Any) -> Any:
    return kind(
        vision_config=_qwen_vision(num_position_embeddings=36, deepstack_visual_indexes=[0, 2]),
        text_config=llama(
            model_type=f"{kind.model_type}_text",
            head_dim=16,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
            **text,
        ),
        **QWEN_IDS,
    )


def _qwen3_processor() -> Any:
    size = {**QWEN_SIZE, "longest_edge": 4 * QWEN_SIZE["longest_edge"]}
    videos = transformers.Qwen3VLVideoProcessor(size=size, patch_size=4, cap_pixels_per_frame=False)
    return _qwen_processor(transformers.Qwen3VLProcessor, videos)


def _qwen3() -> Library:
    config = _qwen3_config(transformers.Qwen3VLConfig)
    return Library(enliven(transformers.Qwen3VLForConditionalGeneration(config), 8), _qwen3_processor())


def _qwen3_moe() -> Library:
    config = _qwen3_config(
        transformers.Qwen3VLMoeConfig, moe_intermediate_size=20, num_experts=6, num_experts_per_tok=2
    )
    return Library(enliven(transformers.Qwen3VLMoeForConditionalGeneration(config), 10), _qwen3_processor())


def _internvl() -> Library:
    config = transformers.InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 5,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "use_qk_norm": True,
            "norm_type": "rms_norm",
        },
        text_config=llama(model_type="qwen3", head_dim=16),
        image_token_id=IMAGE,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    size = {"height": 32, "width": 32}
    called = ("context_image", "video", "start_image", "end_image")
    words = tokenizer("<IMG_CONTEXT>", "<video>", "<img>", "</img>", begin=False, called=called)
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=size, max_patches=4),
        words,
        transformers.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=CHAT.replace("<image>", "<IMG_CONTEXT>"),
    )
    return Library(enliven(transformers.InternVLForConditionalGeneration(config), 9), processor)


SMOL_CHAT = (  # as the published ones write it: a space behind the colon where no image follows
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def _smol_words() -> Any:
    """Bytes, some of them joined, as the published tokenizers have it: line breaks depend on what follows."""
    places = [f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)]
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", *places, "<|im_start|>", "<end_of_utterance>"]
    named = ["<pad>", "<s>", "</s>", "<unk>", *marks]
    merges = [("\u010a", "\u010a"), ("\u0120", "Y"), ("u", "s"), ("us", "e"), ("r", ":")]
    symbols = [*sorted(ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    made = Tokenizer(BPE({symbol: i for i, symbol in enumerate([*named, *symbols])}, merges))
    made.pre_tokenizer, made.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    made.add_special_tokens(named)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def _smolvlm() -> Library:
    words = _smol_words()
    config = transformers.SmolVLMConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 5,
            "num_attention_heads": 2,
            "image_size": 48,
            "patch_size": 8,
        },
        text_config=llama(vocab_size=len(words)),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=3,
    )
    sizes = {"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 48}}
    processor = transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(**sizes),
        words,
        transformers.SmolVLMVideoProcessor(**sizes),
        image_seq_len=4,
        chat_template=SMOL_CHAT,
    )
    return Library(enliven(transformers.SmolVLMForConditionalGeneration(config), 11), processor)


FAMILIES: dict[str, Callable[[], Library]] = {
    "llava": _llava,
    "deepseek_vl_hybrid": _deepseek,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3_moe,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
}
