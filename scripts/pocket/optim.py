"""Muon for the matrices, AdamW for the rest, on fp32 masters of a model in bf16 where the machine multiplies in it."""

import torch
from torch import Tensor, nn

SLOW = 0.3  # learning rate of what is already trained, relative to the rest
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)


def working_dtype() -> torch.dtype:
    """bf16 where the device multiplies in it; a CPU that does not is tens of times slower with it than with fp32."""
    fast = torch.get_default_device().type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024); matrices of one shape go in one batch."""

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.03) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for shape, params in shapes.items():
                for p in params:
                    self.state[p].setdefault("momentum", torch.zeros_like(p)).lerp_(p.grad, 1 - group["momentum"])
                grads = torch.stack([p.grad for p in params])
                update = orthogonalise(
                    grads.lerp(torch.stack([self.state[p]["momentum"] for p in params]), group["momentum"])
                )
                scale = 0.2 * max(shape) ** 0.5  # the root-mean-square of an AdamW step
                for p, u in zip(params, update, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(u, alpha=group["lr"] * scale)


def orthogonalise(x: Tensor, steps: int = 4) -> Tensor:
    """[n, rows, cols] -> the nearest matrices with all singular values about 1."""
    a, b, c = NEWTON_SCHULZ
    tall = x.shape[1] > x.shape[2]
    x = (x.mT if tall else x).contiguous()
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(working_dtype())
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).float()


def is_matrix(name: str, p: Tensor) -> bool:
    """Muon is for the matrices inside: tables of embeddings, heads and positions belong to AdamW."""
    return p.ndim == 2 and not any(part in name for part in ("embed", "position", "head", "fine", "kind"))


class MasterWeights:
    """fp32 copies of the trained parameters; the model itself computes in `working_dtype`, or in another one."""

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        trained: list[str] | None = None,
        slow: str = "",
        dtype: torch.dtype | None = None,
    ) -> None:
        keep_fp32 = {name: buffer.clone() for name, buffer in model.named_buffers() if "inv_freq" in name}
        names = [n for n, _ in model.named_parameters() if trained is None or n.startswith(tuple(trained))]
        self.masters = {n: p.detach().float().clone() for n, p in model.named_parameters() if n in names}
        model.to(dtype or working_dtype())
        for name, buffer in keep_fp32.items():  # rounding the rotary frequencies ruins long positions
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, buffer)
        own = dict(model.named_parameters())
        for name, p in own.items():
            p.requires_grad_(name in self.masters)
        self.params = [own[n] for n in self.masters]
        self.optimizers: list[torch.optim.Optimizer] = []
        for is_slow, rate in ((False, lr), (True, SLOW * lr)):
            mine = {n: m for n, m in self.masters.items() if (bool(slow) and n.startswith(slow)) == is_slow}
            matrices = [m for n, m in mine.items() if is_matrix(n, m)]
            others = [m for n, m in mine.items() if not is_matrix(n, m)]
            if mine:
                self.optimizers.append(Muon(matrices, rate))
                adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, foreach=True)
                self.optimizers.append(adam)
        self.rates = [optimizer.defaults["lr"] for optimizer in self.optimizers]

    def step(self, factor: float) -> float:
        """One update at `factor` times the learning rate; returns the gradient norm before clipping to 1."""
        for master, p in zip(self.masters.values(), self.params, strict=True):
            master.grad = p.grad.float() if p.grad is not None else torch.zeros_like(master)
            p.grad = None
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.masters.values()), 1.0))
        if not norm < float("inf"):
            return norm
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
        with torch.no_grad():
            for master, p in zip(self.masters.values(), self.params, strict=True):
                p.copy_(master)
        return norm

    def state(self) -> dict:
        return {"masters": self.masters, "optimizers": [o.state_dict() for o in self.optimizers]}

    def restore(self, state: dict) -> None:
        with torch.no_grad():
            for (name, master), p in zip(self.masters.items(), self.params, strict=True):
                if name in state["masters"]:
                    master.copy_(state["masters"][name])
                    p.copy_(master)
        if len(state["optimizers"]) != len(self.optimizers):  # a phase that now trains more than before: fresh momentum
            return
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
