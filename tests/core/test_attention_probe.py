"""The probe against transformers' eager attention, and the fast kernel left as it is."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from meteor_bench.core.attention_probe import KERNEL, Probe, plainly, probing, register, unattended
from tests import tiny


def llama(kv_heads: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("padded", [False, True])
def test_rows_equal_eager_attention_with_grouped_heads(padded: bool) -> None:
    model = llama()
    ids = torch.randint(0, 40, (3, 9))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, :4] = 0
    model.set_attn_implementation("eager")
    eager = model(ids, attention_mask=mask, output_attentions=True)
    model.set_attn_implementation(register())
    rows = torch.tensor([[8, 5], [8, 6], [4, 0]])
    probe = Probe(mode="rows", rows=rows, want_keys=True)
    with torch.no_grad(), probing(probe):
        probed = model(ids, attention_mask=mask)
    expected = torch.stack([eager.attentions[1][b][:, rows[b]] for b in range(3)])
    assert probe.attention is not None and probe.keys is not None
    assert torch.allclose(probe.attention, expected, atol=1e-6)  # the last layer reported last
    assert torch.allclose(probed.logits[mask.bool()], eager.logits[mask.bool()], atol=1e-5)
    assert probe.keys.shape == (3, 9, 8)


@pytest.mark.parametrize("last", [1, 3])
@pytest.mark.parametrize("padded", [False, True])
def test_the_last_rows_need_not_be_named(padded: bool, last: int) -> None:
    model, ids, mask = llama(), torch.randint(0, 40, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, :4] = 1 - int(padded)
    model.set_attn_implementation("eager")
    eager = model(ids, attention_mask=mask, output_attentions=True).attentions[1]
    model.set_attn_implementation(register())
    probe = Probe(mode="rows", last=last)
    with torch.no_grad(), probing(probe):
        model(ids, attention_mask=mask)
    assert probe.attention is not None
    assert torch.allclose(probe.attention, eager[:, :, -last:], atol=1e-6)


def test_received_equals_the_column_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=2
    )
    model = CLIPVisionModel(config).eval()
    pixels = torch.randn(2, 3, 8, 8)
    model.set_attn_implementation("eager")
    attention = model(pixels, output_attentions=True).attentions[0]  # [2, 2, 17, 17]
    model.set_attn_implementation(register())
    queries = torch.ones(2, 17, dtype=torch.bool)
    queries[0, 3:] = False
    for chunk in (1 << 26, 40):  # all at once, and a query at a time
        monkeypatch.setattr("meteor_bench.core.received.CHUNK_CPU", chunk)
        probe = Probe(mode="received", queries=queries)
        with torch.no_grad(), probing(probe):
            model(pixels)
        mean = attention.mean(1)
        expected = torch.stack([mean[0, :3].mean(0), mean[1].mean(0)])
        assert probe.attention is not None
        assert torch.allclose(probe.attention, expected, atol=1e-6)


def test_without_a_probe_the_kernel_is_the_librarys() -> None:
    model = llama()
    ids = torch.randint(0, 40, (2, 7))
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        expected = model(ids).logits
        model.set_attn_implementation(register())
        assert torch.equal(model(ids).logits, expected)


def test_the_registered_mask_function_keeps_padding_masked() -> None:
    model = llama()
    ids = torch.randint(0, 40, (1, 6))
    model.set_attn_implementation(register())
    mask = torch.tensor([[0, 0, 1, 1, 1, 1]])
    positions = torch.tensor([[0, 0, 0, 1, 2, 3]])
    with torch.no_grad():
        padded = model(ids, attention_mask=mask, position_ids=positions).logits[:, 2:]
        alone = model(ids[:, 2:]).logits
    assert torch.allclose(padded, alone, atol=1e-5)


def test_a_probe_ends_with_its_block_even_after_an_error() -> None:
    model = llama()
    model.set_attn_implementation(register())
    probe = Probe(mode="keys", want_keys=True)
    with pytest.raises(ZeroDivisionError), probing(probe):
        raise ZeroDivisionError
    with torch.no_grad():
        model(torch.zeros(1, 3, dtype=torch.long))
    assert probe.keys is None


def test_registering_twice_is_harmless() -> None:
    assert register() == register() == KERNEL


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_plain_attention_is_the_librarys_eager_one(padded: bool) -> None:
    model = llama()
    ids = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, :4] = 0
    model.set_attn_implementation("eager")
    eager = model(ids, attention_mask=mask).logits
    model.set_attn_implementation(register())
    fast = model(ids, attention_mask=mask).logits
    with plainly():
        plain = model(ids, attention_mask=mask).logits
    seen = mask.bool()
    assert torch.equal(plain[seen], eager[seen])
    assert torch.allclose(plain[seen], fast[seen], atol=1e-5)
    assert torch.equal(model(ids, attention_mask=mask).logits, fast)  # and is over with the block


def test_a_bias_of_each_head_counts_once_each_beside_one_head_over_all() -> None:
    """As in SAM, whose heads have positions of their own: softmax over the full width with each bias, then the mean."""
    torch.manual_seed(3)
    query, key = torch.randn(2, 2, 4, 5, 6)  # [B, H, N, d] each
    bias = torch.randn(2, 4, 5, 5)
    probe = Probe(mode="received", queries=torch.ones(2, 5, dtype=torch.bool), single_head=True)
    probe.read(query, key, bias, None, causal=False, groups=1)
    wide_q, wide_k = (x.double().transpose(1, 2).reshape(2, 5, 24) for x in (query, key))
    expected = torch.zeros(2, 5, dtype=torch.float64)
    for b in range(2):
        for h in range(4):
            for i in range(5):
                row = [(wide_q[b, i] @ wide_k[b, j]) / 24**0.5 + bias[b, h, i, j].double() for j in range(5)]
                expected[b] += torch.stack(row).softmax(0) / (4 * 5)
    assert probe.attention is not None
    assert torch.allclose(probe.attention.double(), expected, atol=1e-6)


@torch.inference_mode()
def test_a_peek_reads_its_rows_and_computes_no_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    model.set_attn_implementation(register())
    whole, alone = (Probe(mode="rows", rows=torch.tensor([[8], [8]])) for _ in range(2))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("attention was computed")

    h, layer = torch.randn(2, 9, 32), model.model.layers[1].self_attn
    rotary = model.model.rotary_emb(h, torch.arange(9)[None])
    with probing(whole):
        layer(h, position_embeddings=rotary, attention_mask=None)
    monkeypatch.setattr("transformers.integrations.sdpa_attention.sdpa_attention_forward", never)
    with probing(alone), unattended():
        layer(h, position_embeddings=rotary, attention_mask=None)
    assert alone.attention is not None and whole.attention is not None
    assert torch.equal(alone.attention, whole.attention)
    with pytest.raises(AssertionError, match="attention was computed"):
        layer(h, position_embeddings=rotary, attention_mask=None)


def test_values_and_logits_beside_the_fast_kernel() -> None:
    """Against the library's projections; what nobody asked for is not kept, and the output is the same."""
    vlm = tiny.build("single")
    (tower,) = vlm.towers.values()
    with torch.inference_mode():
        x = tower.embed(torch.randn(2, 3, 48, 64)).x
        probe, idle = Probe(mode="keys", want_values=True, want_logits=True), Probe(mode="keys")
        out = [tower.attend(1, x, None, each) for each in (probe, idle, None)]
        assert torch.equal(out[0], out[2]) and torch.equal(out[1], out[2])
        assert idle.values is None and idle.logits is None and idle.keys is None
        layer = tower.model.encoder.layers[1]
        h, attention = layer.layer_norm1(x), layer.self_attn
        heads = tower.config.num_attention_heads
        q, k, v = (
            part(h).reshape(*h.shape[:2], heads, -1) for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        logits = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) * q.shape[-1] ** -0.5
        assert probe.values is not None and probe.logits is not None
        assert torch.allclose(probe.values, v, atol=1e-6)
        assert torch.allclose(probe.logits.double(), logits.mean(1), atol=1e-5)


def test_mean_logits_fit_where_each_heads_do() -> None:
    query = torch.full((1, 16, 3, 64), 25.0, dtype=torch.float16)  # 40,000 a head, of 65,504
    probe = Probe(mode="keys", want_logits=True)
    probe.read(query, query, None, None, False, 1)
    assert probe.logits is not None and probe.logits.dtype == torch.float32
    assert torch.allclose(probe.logits, torch.full((1, 3, 3), 5000.0), rtol=1e-3)
