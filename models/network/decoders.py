"""The decoder of SegRNN: every segment of the horizon is one recurrent step away from the final state."""

from __future__ import annotations

from torch import Tensor, nn


class RecurrentStep(nn.Module):
    """One step of a gated cell from the final state for each horizon segment, all of them at once; then dropout.

    The query says which segment, which series and which calendar; the gates choose what of the state bears on it.
    The cell is its own: stepping the encoder's cell again, as SegRNN does, had 1.2 % more squared error on ETTh1's
    validation part.
    """

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.cell = nn.GRUCell(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, final: Tensor) -> Tensor:
        """Queries (B, X, D) and final state (B, D) to segment states (B, X, D)."""
        state = final[:, None].expand_as(queries)  # (B, X, D)
        stepped = self.cell(queries.flatten(0, 1), state.flatten(0, 1))  # (B * X, D)
        dropped: Tensor = self.dropout(stepped.view_as(queries))
        return dropped
