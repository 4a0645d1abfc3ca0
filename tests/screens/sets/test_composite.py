import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_dilation
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milcnn.columns import FIELD_KEY
from milcnn.files import write_table
from milcnn.paths import ROOT
from milcnn.screens.screen import Screen
from milcnn.screens.sets import composite, cut
from milcnn.screens.sets.composite import CompositeSettings
from milcnn.screens.sets.kinds import SCREENS, open_screen

CROP, EDGE = 20, 10  # px of the source, px of a composite
A, B = "bright spot", "DMSO"


@pytest.fixture(scope="module")
def source():
    """Plates P1…P3 of 8 fields a class; cells of A are brighter and smaller and have a spot.

    Plate P4 has only B. Cells differ in size and in amount of light.
    """
    rng = np.random.default_rng(0)
    wells = [(plate, label) for plate in ("P1", "P2", "P3", "P4") for label in (A, B) if (plate, label) != ("P4", A)]
    rows = [
        {"Metadata_Plate": plate, "Metadata_Well": label[:1], "Metadata_Site": site, "Metadata_Label": label}
        for plate, label in wells
        for site in range(1, 9)
    ]
    fields = pd.DataFrame(rows)
    images, cells = {}, []
    for _, row in fields.iterrows():
        image = rng.normal(500, 10, (2, 100, 200))
        for number in range(20):
            y, x = 5 + 40 * (number // 10), 20 * (number % 10)
            radius = rng.uniform(6, 11) - (row["Metadata_Label"] == A)
            steps = np.arange(CROP) - 9.5
            body = np.hypot(*np.meshgrid(steps, steps)) < radius
            level = rng.uniform(800, 1200) * (1.5 if row["Metadata_Label"] == A else 1)
            image[:, y : y + CROP, x : x + CROP] += level * body
            if row["Metadata_Label"] == A:
                image[1, y + 8 : y + 12, x + 8 : x + 12] += 3000
            cells.append({**{name: row[name] for name in FIELD_KEY}, "y0": y, "x0": x})
        images[tuple(row[FIELD_KEY])] = image.round().astype(np.uint16)
    screen = Screen(fields, ["one", "two"], [B, A], read=lambda row: images[tuple(row[FIELD_KEY])], pixel_size=0.3)
    return screen, pd.DataFrame(cells)


def settings_of(**changed) -> CompositeSettings:
    settings = {"screen": "x", "cells": "x", "positive": A, "crop": CROP, "size": 80, "n_cells": [10, 20]}
    numbers = {"train": 24, "validation": 6, "test": 12}
    settings |= {"fractions": [0.1, 0.3, 0.8], "fields_per_class": numbers, "caliper": 0.05}
    return CompositeSettings(**(settings | changed))


def built(source, **changed) -> Screen:
    with TemporaryDirectory() as folder:
        write_table(source[1], Path(folder) / "cells.csv")
        return composite.composite_screen(settings_of(cells=f"{folder}/cells.csv", **changed), source[0])


@pytest.fixture(scope="module")
def screen(source):
    return built(source)


def test_all_fields_of_a_plate_mix_the_same_source_images(screen):
    assert (screen.fields["Metadata_Source"] == screen.fields["Metadata_Plate"]).all()


def test_cells_are_cut_where_they_are(source):
    table, crops = cut.cut_cells(*source, [B, A], CROP, 1)
    assert len(table) == 3 * 2 * 8 * 20  # nothing from P4, which has only B
    assert set(table["Metadata_Plate"]) == {"P1", "P2", "P3"}
    row = source[0].fields.iloc[9]
    mine = (table[FIELD_KEY] == row[FIELD_KEY].to_numpy()).all(axis=1).to_numpy()
    field = source[0].read(row)
    np.testing.assert_array_equal(crops[mine][13], field[:, 45:65, 60:80])
    _, halved = cut.cut_cells(*source, [B, A], CROP, 2)
    np.testing.assert_allclose(halved[mine][13][:, 0, 0], field[:, 45:47, 60:62].mean(axis=(1, 2)))


def test_crops_that_cross_the_border_are_left_out(source):
    screen, cells = source
    moved = cells.assign(x0=cells["x0"] + 1)  # the last of each row of ten now leaves the field
    assert len(cut.cut_cells(screen, moved, [B, A], CROP, 2)[0]) == 3 * 2 * 8 * 18


def test_k_of_n_objects_are_of_class_a(screen):
    objects = screen.objects.merge(screen.fields, on=FIELD_KEY)
    share = objects.groupby(FIELD_KEY, sort=False)["class"].agg(lambda names: (names == A).mean())
    np.testing.assert_allclose(share, screen.fields["fraction"])
    positives = screen.fields[screen.fields["Metadata_Label"] == A]
    assert sorted(positives["fraction"].unique()) == [0.1, 0.3, 0.8]
    assert (screen.fields.loc[screen.fields["Metadata_Label"] == B, "fraction"] == 0).all()
    assert (positives.groupby(["Metadata_Split", "Metadata_Plate"])["fraction"].nunique() == 3).all()
    for _, row in screen.fields.iloc[::9].iterrows():
        assert np.unique(screen.truth(row)).tolist() == list(range(row["cells"] + 1))


def test_every_object_is_a_cell_of_its_class_plate_and_split(source):
    """Each object is compared, pixel by pixel, with all cells that were cut."""
    screen = built(source, equalise=False)
    table, crops = cut.cut_cells(*source, [B, A], CROP, 2)
    splits = composite.split_sources(table, settings_of())
    used = {}
    for _, row in screen.fields.iloc[::5].iterrows():
        field, truth = screen.read(row).astype(float), screen.truth(row)
        objects = screen.objects.merge(row[FIELD_KEY].to_frame().T.infer_objects(), on=FIELD_KEY)
        assert field.shape == (2, 80, 80)
        for _, cell in objects.iterrows():
            y, x = np.argwhere(truth == cell["object"]).min(axis=0)
            core = field[:, y + 2 : y + 6, x + 2 : x + 6]  # the middle, where the disc is opaque
            off = int((EDGE - np.ptp(np.argwhere(truth == cell["object"])[:, 0]) - 1) / 2)
            theirs = crops[:, :, off + 2 : off + 6, off + 2 : off + 6]
            distance = np.abs(theirs - core).max(axis=(1, 2, 3))
            nearest = distance.argmin()
            assert distance[nearest] <= 0.51  # only rounding
            assert table["class"][nearest] == cell["class"]
            assert table["Metadata_Plate"][nearest] == row["Metadata_Plate"]
            assert splits[nearest] == row["Metadata_Split"]
            used.setdefault(row["Metadata_Split"], set()).add(tuple(table.loc[nearest, FIELD_KEY]))
    assert not used["train"] & used["validation"]
    assert not {plate for plate, *_ in used["test"]} & {plate for plate, *_ in used["train"] | used["validation"]}


def test_test_plates_are_never_trained_on(screen):
    plates = screen.fields.groupby("Metadata_Split")["Metadata_Plate"].agg(set)
    assert plates["test"] == {"P3"}
    assert plates["train"] == plates["validation"] == {"P1", "P2"}


def test_the_table_of_cells_may_name_the_sets_also_of_one_plate(source):
    fields, cells = source
    sets = np.array(["train", "train", "train", "train", "validation", "validation", "test", "test"])
    cells = cells.assign(Metadata_Split=sets[cells["Metadata_Site"] - 1])
    one = built((fields, cells[cells["Metadata_Plate"] == "P2"]), equalise=False)
    assert one.protocol == "field"  # plate P2 trains and tests
    assert (one.fields.groupby("Metadata_Source")["Metadata_Split"].nunique() == 1).all()
    table, crops = cut.cut_cells(fields, cells, [B, A], CROP, 2)
    for _, row in one.fields.groupby("Metadata_Split").head(2).iterrows():
        field, truth = one.read(row).astype(float), one.truth(row)
        for number in range(1, row["cells"] + 1):
            (top, left), (bottom, right) = (f(np.argwhere(truth == number), axis=0) for f in (np.min, np.max))
            y, x = (top + bottom - EDGE + 1) // 2, (left + right - EDGE + 1) // 2
            core = field[:, y + 3 : y + 7, x + 3 : x + 7]
            nearest = np.abs(crops[:, :, 3:7, 3:7] - core).max(axis=(1, 2, 3)).argmin()
            assert table["Metadata_Split"][nearest] == row["Metadata_Split"]
            assert table["Metadata_Plate"][nearest] == "P2"
    apart = cells.assign(Metadata_Split=cells["Metadata_Plate"].map({"P1": "train", "P2": "test", "P3": "validation"}))
    screen = built((fields, apart))
    assert screen.protocol == "plate"
    plates = screen.fields.groupby("Metadata_Split")["Metadata_Plate"].agg(set)
    assert plates.to_dict() == {"train": {"P1"}, "test": {"P2"}, "validation": {"P3"}}


def test_pairs_are_of_equal_coverage_and_no_pairing_has_more():
    rng = np.random.default_rng(1)
    for caliper in (0.01, 0.05, 0.2):
        cells = pd.DataFrame({"class": rng.permutation([A] * 40 + [B] * 60), "coverage": rng.random(100)})
        pairs = composite.matched_pairs(cells, settings_of(caliper=caliper))
        b, a = (cells.loc[side] for side in pairs.T)
        assert (b["class"] == B).all()
        assert (a["class"] == A).all()
        assert len(np.unique(pairs)) == pairs.size
        gaps = np.abs(a["coverage"].to_numpy() - b["coverage"].to_numpy())
        assert gaps.max() <= caliper
        all_gaps = np.abs(np.subtract.outer(*(cells.loc[cells["class"] == c, "coverage"].to_numpy() for c in (A, B))))
        best = maximum_bipartite_matching(csr_matrix(all_gaps <= caliper))
        assert len(pairs) == (best >= 0).sum()


def statistics(screen: Screen) -> dict[str, np.ndarray]:
    """For every field: mean intensities; background and coverage; the brightest px of the second channel."""
    measures = {"mean": [], "background": [], "brightest": []}
    for _, row in screen.fields.iterrows():
        field, truth = screen.read(row).astype(float), screen.truth(row)
        outside = ~binary_dilation(truth > 0, iterations=3)
        measures["mean"].append(field.mean(axis=(1, 2)))
        measures["background"].append([*field[:, outside].mean(axis=1), (truth > 0).mean(), truth.max()])
        measures["brightest"].append([np.log(np.sort(field[1].ravel())[-k]) for k in (5, 20, 60)])
    return {name: np.array(values) for name, values in measures.items()}


def accuracy(screen: Screen, values: np.ndarray) -> float:
    test = (screen.fields["Metadata_Split"] == "test").to_numpy()
    labels = screen.fields["Metadata_Label"]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(values[~test], labels[~test])
    return model.score(values[test], labels[test])


def test_intensity_background_and_coverage_do_not_predict_the_label_but_cells_do(source):
    numbers = {"train": 96, "validation": 6, "test": 96}
    equal = built(source, fields_per_class=numbers)
    measures = statistics(equal)
    assert accuracy(equal, measures["mean"]) < 0.6
    assert accuracy(equal, measures["background"]) < 0.6
    assert accuracy(equal, measures["brightest"]) > 0.8
    raw = built(source, fields_per_class=numbers, equalise=False)
    assert accuracy(raw, statistics(raw)["mean"]) > 0.8  # without equalise, the intensity shows the label


def test_a_field_is_built_the_same_each_time(screen):
    row, other = screen.fields.iloc[30], screen.fields.iloc[31]
    field = screen.read(row)
    screen.read(other)
    np.testing.assert_array_equal(screen.read(row), field)
    assert field.dtype == np.uint16
    assert screen.pixel_size == pytest.approx(0.6)


def test_an_impossible_composite_is_refused_with_the_reason(source, tmp_path, monkeypatch):
    screen, cells = source
    one = cells[cells["Metadata_Plate"] == "P1"]
    with pytest.raises(ValueError, match=r"together on 1 plate\(s\) \(P1\)"):
        cut.cut_cells(screen, one, [B, A], CROP, 2)
    with pytest.raises(ValueError, match="test_plates: P4 do not have both classes; choose from P1, P2, P3"):
        built(source, test_plates=["P4"])
    with pytest.raises(ValueError, match="test_plates: all of P1, P2, P3"):
        built(source, test_plates=["P1", "P2", "P3"])
    with pytest.raises(ValueError, match="for n_cells 500"):
        built(source, n_cells=[500])
    crowded = built(source, size=64, n_cells=[37], caliper=1.0)
    with pytest.raises(ValueError, match="37 do not fit a field of 64 px; at most 36 do"):
        crowded.read(crowded.fields.iloc[0])
    write_table(cells.drop(columns="y0"), tmp_path / "cells.csv")
    with pytest.raises(ValueError, match=r"cells\.csv: has no column y0"):
        cut.read_cells(str(tmp_path / "cells.csv"))
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ValueError, match="names an environment variable that is not set"):
        cut.read_cells("$NOWHERE/cells.csv")


