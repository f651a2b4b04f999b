"""SASRec (Kang and McAuley 2018, arXiv:1808.09781) with pre-norm: causal self-attention over steps."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.models.neural import NeuralModel


class Block(nn.Module):
    """Pre-norm transformer block with causal attention."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.norm_attention(x)))
        out: Tensor = x + self.drop(self.mlp(self.norm_mlp(x)))
        return out

    def attention(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, D/heads)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, dim))
        return out


class SASRec(NeuralModel):
    """See the module's docstring; embed_dim must be a multiple of num_heads."""

    family = "sasrec"

    def __init__(self, *, num_layers: int, num_heads: int, purchase_code: int, **shared: Any) -> None:
        super().__init__(purchase_code=purchase_code, **shared)
        if num_heads < 1 or self.dim % num_heads:
            raise ValueError(f"embed_dim={self.dim} must be a multiple of num_heads={num_heads}")
        self.blocks = nn.ModuleList(Block(self.dim, num_heads, shared["dropout"]) for _ in range(num_layers))

    def mix(self, tokens: Tensor, time: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens
