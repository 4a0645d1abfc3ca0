"""Do the maps depend on what the network has learned? The two checks of Adebayo 2018, arXiv 1810.03292.

A map that still scores with random weights or shuffled labels shows the edges of the image, not what the network
knows. Guided back-propagation does so: with random weights it shows the outlines of all cells. Its floor is therefore
the share of cells that carry the label, not the share of pixels.
"""

import copy
from collections.abc import Iterator

import pandas as pd
import torch
from torch import nn

from milcnn.localise.found import SegmentedFields
from milcnn.localise.maps import Mapping
from milcnn.localise.scores import score_maps
from milcnn.network.model import MILCNN
from milcnn.prepare.prepared import Prepared


def layers_from_the_top(model: MILCNN) -> list[list[str]]:
    """The names of the modules with weights from pixels to instances, layer by layer, the last first.

    A layer is a convolution and the normalisation after it. Layers after the instances do not compare pixels.
    """
    layers: list[list[str]] = []
    for name, module in model.trunk.named_modules(prefix="trunk"):
        if isinstance(module, nn.Conv2d):
            layers.append([name])
        elif layers and next(module.parameters(recurse=False), None) is not None:
            layers[-1].append(name)
    return [["scores"], *layers[::-1]]


def cascade(model: MILCNN, seed: int = 0) -> Iterator[MILCNN]:
    """Copies of ``model``: unchanged, then with one more layer, from the top, at the start weights of ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = MILCNN(model.settings)
    changed = copy.deepcopy(model)
    yield copy.deepcopy(changed)
    for layer in layers_from_the_top(model):
        for name in layer:
            changed.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
        yield copy.deepcopy(changed)


def cascade_scores(
    model: MILCNN, prepared: Prepared, fields: SegmentedFields, mappings: dict[str, Mapping], seed: int = 0
) -> pd.DataFrame:
    """``score_maps`` of every network of ``cascade``, with the number of ``random_layers``."""
    tables = [
        score_maps(changed, prepared, fields, mappings).assign(random_layers=number)
        for number, changed in enumerate(cascade(model, seed))
    ]
    return pd.concat(tables, ignore_index=True)
