"""METEOR: Multi-Encoder Collaborative Token Pruning (ICCV 2025, arXiv 2507.20842), section 3.

Three stages, each of which can be switched off (`stages`):

1. encode: every encoder is cut in three depth segments and pruned at their ends. Encoder l keeps
   ``k[b,l] = k[b]·r[b,l] / sum_l r[b,l]`` tokens at point b, r = its feature map's mean rank, measured offline.
   Shallow points drop the tokens most similar to the mean token; the deep one keeps what the class token attends to.
2. fuse: after each encoder's own projector, ``R[i,j] = sum over l != j, m of cos(z[i,j], z[m,l])``; the lowest stay.
3. decode: before one language-model layer, text→visual attention gives each head a value ``VAV[h] = sum_i a[h,i]``;
   I = the top heads; ``K = lambda·sum_{h in I} sum_i a[h,i]`` tokens stay, those with the highest attention over I.

`method.py` is the method, `stages.py` the arithmetic of the stages, `calibration.py` what is measured offline.

Deviations. No code or weights are public; these are our choices where the paper is silent, not the authors'. The code
cites them by number.

- D1, schedule. Stage 3 ends at keep·N (N: the tokens the unpruned reference feeds its language model), stage 2 at
  keep^0.4·N (`fuse_power`): the paper's 576 and 242 of 1024. Stage 1 ends at M·keep^p of the M tokens that enter,
  ``p = ln(M / (1193/1024·N)) / ln(1/0.236)``: the paper's 1193 of 1024 at its keep of 0.236, everything at keep = 1;
  p is at least 0.2, so that M <= N tokens are pruned too, and stage 1 never ends below stage 2. The points before
  its last follow a geometric series. The last active stage meets the budget exactly.
- D2, points of stage 1: at round(depth/3), round(2·depth/3) and the output; a convolutional tower is pruned at its
  output only, by similarity to the mean token. The middle point takes the shallow criterion (`middle`). Where there is
  no class token: mean attention received.
- D3, rank: the smallest rank that holds 0.99 of the spectral energy (`rank="energy"`), or the entropy effective rank. A
  numerical-rank routine's default tolerance saturates at min(N, D), which comes to `budgets="uniform"`. With unlike
  encoders that can be far better: by 16 points on `natural-independent` (docs/natural.md); on `pocket-independent`
  ranks are better by up to 1.6.
- D4, stage 2 keeps the k lowest R of all encoders together (`allocation="global"`) in sequence order, position ids
  kept. As published R is a sum, so it grows with the number of the others' tokens.
- D5, stage 3 before layer round(0.6·L) of L (`depth`, or an index as `layer`), chosen on the shipped model's
  calibration questions (docs/LOG.md): earlier, its attention does not yet say what the answer needs. It reads the mean
  of the text rows after the image, of the top half of the heads (`head_share`).
- D6, K of stage 3 is held between 1/4 and 4 times the budget (`clamp`). lambda is calibrated so that the mean K meets
  the budget; sum_i a is what a head gives the visual tokens, so K is never more than those present.
- D7, on a shared fusion (channel concatenation; training-free adaptation): stage 1 prunes inside the sequence towers at
  the two inner points only, as at the output nothing would be saved; dropped positions take their nearest kept
  neighbour's features. Stage 2 splits the first projector matrix by encoder and keeps the grid positions with the
  lowest sum of its partial projections' redundancies. Stage 3 as published.
- D8, in a windowed encoder every window keeps equally many tokens, rounded down, so that windows stay dense.
- D9, fusion before or after the projection is a choice of model: where one comes in both kinds, `projection` = post (as
  published) takes the one with a projector per encoder, pre the one that joins them before a single projector.
- D10, not offered: a resampler instead of stage 2.
"""
