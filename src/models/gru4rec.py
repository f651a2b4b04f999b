"""GRU4Rec (Hidasi et al. 2016, arXiv:1511.06939; losses of Hidasi and Karatzoglou 2018, arXiv:1706.03847).

A gated recurrent unit over steps. Its author's published code adds what made it strong: cross-entropy on negatives
drawn by popularity, item table shared between input and output (https://github.com/hidasib/GRU4Rec_PyTorch_Official).
Here it reads whole histories instead of truncated windows, on the tokens and with the repeat term of `neural`.
"""

from typing import Any

from torch import Tensor, nn

from shopkeeper.models.neural import NeuralModel


class GRU4Rec(NeuralModel):
    """See the module's docstring; the recurrent state is as long as an item vector."""

    family = "gru4rec"

    def __init__(self, *, num_layers: int, purchase_code: int, **shared: Any) -> None:
        super().__init__(purchase_code=purchase_code, **shared)
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers} must be at least 1")
        dropout = shared["dropout"] if num_layers > 1 else 0.0  # between layers
        self.gru = nn.GRU(self.dim, self.dim, num_layers, batch_first=True, dropout=dropout)

    def mix(self, tokens: Tensor, time: Tensor) -> Tensor:
        states: Tensor = self.gru(tokens)[0]
        mixed: Tensor = tokens + self.drop(states)  # the last step itself, and what the recurrence adds
        return mixed
