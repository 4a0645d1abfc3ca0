"""The response of each pooling function to simple bags, for figure 2."""

import pandas as pd
import torch

from milcnn.network.pooling import POOLINGS, make


@torch.no_grad()
def response_curves(b: float = 0.1, n_instances: int = 49) -> pd.DataFrame:
    """P against p̄ for every pooling function, on two kinds of bags; ``b`` is the threshold of Noisy-AND.

    Columns: ``pooling``; ``bag``, "equal" (every p is p̄) or "all or none" (a share p̄ of the instances has p = 1, the
    others 0); ``mean`` (p̄) and ``P``.
    """
    share = torch.linspace(0, 1, n_instances + 1, dtype=torch.float64)
    steps = torch.arange(n_instances)[None] < (share * n_instances).round()[:, None]
    bags = {"equal": share[:, None].expand(-1, n_instances), "all or none": steps.double()}
    tables = []
    for bag, p in bags.items():
        for name in POOLINGS:
            function = (make(name, 1, b=b) if name == "noisy_and" else make(name, 1)).double()
            Z = function(p[:, None].logit())[:, 0]
            curve = {"pooling": name, "bag": bag, "mean": share.numpy(), "P": Z.sigmoid().numpy()}
            tables.append(pd.DataFrame(curve))
    return pd.concat(tables, ignore_index=True)