def test_cells_of_a_simulated_screen_keep_their_own_class(tmp_path):
    """With a column ``class``, a cell has its own class, not the label of its field."""
    kind = {"plates": {"train": 1, "validation": 1, "test": 1}, "sites": 1, "size": 128, "cells": 60}
    drawn = open_screen("simulated", **kind)
    wanted = drawn.fields["Metadata_Control"] | (drawn.fields["Metadata_Label"] == "translocated")
    few = drawn.fields[wanted].groupby("Metadata_Plate").head(20)
    cells = drawn.objects.merge(few[FIELD_KEY], on=FIELD_KEY)
    cells = cells.assign(y0=cells["y"] - 16, x0=cells["x"] - 16)[[*FIELD_KEY, "y0", "x0", "class"]]
    write_table(cells, tmp_path / "cells.csv")
    numbers = {"train": 4, "validation": 2, "test": 2}
    screen = open_screen(
        "composite",
        screen="simulated",
        screen_settings=kind,
        cells=str(tmp_path / "cells.csv"),
        positive="translocated",
        **{"crop": 32, "downscale": 1, "size": 128, "n_cells": [2], "caliper": 1.0, "fractions": [1.0]},
        fields_per_class=numbers,
    )
    assert screen.channels == drawn.channels
    # a translocated reporter lies on the DNA: only in cells of A are the two channels correlated
    together = {label: [] for label in screen.classes}
    for _, row in screen.fields.iterrows():
        field, truth = screen.read(row).astype(float), screen.truth(row) > 0
        together[row["Metadata_Label"]].append(np.corrcoef(field[0][truth], field[1][truth])[0, 1])
    assert np.mean(together["translocated"]) > np.mean(together["DMSO"]) + 0.2


