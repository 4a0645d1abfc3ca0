"""The MIL-CNN: geometry, start values, weight file."""

import pytest
import torch
from safetensors.torch import save_file

from milcnn.network import dimensions, model, pooling
from milcnn.network.model import MILCNN, ModelSettings
from milcnn.network.predict import inference_copy
from milcnn.settings import SettingsError

CLASSES = ["a", "b", "c"]


def make(seed: int = 0, **changes) -> MILCNN:
    torch.manual_seed(seed)
    start = {"study": "s", "channels": ["x", "y"], "classes": CLASSES, "width": 0.06, "padding": "same"}
    settings = ModelSettings(**(start | {"normalisation": "group"} | changes))
    n = len(settings.channels)
    return MILCNN(settings, [10.0, 20.0][:n], [2.0, 4.0][:n])


def fields(n: int = 2, side: int = 135, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 60, (n, 2, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_the_papers_network():
    """0.48 M weights for one channel and nine classes; 24 × 24 instances of a 900 px field, 12 × 12 of 512 px."""
    digits = {"channels": ["x"], "classes": list("123456789"), "width": 1.0, "padding": "valid", "pooling": "mean"}
    network = make(normalisation="none", **digits)
    n_weights = sum(weight.numel() for weight in network.parameters())
    assert n_weights == (
        (32 * 9 + 32) + (64 * 32 * 9 + 64) + (64 * 64 * 25 + 64) + (128 * 64 * 9 + 128) + (128 * 128 * 9 + 128)
        + (1000 * 128 + 1000) + (9 * 1000 + 9) + (81 + 9)
    )  # fmt: skip
    assert round(n_weights / 1e6, 2) == 0.48
    small = make(normalisation="none", **(digits | {"width": 0.03})).eval()
    for side, instances in ((900, 24), (512, 12), (135, 1)):
        assert small(torch.zeros(1, 1, side, side)).instances.shape == (1, 9, instances, instances)


@pytest.mark.parametrize(("trunk", "reach"), [("paper", dimensions.RECEPTIVE_FIELD), ("residual", None)])
def test_stride_and_receptive_field(trunk, reach):
    """An instance moves by one when the field moves by 32 px, and depends on no pixel outside its receptive field."""
    if trunk == "residual":
        pytest.importorskip("monai")
    padding = "valid" if trunk == "paper" else "same"
    normalisation = "none" if trunk == "paper" else "batch"  # group statistics see the whole field
    network = make(trunk=trunk, padding=padding, normalisation=normalisation).double().eval()
    side = 2 * 135 + 64 if reach else 512
    pixels = fields(1, side).double().requires_grad_()
    scores = network(pixels).scores
    middle = scores.shape[-1] // 2
    (gradient,) = torch.autograd.grad(scores[0, :, middle, middle].sum(), pixels)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero()[:, 0]
    if reach:
        assert rows[0] >= middle * dimensions.STRIDE
        assert rows[-1] < middle * dimensions.STRIDE + reach
        assert rows[-1] - rows[0] > reach // 2
        moved = network(pixels[:, :, dimensions.STRIDE :]).scores
        torch.testing.assert_close(moved, scores[:, :, 1:], atol=1e-4, rtol=1e-4)
    else:
        assert scores.shape[-1] == 512 // dimensions.STRIDE
        assert rows[-1] - rows[0] < 435


def test_pixels_are_standardised_by_the_model():
    network = make().eval()
    plain = make().eval()
    plain.mean.zero_()
    plain.std.fill_(1)
    by_hand = (fields().float() - torch.tensor([10.0, 20.0]).view(2, 1, 1)) / torch.tensor([2.0, 4.0]).view(2, 1, 1)
    torch.testing.assert_close(network(fields()).logits, plain(by_hand).logits)
    torch.testing.assert_close(network(fields()).logits, network(fields().to(torch.uint16)).logits)


@pytest.mark.parametrize("name", [*pooling.POOLINGS, "noisy_and-learn_a1"])
def test_output_follows_the_equations(name):
    """p = σ(z), P = σ(pooling(z)), y = W P + b, a batch is its fields one by one, for every pooling."""
    network = make(pooling=name).eval()
    output = network(fields())
    torch.testing.assert_close(output.instances, torch.sigmoid(output.scores))
    torch.testing.assert_close(output.logits, output.bags @ network.head.weight.T + network.head.bias)
    if not isinstance(network.pooling, pooling.Attention):
        torch.testing.assert_close(output.bags, network.pooling(output.scores).sigmoid())
    alone = [network(fields()[i : i + 1]).logits for i in (0, 1)]
    torch.testing.assert_close(output.logits, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_attention_looks_at_the_features_of_the_trunk():
    network = make(pooling="attention").eval()
    torch.nn.init.normal_(network.pooling.weights.weight)
    standardised = (fields().float() - network.mean) / network.std
    output, features = network(fields()), network.trunk(standardised)
    torch.testing.assert_close(output.bags, network.pooling(output.scores, features=features).sigmoid())


def test_masked_instances_do_not_count():
    network = make(pooling="mean").eval()
    output = network(fields())
    mask = torch.zeros(output.scores.shape[0], *output.scores.shape[2:], dtype=torch.bool)
    mask[:, 1, 2] = True
    torch.testing.assert_close(network(fields(), mask).bags, output.instances[:, :, 1, 2])


@pytest.mark.parametrize("name", pooling.POOLINGS)
def test_start(name):
    """Scores start at σ(start_bias) for an empty field, and y_i at 4 P_i. One seed gives one start."""
    network = make(pooling=name, normalisation="none").eval()
    nothing = torch.tensor([10.0, 20.0]).view(1, 2, 1, 1).expand(1, 2, 135, 135)
    output = network(nothing)
    expected = torch.full_like(output.instances, network.pooling.start_bias).sigmoid()
    torch.testing.assert_close(output.instances, expected)
    torch.testing.assert_close(output.logits, 4 * output.bags)
    again, other = make(pooling=name, normalisation="none"), make(1, pooling=name, normalisation="none")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert not torch.equal(network.scores.weight, other.scores.weight)


def test_statistics_of_other_channels_are_refused():
    with pytest.raises(ValueError, match="mean, std: 3 and 2 values for 2 channels"):
        MILCNN(make().settings, [1.0, 2.0, 3.0], [1.0, 2.0])


def test_probabilities_of_one_label_and_of_several():
    y = torch.tensor([[1.0, 0.0, -2.0]])
    torch.testing.assert_close(make().probabilities(y), torch.softmax(y, 1))
    torch.testing.assert_close(make(multilabel=True).probabilities(y), torch.sigmoid(y))


@pytest.mark.parametrize("normalisation", ["batch", "group"])
def test_residual_trunk(normalisation):
    pytest.importorskip("monai")
    network = make(trunk="residual", width=0.25, normalisation=normalisation, pooling="attention")
    assert network(fields(2, 128)).scores.shape == (2, 3, 4, 4)
    with pytest.raises(SettingsError, match="trunk 'residual' needs normalisation 'batch' or 'group'"):
        make(trunk="residual", normalisation="none")


def test_residual_trunk_without_monai(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "monai.networks.nets.resnet", None)
    with pytest.raises(ImportError, match="trunk 'residual' needs MONAI; run 'pip install monai'"):
        make(trunk="residual")


@pytest.mark.parametrize(("capability", "width"), [("AVX2", 1.0), ("AVX2", 0.5), ("AVX512", 1.0)])
def test_the_memory_layout_changes_no_value(monkeypatch, capability, width):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    cpu = torch.device("cpu")
    assert model.memory_layout(cpu, training=False, width=width) is torch.channels_last
    trained = torch.contiguous_format if (capability, width) == ("AVX2", 1.0) else torch.channels_last
    assert model.memory_layout(cpu, training=True, width=width) is trained
    network = make(dropout=0.0, dropout_dense=0.0, width=width)
    for ours, true in zip(network.train()(fields()), network.eval()(fields()), strict=True):
        torch.testing.assert_close(ours, true, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_scorer_has_no_normalisation_left_and_the_same_outputs(padding):
    network = make(normalisation="batch", pooling="attention", padding=padding)
    for _ in range(3):
        network(fields(4))  # batch statistics move away from their start
    with torch.no_grad():
        for layer in network.trunk.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 2)
                layer.bias.normal_()
    folded = inference_copy(network)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    for ours, theirs in zip(folded(fields()), network.eval()(fields()), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


# -------------------------------------------------------------------------------------------------- file


@pytest.mark.parametrize("changes", [{}, {"normalisation": "batch", "pooling": "gated_attention", "multilabel": True}])
def test_saved_and_loaded_is_the_same(tmp_path, changes):
    network = make(**changes)
    network(fields(4))  # batch statistics move
    model.save_model(network, tmp_path / "model.safetensors")
    loaded = model.load_model(tmp_path / "model.safetensors", "s")
    assert loaded.settings == network.settings
    assert not loaded.training
    torch.testing.assert_close(loaded(fields()).logits, network.eval()(fields()).logits)
    model.save_model(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_refusals(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such checkpoint"):
        model.load_model(path)
    model.save_model(make(), path)
    with pytest.raises(ValueError, match="is a checkpoint of study 's', not 'other'"):
        model.load_model(path, "other")
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a checkpoint of milcnn"):
        model.load_model(path)
    path.write_bytes(b"no tensors at all")
    with pytest.raises(ValueError, match="not a checkpoint of milcnn"):
        model.load_model(path)
    wide = make(width=0.12).settings.model_dump_json()
    save_file(dict(make().state_dict()), path, metadata={"settings": wide})
    misfit = "weights do not fit their settings: "
    with pytest.raises(ValueError, match=misfit + r"trunk\.1\.weight is \(2, 2, 3, 3\) and \(4, 2, 3, 3\); train it"):
        model.load_model(path)
    save_file({"w": torch.zeros(1)}, path, metadata={"settings": wide})
    with pytest.raises(ValueError, match=misfit + r"mean is none and \(2, 1, 1\)"):
        model.load_model(path)
    save_file({"w": torch.zeros(1)}, path, metadata={"settings": '{"study": "s"}'})
    with pytest.raises(ValueError, match=r"not a checkpoint of milcnn \(ModelSettings: 'channels'[^\n]* missing"):
        model.load_model(path)


def test_fields_of_other_channels_are_refused():
    with pytest.raises(ValueError, match="fields: 1 channels; this network was made for x, y"):
        make()(fields()[:, :1])


def test_a_masked_instance_is_not_in_the_profile_either():
    network = make().eval()
    whole, left = fields(1, 198), torch.tensor([[[True, True, False, False, False]] * 5])
    output = network(whole, left)
    features = network.features(whole)[0, :, :, :2]
    torch.testing.assert_close(output.profiles[0], features.mean(dim=(1, 2)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wide": 1}, "ModelSettings: 'wide' is unknown; perhaps 'width' is meant"),
        ({"normalisation": "layer"}, "'normalisation' = 'layer': Input should be 'none', 'batch' or 'group'"),
        ({"classes": ["one"]}, "'classes' = .* at least 2 items"),
        ({"pooling": "median"}, "pooling: 'median' is not one of noisy_and"),
    ],
)
def test_unknown_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rate", "share"), [(0.2, 51 / 256), (0.5, 0.5), (0.0, 0.0)])
def test_dropout_takes_its_share_of_each_channel_and_keeps_the_mean(kind, rate, share):
    """An odd number of values, channels last: each is dropped or scaled, alike in every channel; so is its gradient."""
    drop = model.Dropout(rate)
    ones = torch.ones(7, 3, 101, 103, dtype=kind).contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.manual_seed(1)
    first = drop(ones)
    torch.manual_seed(1)
    torch.testing.assert_close(drop(ones), first)
    assert set(first.unique().tolist()) == {torch.tensor(1 / (1 - share), dtype=kind).item()} | (
        {0.0} if rate else set()
    )
    n = ones[:, 0].numel()
    gone = (first == 0).sum(dim=(0, 2, 3)) / n
    assert ((gone - share).abs() <= 4 * (share * (1 - share) / n) ** 0.5).all()
    together = ((first == 0)[:, 0] & (first == 0)[:, 1]).float().mean()  # neighbours in memory are independent
    assert abs(together - share**2) <= 4 * (share**2 / n) ** 0.5
    first.sum().backward()
    torch.testing.assert_close(ones.grad, first.detach())
    assert drop.eval()(ones) is ones
