"""The cascade of random weights changes what it says, layer by layer, and nothing else."""

import torch

from milcnn.localise.sanity import cascade, layers_from_the_top
from milcnn.network.model import MILCNN, ModelSettings


def network(**changes) -> MILCNN:
    torch.manual_seed(1)
    settings = {"study": "s", "channels": ["a"], "classes": ["x", "y"], "width": 0.05, "padding": "same"} | changes
    return MILCNN(ModelSettings(**settings), mean=[3.0], std=[2.0]).eval()


def test_layers_are_the_convolutions_with_their_normalisation_the_last_first():
    layers = layers_from_the_top(network(normalisation="batch"))
    assert layers[0] == ["scores"]
    assert [len(layer) for layer in layers[1:]] == [2] * 6  # each convolution and its batch normalisation
    model = network(normalisation="batch")
    indices = [int(layer[0].removeprefix("trunk.")) for layer in layers[1:]]
    assert indices == sorted(indices, reverse=True)
    named = {f"{name}.{key}" for layer in layers for name in layer for key in model.get_submodule(name).state_dict()}
    rest = set(model.state_dict()) - named
    assert all(key.split(".")[0] in {"mean", "std", "pooling", "head"} for key in rest)


def test_each_step_makes_one_layer_more_random_and_leaves_the_model():
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layers = layers_from_the_top(model)
    steps = list(cascade(model))
    assert len(steps) == len(layers) + 1
    for number, changed in enumerate(steps):
        different = {
            key.rpartition(".")[0] for key, value in changed.state_dict().items() if not torch.equal(value, before[key])
        }
        assert different == {name for layer in layers[:number] for name in layer}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, second = list(cascade(network()))[-1], list(cascade(network()))[-1]
    assert torch.equal(first.scores.weight, second.scores.weight)
    torch.manual_seed(7)
    list(cascade(first))
    assert torch.rand(1) == expected
