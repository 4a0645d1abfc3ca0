"""What the explorer computes of fields: against other code for the same, and against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image

from milcnn.baselines.segment import SegmentSettings, segment
from milcnn.columns import FIELD_KEY
from milcnn.explore import drawn, shown, start, view
from milcnn.localise.maps import class_map
from milcnn.network.model import load_model
from milcnn.network.predict import predict_fields
from milcnn.paths import ROOT
from milcnn.prepare.prepared import load_prepared
from milcnn.screens.screen import Screen

SAMPLE = ROOT / "data" / "sample"
SETTINGS = SegmentSettings(sigma=2, seed_distance=10)


@pytest.fixture(scope="module")
def network():
    return load_model(SAMPLE / "models" / "noisy_and-0" / "model.safetensors")


@pytest.fixture(scope="module")
def sample(network):
    return shown.shown_study(load_prepared(SAMPLE / "prepared"), network, None, None, SETTINGS)


def table(**columns):
    length = len(next(iter(columns.values())))
    key = {"Metadata_Plate": "P", "Metadata_Well": [f"A{n + 1:02}" for n in range(length)], "Metadata_Site": 1}
    return pd.DataFrame({**key, **columns})


def of_table(fields, profiles=None):
    read = lambda row: np.zeros((1, 8, 8), np.uint16)  # noqa: E731
    given = {} if profiles is None else {"profiles": profiles}
    return shown.Shown(fields, read, ["c"], ["a", "b"], SETTINGS, **given)


def test_loss_is_minus_the_logarithm_of_y_and_of_several_labels_the_least():
    fields = table(
        Metadata_Label=["a", "b", "a|b", "", "a"], predicted=["a", "a", "a|b", "a", "a"],
        y_a=[0.8, 0.9, 0.7, 0.6, np.nan],
        y_b=[0.2, 0.1, 0.6, 0.4, np.nan],
    )  # fmt: skip
    found = shown.with_loss(fields, ["a", "b"])
    np.testing.assert_allclose(found["loss"], [-np.log(0.8), -np.log(0.1), -np.log(0.6), np.nan, np.nan])
    np.testing.assert_equal(found["correct"].to_numpy(), [1, 0, 1, np.nan, np.nan])


def test_the_worst_field_comes_first_by_loss_then_by_unseen_then_by_how_unsure_it_is():
    assert shown.worst_first(of_table(table(loss=[0.1, np.nan, 3, 0.5]))) == [2, 3, 0, 1]
    assert shown.worst_first(of_table(table(unseen=[0.1, 9, 3], y_a=[1, 1, 0]))) == [1, 2, 0]
    assert shown.worst_first(of_table(table(y_a=[0.9, 0.5, 0.2], y_b=[0.1, 0.5, 0.8]))) == [1, 2, 0]


def test_predictions_are_those_of_the_network_also_where_the_table_is_not_sorted_alike(sample, network):
    ready = load_prepared(SAMPLE / "prepared")
    direct, _ = predict_fields(network, ready, ready.fields)
    mixed = direct.sample(frac=1, random_state=0)
    again = shown.shown_study(ready, network, mixed, None, SETTINGS).fields
    for fields in (sample.fields, again):
        assert fields[FIELD_KEY].equals(ready.fields[FIELD_KEY])
        np.testing.assert_allclose(fields["P_3"], direct["P_3"])


def test_maps_and_cells_are_those_of_the_study(sample, network):
    pixels = load_prepared(SAMPLE / "prepared").pixels(sample.fields.iloc[[4]])
    np.testing.assert_array_equal(shown.pixels_at(sample, 4), pixels[0])
    expected = class_map(network, torch.from_numpy(pixels), 4)[0].numpy()
    np.testing.assert_allclose(shown.maps_at(sample, 4)[4], expected, atol=2e-3)
    np.testing.assert_array_equal(shown.cells_at(sample, 4), segment(pixels[0], sample.channels, SETTINGS)[1])


def test_a_cell_is_labelled_if_the_mean_of_the_map_in_it_reaches_the_threshold(sample):
    cells, values = shown.cells_at(sample, 4), shown.maps_at(sample, 4)[4].astype(float)
    limit = float(np.median([values[cells == number].mean() for number in range(1, cells.max() + 1)]))
    found = shown.cell_table(sample, 4, 4, limit)
    means = [values[cells == number].mean() for number in found["object"]]
    np.testing.assert_allclose(found["score_5"], means, rtol=1e-3)
    assert 0 < found["labelled"].sum() < len(found)
    np.testing.assert_array_equal(found["labelled"], np.array(means) >= limit)
    assert not shown.cell_table(sample, 4, None, 0.3)["labelled"].any()


def test_the_table_of_cells_starts_with_those_of_the_class(sample):
    listed = drawn.cells_listed(sample, 4, drawn.Overlay(4, 0.3))
    assert listed["p 5"].is_monotonic_decreasing
    assert "area_um2" not in listed  # the pixel size is not known


def test_nearest_fields_are_those_of_the_largest_cosine():
    features = np.random.default_rng(0).normal(3, 2, (6, 4)).astype(np.float32)
    features[5] = features[2] * 1.01
    names = table(x=range(6))[FIELD_KEY]
    profiles = pd.concat([names, pd.DataFrame(features).add_prefix("feature_")], axis=1).drop(index=1)
    one = of_table(table(x=range(6)), profiles)
    kept = features[[0, 2, 3, 4, 5]]
    on_screen = (kept - kept.mean(0)) / kept.std(0)
    cosine = [on_screen[1] @ other / np.linalg.norm(on_screen[1]) / np.linalg.norm(other) for other in on_screen]
    order = [[0, 2, 3, 4, 5][place] for place in np.argsort(cosine)[::-1] if place != 1]
    assert shown.nearest_rows(one, 2, 3) == order[:3]
    assert shown.nearest_rows(one, 2, 9) == order
    assert shown.nearest_rows(one, 1, 3) == []
    assert shown.nearest_rows(of_table(table(x=range(6))), 2, 3) == []


def test_top_cells_are_the_highest_places_of_the_map_in_the_surest_fields(sample):
    cells = shown.top_cells(sample, 2, 3)
    surest = sample.fields["P_3"].nlargest(3).index
    assert set(cells["row"]) == set(surest)
    for _, cell in cells.iterrows():
        values = shown.maps_at(sample, int(cell["row"]))[2]
        assert values[int(cell["y"]), int(cell["x"])] == values.max() == np.float16(cell["p"])
    assert cells["p"].is_monotonic_decreasing


def test_the_picture_of_a_field_is_its_pixels_and_the_map_changes_only_where_it_is_high(sample):
    channels = [view.Channel("#FFFFFF", 0, 255)]
    look = drawn.Looked(channels, view.Frame(48, 48), drawn.Overlay())
    plain = np.asarray(drawn.field_picture(sample, 4, look)).astype(int)
    field = shown.pixels_at(sample, 4)[0]
    expected = np.asarray(Image.fromarray(field).resize((560, 560), Image.Resampling.BILINEAR))
    assert np.abs(plain[:500, ..., 1] - expected[:500]).max() <= 1  # the scale bar is below
    mapped = np.asarray(drawn.field_picture(sample, 4, drawn.Looked(channels, look.frame, drawn.Overlay(4, 0.3))))
    high = view.on_screen(shown.maps_at(sample, 4)[4], (0, 0, *field.shape[::-1]), plain.shape[1::-1]) >= 0.3
    different = (mapped != plain).any(axis=2)
    near = np.pad(high, 1)
    near = sum(np.roll(near, shift, (0, 1)) for shift in np.ndindex(3, 3))[2:, 2:] > 0
    assert different[high].mean() > 0.95
    assert not different[~near].any()


def test_scored_plates_are_read_with_their_files(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4000, (3, 20, 30)).astype(np.uint16)
    for number, plane in enumerate(pixels):
        tifffile.imwrite(tmp_path / f"{number}.tif", plane)
    fields = table(y_a=[0.5, 0.9, 0.2], y_b=[0.5, 0.1, 0.8], unseen=[0.1, 3.0, 0.2])
    fields["Path_DNA"] = [str(tmp_path / f"{number}.tif") for number in range(3)]
    fields.assign(Metadata_Plate="P1").to_parquet(tmp_path / "P1.parquet")
    fields.assign(Metadata_Plate="P2").to_parquet(tmp_path / "P2.parquet")
    explorer = start.explore(tmp_path)
    assert explorer.shown.classes == ["a", "b"]
    assert explorer.title.value.startswith("<b>P1/A02/1</b>")  # the least seen
    np.testing.assert_array_equal(shown.pixels_at(explorer.shown, 5), pixels[2:])
    assert explorer.map.of.options == ("none",)


def test_scored_plates_without_paths_are_read_by_their_screen(tmp_path):
    fields = table(Metadata_Label=["a", "b", "a"])
    read = lambda row: np.full((1, 20, 30), ord(row["Metadata_Well"][-1]), np.uint16)  # noqa: E731
    screen = Screen(fields.iloc[::-1].reset_index(drop=True), ["DNA"], ["a", "b"], read, pixel_size=0.5)
    scores = fields.assign(
        reason=["", "truncated", ""], unseen=[1.0, np.nan, 2.0], y_a=0.5, y_b=0.5, feature_0000=[0.0, 1, 2]
    )
    scores.drop(columns="Metadata_Label").to_parquet(tmp_path / "P.parquet")
    with pytest.raises(ValueError, match="do not name the images; give the screen that was scored"):
        start.explore(tmp_path)
    one = start.explore(tmp_path, screen=screen).shown
    assert one.fields["Metadata_Well"].tolist() == ["A01", "A03"]  # the other could not be read
    assert [int(shown.pixels_at(one, row).max()) for row in (0, 1)] == [ord("1"), ord("3")]
    assert one.pixel_size == 0.5
    with pytest.raises(ValueError, match="field P/A09/1 is not in the screen"):
        one.read(fields.iloc[0].replace("A01", "A09"))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no Parquet table here; name the folder that milcnn score wrote"):
        start.explore(tmp_path)
    pd.DataFrame({"Metadata_Plate": ["P"], "Metadata_Site": [1]}).to_parquet(tmp_path / "P.parquet")
    with pytest.raises(ValueError, match="no column Metadata_Well; the explorer needs plate, well and site"):
        start.explore(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data/prepared/unknown.*run the prepare stage first"):
        start.explore("unknown")
    with pytest.raises(FileNotFoundError, match=r"models/unknown: no trained network here"):
        start.opened_run("unknown")


def test_marks_lie_beside_the_table_and_cells_are_segmented_as_the_study_says():
    assert start.marks_file("bbbc016") == ROOT / "data" / "bbbc016" / "marks.csv"
    assert start.marks_file("digits") == ROOT / "data" / "digits" / "marks.csv"
    assert start.segmentation_of("digits") == SETTINGS
    turn = start.segmentation_of("micronuclei-rotation2")  # a turn has no file of its own
    assert turn == start.segmentation_of("micronuclei") != start.segmentation_of("fields of nobody")