MIRROR = Path(os.environ.get("MILCNN_MIRROR") or ROOT.parent / "shared" / "data" / "mirror")
SAMPLE = MIRROR.parent / "bbbc021_cells.csv"


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs the cells of the BBBC021 sample beside MILCNN_MIRROR")
@pytest.mark.skipif("bbbc021" not in SCREENS, reason="needs the bbbc021 screen")
def test_cycloheximide_among_dmso(monkeypatch):
    monkeypatch.setenv("MILCNN_MIRROR", str(MIRROR))
    plates = ["Week4_27801", "Week4_27821", "Week4_27861"]
    screen = open_screen(
        "composite", screen="bbbc021", screen_settings={"plates": plates, "missing": "skip"},
        cells="$MILCNN_MIRROR/../bbbc021_cells.csv", cell_fields="$MILCNN_MIRROR/../bbbc021_fields.csv",
        positive="Protein synthesis", fields_per_class={"train": 60, "validation": 8, "test": 60},
    )  # fmt: skip
    assert screen.fields.groupby("Metadata_Split")["Metadata_Plate"].agg(set)["test"] == {plates[2]}
    measures = statistics(screen)
    assert accuracy(screen, measures["mean"]) < 0.62
    assert accuracy(screen, measures["background"]) < 0.62
