"""Features of cells: compared with numpy and scikit-image, unchanged by what must not matter, and the empty cases."""

import pickle
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import regionprops

from milcnn.baselines import measure, segment
from milcnn.baselines.measure import MeasureSettings, measure_field
from milcnn.baselines.segment import SegmentSettings
from milcnn.columns import FIELD_KEY
from milcnn.prepare import fields
from milcnn.prepare.prepared import Prepared
from milcnn.screens.screen import Screen

CHANNELS = ["DNA", "Actin"]
WHITE = np.array([3000.0, 2000.0])
OTHERS = ["object", "y", "x", "area", "touches_border", "undefined"]
SIDE = 64


def discs(middles: list[tuple[int, int]], radius: float) -> np.ndarray:
    y, x = np.indices((SIDE, SIDE))
    distance = np.stack([np.hypot(y - a, x - b) for a, b in middles])
    return np.where(distance.min(0) <= radius, distance.argmin(0) + 1, 0).astype(np.uint16)


def drawn(middles=((16, 15), (20, 44), (46, 33)), seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A field (2, H, W) uint16 with textured cells, and its nuclei and cells."""
    rng = np.random.default_rng(seed)
    nuclei, cells = discs(list(middles), 5), discs(list(middles), 11)
    rough = 1 + 3 * gaussian_filter(rng.standard_normal((2, SIDE, SIDE)), (0, 2, 2))
    light = np.stack([900 * (nuclei > 0) + 150 * (cells > 0), 500 * (cells > 0)]) * rough.clip(0.2)
    return (light + rng.normal(300, 10, light.shape)).round().astype(np.uint16), nuclei, cells


def numbers(table: pd.DataFrame) -> np.ndarray:
    return table[measure.feature_names(table)].to_numpy()


@pytest.fixture(scope="module")
def fast() -> pd.DataFrame:
    """The fast features of the drawn field."""
    return measure_field(*drawn(), CHANNELS, "fast", WHITE)


def test_area_centre_intensity_and_correlation_are_those_of_numpy(fast):
    field, nuclei, cells = drawn()
    table = fast.set_index("object")
    background = np.median(field[:, cells == 0], axis=1)
    for k in (1, 2, 3):
        row = table.loc[k]
        dna, actin = (field[c] - background[c] for c in (0, 1))
        assert row["area"] == row["Cells_AreaShape_Area"] == (cells == k).sum()
        assert row["Nuclei_AreaShape_Area"] == (nuclei == k).sum()
        assert (row["y"], row["x"]) == pytest.approx([axis.mean() for axis in np.nonzero(cells == k)])
        assert row["Nuclei_Intensity_MeanIntensity_DNA"] == pytest.approx(dna[nuclei == k].mean(), rel=1e-5)
        assert row["Cells_Intensity_IntegratedIntensity_Actin"] == pytest.approx(actin[cells == k].sum(), rel=1e-5)
        assert row["Cells_Intensity_MedianIntensity_DNA"] == pytest.approx(np.median(dna[cells == k]), rel=1e-5)
        expected = np.corrcoef(dna[cells == k].clip(0, WHITE[0]), actin[cells == k].clip(0, WHITE[1]))[0, 1]
        assert row["Cells_Correlation_Pearson_DNA_Actin"] == pytest.approx(expected, rel=1e-4)
    eccentricities = [region.eccentricity for region in regionprops(cells)]
    np.testing.assert_allclose(table["Cells_AreaShape_Eccentricity"], eccentricities, rtol=1e-4, atol=1e-6)


def test_texture_is_the_mean_contrast_of_the_four_directions():
    field, nuclei, cells = drawn()
    field += 500  # no pixel of a cell is quantised to 0, which cp_measure leaves out
    field[:, cells == 0] = 300
    table = measure_field(field, nuclei, cells, CHANNELS, "fast", WHITE)
    grey = ((field[0] - 300) / WHITE[0]).clip(0, 1)
    levels = (np.round(grey * 255) / 255 * 31).astype(np.uint8)  # 8 bit, then 32 levels
    for k, contrast in enumerate(table["Cells_Texture_Contrast_3_DNA"], start=1):
        patch = np.where(cells == k, levels, 0)
        assert patch[cells == k].min() > 0
        # steps of (0, 3), (3, 3), (3, 0), (3, -3), that is 3 px along an axis and 3·√2 along a diagonal
        pairs = [graycomatrix(patch, [3], [a], 32, symmetric=True) for a in (0, np.pi / 2)]
        pairs += [graycomatrix(patch, [3 * 2**0.5], [a], 32, symmetric=True) for a in (np.pi / 4, 3 * np.pi / 4)]
        for matrix in pairs:
            matrix[0], matrix[:, 0] = 0, 0
        assert contrast == pytest.approx(np.mean([graycoprops(m, "contrast")[0, 0] for m in pairs]), rel=1e-4)


def test_a_brighter_background_changes_no_feature():
    field, nuclei, cells = drawn()
    for feature_set in ("fast", "full"):
        before, after = (
            measure_field(own, nuclei, cells, CHANNELS, feature_set, WHITE) for own in (field, field + np.uint16(50))
        )
        np.testing.assert_allclose(numbers(after), numbers(before), rtol=1e-5)


DIRECTED = ("SpatialMoment", "CentralMoment", "NormalizedMoment", "InertiaTensor_")  # a turned 6 is a 9


def test_position_changes_no_feature_and_a_quarter_turn_none_but_moments(fast):
    moved = [np.roll(array, 3, axis=-1) for array in drawn()]
    table = measure_field(*moved, CHANNELS, "fast", WHITE)
    np.testing.assert_allclose(numbers(table), numbers(fast), rtol=1e-4, atol=1e-3)
    turned = measure_field(*(np.rot90(array, axes=(-2, -1)) for array in moved), CHANNELS, "fast", WHITE)
    same = [name for name in measure.feature_names(fast) if not any(word in name for word in DIRECTED)]
    assert len(same) > 0.7 * len(measure.feature_names(fast))
    np.testing.assert_allclose(turned[same], fast[same], rtol=1e-4, atol=1e-3)


def test_labels_may_have_gaps_but_must_be_the_same_in_nuclei_and_cells(fast):
    field, nuclei, cells = drawn()
    renamed = np.array([0, 4, 9, 300], np.uint16)
    table = measure_field(field, renamed[nuclei], renamed[cells], CHANNELS, "fast", WHITE)
    assert table["object"].tolist() == [4, 9, 300]
    pd.testing.assert_frame_equal(table.drop(columns="object"), fast.drop(columns="object"))
    with pytest.raises(ValueError, match="the same numbers"):
        measure_field(field, nuclei, renamed[cells], CHANNELS)


@pytest.mark.parametrize("feature_set", ["fast", "full"])
@pytest.mark.parametrize("channels", [CHANNELS, ["DNA"]])
def test_a_field_without_cells_has_the_same_columns(feature_set, channels):
    field, nuclei, cells = (array[..., :32, :32] for array in drawn())
    count = len(channels)
    empty = measure_field(field[:count], nuclei * 0, cells * 0, channels, feature_set)
    full = measure_field(field[:count], nuclei, cells, channels, feature_set)
    assert len(empty) == 0
    assert len(full) > 0
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)
    assert list(full.columns[:6]) == OTHERS
    if count == 1:  # nuclei are cells
        assert all(name.startswith("Cells_") for name in measure.feature_names(full))


@pytest.mark.parametrize("feature_set", ["fast", "full"])
def test_one_pixel_and_a_constant_channel_give_finite_features(feature_set, fast):
    field, _, cells = drawn()
    field[1] = 70
    cells = cells.copy()
    cells[60, 60] = 4
    table = measure_field(field, cells, cells, CHANNELS, feature_set).set_index("object")
    assert np.isfinite(numbers(table)).all()
    assert (table["undefined"] > 0).all()  # no correlation with a constant channel
    assert table.loc[4, "undefined"] > table.loc[1, "undefined"]
    assert table.loc[4, "Cells_AreaShape_Area"] == 1
    assert table.loc[1, "Cells_Correlation_Pearson_DNA_Actin"] == 0
    assert (table["Cells_Intensity_MeanIntensity_Actin"] == 0).all()
    assert fast["undefined"].iloc[0] == 0  # an ordinary cell


def test_cells_at_the_border_are_marked():
    cells = discs([(6, 27), (57, 14), (33, 40)], 10)  # at the top, at the bottom, inside
    for labels in (cells, cells.T):
        assert measure.located(labels)["touches_border"].tolist() == [True, True, False]


def test_a_field_full_of_cells_has_its_minimum_as_background():
    cells = np.ones((8, 8), np.uint16)
    field = np.arange(128, dtype=np.uint16).reshape(2, 8, 8)
    table = measure_field(field, cells, cells, CHANNELS)
    assert table["Cells_Intensity_MinIntensity_Actin"].item() == 0
    assert table["Cells_Intensity_MaxIntensity_Actin"].item() == 63


WELLS = [("P1", "A1"), ("P1", "A2"), ("P2", "A1"), ("P2", "A2")]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    """Two plates of two wells of two sites; P2 A2 site 2 is blank."""
    rows = [
        {"Metadata_Plate": p, "Metadata_Well": w, "Metadata_Site": s, "Metadata_Label": "ab"[w == "A2"]}
        for p, w in WELLS
        for s in (1, 2)
    ]
    table = pd.DataFrame(rows).assign(
        Metadata_Compound=lambda t: t["Metadata_Label"].map({"a": "DMSO", "b": "X"}),
        Metadata_Concentration=lambda t: t["Metadata_Label"].map({"a": np.nan, "b": 3.0}),
        Metadata_Split=lambda t: np.where(t["Metadata_Plate"] == "P1", "train", "test"),
    )
    table.loc[table["Metadata_Site"] == 2, "Metadata_Split"] = "validation"

    def read(row: pd.Series) -> np.ndarray:
        if (row["Metadata_Plate"], row["Metadata_Well"], row["Metadata_Site"]) == ("P2", "A2", 2):
            return np.full((2, SIDE, SIDE), 300, np.uint16)
        return drawn(seed=int(row["Metadata_Well"][1]) + 2 * int(row["Metadata_Site"]))[0]

    screen = Screen(fields=table, channels=CHANNELS, classes=["a", "b"], read=read)
    return fields.prepare(screen, "toy", tmp_path_factory.mktemp("prepared") / "toy")


@pytest.fixture(scope="module")
def measured(prepared, tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("cells") / "toy"
    return folder, measure.measure_study(prepared, MeasureSettings(), folder, n_jobs=1)


def test_each_field_of_a_study_is_measured_as_it_is_alone(prepared, measured):
    folder, cells = measured
    files = ["cells.parquet", "masks/P1.npy", "masks/P2.npy"]
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == files
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "cells.parquet"), cells)
    assert list(cells.columns[:9]) == [*FIELD_KEY, *OTHERS]
    assert np.load(folder / "masks" / "P1.npy").shape == (4, 2, SIDE, SIDE)
    white = measure.white_values(prepared)
    for place in (1, 4, 7):  # both plates, and the blank field
        row = prepared.fields.iloc[place]
        field = prepared.pixels(prepared.fields.iloc[[place]])[0]
        masks = segment.segment(field, CHANNELS, SegmentSettings())
        np.testing.assert_array_equal(np.load(folder / "masks" / f"{row['Metadata_Plate']}.npy")[row["index"]], masks)
        here = cells[(cells[FIELD_KEY] == row[FIELD_KEY]).all(axis=1)].drop(columns=FIELD_KEY)
        expected = measure_field(field, *masks, CHANNELS, "fast", white)
        pd.testing.assert_frame_equal(here.reset_index(drop=True), expected)
    assert cells.groupby(FIELD_KEY).ngroups == len(prepared.fields) - 1  # one is blank


def test_another_process_measures_the_same_numbers(prepared, measured):
    """What goes to a process and what comes back is pickled."""
    white = measure.white_values(prepared)
    task = pickle.loads(pickle.dumps(partial(measure.measure_row, prepared, MeasureSettings(), white)))
    rows = prepared.fields.iloc[[4]]
    masks, table = pickle.loads(pickle.dumps(task(rows)))
    folder, cells = measured
    plate, index = rows[["Metadata_Plate", "index"]].iloc[0]
    np.testing.assert_array_equal(masks, np.load(folder / "masks" / f"{plate}.npy")[index])
    pd.testing.assert_frame_equal(table, cells.merge(rows[FIELD_KEY]))


def test_a_table_without_training_fields_takes_its_white_from_all_of_them(prepared):
    fields = prepared.fields
    new = prepared.with_fields(fields.assign(Metadata_Split="unlabelled"))
    trained = prepared.with_fields(fields.assign(Metadata_Split="train"))
    np.testing.assert_array_equal(measure.white_values(new), measure.white_values(trained))


def test_a_field_that_is_left_out_has_empty_masks_and_changes_no_other(prepared, measured, tmp_path):
    fewer = prepared.with_fields(prepared.fields[prepared.fields["index"].isin([2, 3])])
    measure.measure_study(fewer, MeasureSettings(), tmp_path / "toy", n_jobs=1)
    for plate in ("P1", "P2"):
        whole, part = (np.load(folder / "masks" / f"{plate}.npy") for folder in (measured[0], tmp_path / "toy"))
        np.testing.assert_array_equal(part[2:], whole[2:])
        assert not part[:2].any()
        assert whole[:2].any()


def test_earlier_results_stay_until_all_fields_are_measured(prepared, tmp_path):
    folder, few = tmp_path / "toy", prepared.with_fields(prepared.fields[:2])
    folder.mkdir()
    (folder / "cells.parquet").write_text("before")
    broken = MeasureSettings(segmentation=SegmentSettings(nucleus="none"))
    with pytest.raises(ValueError, match="no channel 'none'"):
        measure.measure_study(few, broken, folder, n_jobs=1)
    assert (folder / "cells.parquet").read_text() == "before"
    measure.measure_study(few, MeasureSettings(), folder, n_jobs=1)
    assert len(pd.read_parquet(folder / "cells.parquet")) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_study_without_any_cell_has_the_same_columns(prepared, measured, tmp_path):
    settings = MeasureSettings(segmentation=SegmentSettings(min_area=10_000))
    cells = measure.measure_study(prepared.with_fields(prepared.fields[:2]), settings, tmp_path / "toy", n_jobs=1)
    assert len(cells) == 0
    assert list(cells.columns) == list(measured[1].columns)


@pytest.mark.filterwarnings("ignore:The 'mode.copy_on_write' option")  # pycytominer sets it when imported
def test_well_profiles_are_read_by_pycytominer(prepared, measured):
    import pycytominer

    metadata = [*FIELD_KEY, "Metadata_Compound", "Metadata_Concentration"]
    cells = measured[1].merge(prepared.fields[metadata], on=FIELD_KEY)
    profiles = measure.well_profiles(cells)
    features = measure.feature_names(profiles)
    assert [tuple(row) for row in profiles[["Metadata_Plate", "Metadata_Well"]].to_numpy()] == WELLS
    assert profiles["Metadata_Concentration"].isna().tolist() == [True, False, True, False]
    theirs = pycytominer.aggregate(cells, strata=["Metadata_Plate", "Metadata_Well"], operation="median")
    assert [name for name in theirs if not name.startswith("Metadata_")] == features
    np.testing.assert_allclose(theirs[features], profiles[features], rtol=1e-6)
    normalised = pycytominer.normalize(profiles, samples="Metadata_Compound == 'DMSO'", method="standardize")
    chosen = pycytominer.feature_select(normalised, operation=["variance_threshold", "drop_na_columns"])
    assert 0 < len(measure.feature_names(chosen)) < len(features)
    assert "Metadata_Compound" in chosen


def test_white_is_that_of_training_fields_alone():
    rows = pd.DataFrame({"Metadata_Split": ["train", "test", "train", "validation"], "value": [100, 5000, 200, 7000]})

    def pixels(rows):
        return np.broadcast_to(rows["value"].to_numpy()[:, None, None, None], (len(rows), 2, 8, 8))

    prepared = SimpleNamespace(fields=rows, pixels=pixels, of=lambda split: rows[rows["Metadata_Split"] == split])
    assert measure.white_values(prepared).tolist() == [150, 150]
