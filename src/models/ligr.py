"""A modern transformer over steps: gated layers that know how much time lies between any two of them.

    x <- x + sigmoid(W x) * sublayer(norm(x))

with attention and a SwiGLU feed-forward network as sublayers in turn (LiGR, Borisyuk et al. 2025, arXiv:2502.03417; on
top of SASRec, Tikhonovich et al. 2025, arXiv:2508.06450). Attention adds to each score of two steps a learned term for
how many steps, and one for how much time, lies between them. It is by softmax, or pointwise as in HSTU (Zhai et al.
2024, arXiv:2402.17152): silu(score), not normalised, so that how often something happened is not lost.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.models.neural import NeuralModel

TIME_BUCKETS = 31
"""Time between two steps, in buckets whose borders are powers of two seconds; one more where it is unknown."""

ATTENTIONS = ("softmax", "pointwise")


class LiGR(NeuralModel):
    """See the module's docstring.

    Args:
        num_heads: embed_dim must be a multiple of it.
        attention: softmax or pointwise.
    """

    family = "ligr"

    def __init__(self, *, num_layers: int, num_heads: int, attention: str, purchase_code: int, **shared: Any) -> None:
        super().__init__(purchase_code=purchase_code, **shared)
        if num_heads < 1 or self.dim % num_heads:
            raise ValueError(f"embed_dim={self.dim} must be a multiple of num_heads={num_heads}")
        if attention not in ATTENTIONS:
            raise ValueError(f"attention={attention!r} is none of {', '.join(ATTENTIONS)}")
        self.between = Between(num_heads, self.max_len)
        dropout, layers = shared["dropout"], []
        for _ in range(num_layers):
            layers += [Gated(Attention(self.dim, num_heads, pointwise=attention == "pointwise"), self.dim, dropout)]
            layers += [Gated(SwiGLU(self.dim), self.dim, dropout)]
        self.layers = nn.ModuleList(layers)

    def mix(self, tokens: Tensor, time: Tensor) -> Tensor:
        bias, visible = self.between(time)
        for layer in self.layers:
            tokens = layer(tokens, bias, visible)
        return tokens


class Gated(nn.Module):
    """x + sigmoid(W x) * sublayer(norm(x))"""

    def __init__(self, sublayer: nn.Module, dim: int, dropout: float) -> None:
        super().__init__()
        self.sublayer = sublayer
        self.norm, self.gate, self.drop = nn.LayerNorm(dim), nn.Linear(dim, dim), nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, visible: Tensor) -> Tensor:
        added = self.sublayer(self.norm(x), bias, visible)
        out: Tensor = x + torch.sigmoid(self.gate(x)) * self.drop(added)
        return out


class Between(nn.Module):
    """What steps and time between two tokens add to the score of their attention; which tokens a token may see."""

    def __init__(self, heads: int, max_len: int) -> None:
        super().__init__()
        self.lag = nn.Embedding(max_len + 1, heads)
        self.time = nn.Embedding(TIME_BUCKETS + 2, heads)
        self.register_buffer("borders", 2 ** torch.arange(TIME_BUCKETS, dtype=torch.int64), persistent=False)
        self.borders: Tensor
        nn.init.zeros_(self.lag.weight)
        nn.init.zeros_(self.time.weight)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Terms (B, heads, T, T) and a mask (T, T), both by query and key, from the tokens' times (B, T)."""
        place = torch.arange(time.shape[1], device=time.device)
        lag = place[:, None] - place[None]
        elapsed = time[:, :, None] - time[:, None, :]
        bucket = (elapsed[..., None] >= self.borders).sum(dim=-1)
        known = (time[:, :, None] >= 0) & (time[:, None, :] >= 0)
        bucket = torch.where(known, bucket, TIME_BUCKETS + 1)
        bias: Tensor = self.lag(lag.clamp(min=0)) + self.time(bucket)
        return bias.permute(0, 3, 1, 2), lag >= 0


class Attention(nn.Module):
    """Causal attention over the tokens so far; pointwise, it is divided by how many they are, and normalised."""

    def __init__(self, dim: int, heads: int, *, pointwise: bool) -> None:
        super().__init__()
        self.heads, self.pointwise = heads, pointwise
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim) if pointwise else nn.Identity()

    def forward(self, x: Tensor, bias: Tensor, visible: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(2, 3) / math.sqrt(dim // self.heads) + bias  # (B, heads, T, T)
        if self.pointwise:
            weights = F.silu(scores).masked_fill(~visible, 0.0) / visible.sum(dim=-1, keepdim=True)
        else:
            weights = torch.softmax(scores.masked_fill(~visible, -torch.inf), dim=-1)
        mixed = (weights @ v).transpose(1, 2).reshape(batch, tokens, dim)
        out: Tensor = self.out(self.norm(mixed))
        return out


class SwiGLU(nn.Module):
    """W3 (silu(W1 x) * W2 x) with a hidden size of 8/3 D: as many weights as the usual 4 D without a gate."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = math.ceil(8 * dim / 3)
        self.into, self.out = nn.Linear(dim, 2 * hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, bias: Tensor, visible: Tensor) -> Tensor:
        gate, value = self.into(x).chunk(2, dim=-1)
        out: Tensor = self.out(F.silu(gate) * value)
        return out
