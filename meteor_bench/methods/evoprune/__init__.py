"""EvoPrune: Early-Stage Visual Token Pruning (arXiv 2603.03681), section 3. Training-free, inside the encoder.

In a merge layer: attention with its residual, merge r tokens, MLP. Even tokens a, odd tokens b; each i in a picks its
best j in b by ``Score = Sim·w_div·w_attn`` and the r best edges merge a into b.

- Sim: cosine, in [0, 1].
- ``d_i = 1 - (1/K)·sum over the K nearest k of exp(-|v_i - v_k|²/tau²)``, ``w_div = exp(-lambda_d·(d_i + d_j))``:
  isolated tokens are spared.
- ``s_i``: the attention a token receives; the ``N_protect = min(CTR·T_l, T_l - 2r)`` highest are protected: an edge
  that touches one is excluded.
- Schedule: of N tokens N - T are removed, spread evenly over every other layer ("skip").

With `temporal` tokens merge across a clip's frames as well. This is ours; the paper names it as what it lacks. From
the block at the share `since` of the depth on, a token may also merge into one of the frame before it, at the same
place of the grid or at most `reach` cells away, by the same score (`shared.temporal`: runs of at most `run` frames
whose neighbours' mean tokens have a cosine of at least `alike`). Of each token the better of its two edges counts, all
of a clip's edges stand in one ranking, and at most the share `across` of a layer's merges are temporal. The highest s_i
of each frame are protected. A merged token lives in the earlier frame; a frame that has lost all tokens costs nothing
any more. The budget is the clip's, not the frame's. `turns=shuffled` is the control: neighbours in a drawn order, all
else the same.

`schedule=content` is ours, too: at the blocks of "skip", how many tokens merge follows the image, by FlowCut's rule
(arXiv 2505.19536): with n tokens, m merge layers to come and H the entropy of s over them, ``(n - T)/sqrt(m)·(1 - (H/ln
n)²)``; the last layer merges what is left above T. Flat attention postpones merging. No layer leaves more than those
to come can halve to T, so that the total is exact for every image: where a layer could not merge later what it spares,
protected tokens are its last resort, too. FlowCut has class attention for s.

Deviations. No code is public; these are our choices where the paper is silent, not the authors':

- v: hidden states after attention, L2-normalised; K = 5; lambda_d = 1; tau = the median distance to the K nearest, per
  image; merged tokens are size-weighted means; the class token takes no part; even and odd count the visual tokens of
  the current sequence; protection is decided anew at each merge layer.
- s_i is the mean over heads and queries of the attention received. (As printed it averages a softmax row, a constant.)
- Sim is clamped at 0 and edges are excluded after the product, so that no product decides about an excluded edge.
- N_protect is at least 0. Where too few legal sources are left, the rest is carried to the next merge layer; in the
  last one, protected tokens are merged as a last resort, so that the budget is exact. Without `relax`, which could make
  up for it afterwards, so they are in any layer that would leave more than those to come can halve to T.
- Merge layers of "skip" are blocks 0, 2, 4, … (`start`); "mean": all; "first", "last": that half of the blocks;
  "increasing", "decreasing": all, r growing or shrinking linearly.
- A layer merges at most half of its tokens: on CLIP-L with 12 merge layers 64 of 576 tokens can be reached and 32
  cannot. What `relax` does about it, and several encoders: see `shared.merging`. At a convolutional encoder's output
  the score has no attention term.
- `temporal`: at an encoder's output, where merges there are needed at all, tokens pair across the whole clip, whatever
  their frames. Frames of different lengths are padded, which costs time and is not in the FLOPs.
"""
