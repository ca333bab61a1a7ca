"""Attention of horizon queries over the encoder's states."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class CrossAttention(nn.Module):
    """Multi-head attention of queries (B, X, D) over states (B, S, D), scaled dot product."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, queries: Tensor, states: Tensor) -> Tensor:
        """(B, X, D) and (B, S, D) to (B, X, D)."""
        keys, values = self.key_value(states).chunk(2, dim=-1)  # (B, S, D) each
        mixed = functional.scaled_dot_product_attention(
            self._split(self.query(queries)), self._split(keys), self._split(values)
        )  # (B, heads, X, D / heads)
        joined: Tensor = self.out(mixed.transpose(1, 2).flatten(2))  # (B, X, D)
        return joined

    def _split(self, values: Tensor) -> Tensor:  # (B, X, D) to (B, heads, X, D / heads)
        rows, count, hidden = values.shape
        return values.reshape(rows, count, self.heads, hidden // self.heads).transpose(1, 2)


class AdditiveAttention(nn.Module):
    """Bahdanau's: the score of a query and a state is v . tanh(Wq + Us), softmax over the states."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, queries: Tensor, states: Tensor) -> Tensor:
        """(B, X, D) and (B, S, D) to (B, X, D)."""
        both = self.query(queries)[:, :, None] + self.key(states)[:, None]  # (B, X, S, D)
        weights = self.score(both.tanh()).squeeze(-1).softmax(dim=-1)  # (B, X, S)
        mixed: Tensor = self.out(weights @ states)  # (B, X, D)
        return mixed


class AttentionBlock(nn.Module):
    """Pre-norm cross-attention and a feed-forward network, both residual."""

    def __init__(self, attend: CrossAttention | AdditiveAttention, hidden: int, dropout: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(hidden)
        self.attend = attend
        self.norm = nn.LayerNorm(hidden)
        self.feed = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * hidden, hidden)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, states: Tensor) -> Tensor:
        """Queries (B, X, D) and normalised states (B, S, D) to (B, X, D)."""
        queries = queries + self.dropout(self.attend(self.query_norm(queries), states))  # (B, X, D)
        fed: Tensor = queries + self.dropout(self.feed(self.norm(queries)))  # (B, X, D)
        return fed
