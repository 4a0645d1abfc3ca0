import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit
from skimage.measure import label, regionprops
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from milcnn.columns import FIELD_KEY
from milcnn.screens.sets import drawn_cells, simulated
from milcnn.screens.sets.drawn_plates import GAIN, OFFSET, READ_NOISE
from milcnn.screens.sets.simulated import SimulatedSettings, simulated_screen
from milcnn.settings import SettingsError

PLATES = {"train": 2, "validation": 1, "test": 1}


@pytest.fixture(scope="module")
def screen():
    return simulated_screen(SimulatedSettings(plates=PLATES, sites=1))


@pytest.fixture(scope="module")
def plain():
    """Few cells, full effects, no variation between plates."""
    return SimulatedSettings(plates=PLATES, sites=1, difficulty=0, outliers=0, cells=25)


def test_screen_has_six_phenotypes_of_two_compounds_each_and_dmso(screen):
    compounds = simulated.compounds(SimulatedSettings())
    assert compounds["Metadata_Label"].value_counts().tolist() == [2] * 6
    assert screen.classes == ["DMSO", *compounds["Metadata_Label"].unique()]
    treated = screen.fields[~screen.fields["Metadata_Control"]]
    doses = treated.groupby(["Metadata_Compound", "Metadata_Plate"])["Metadata_Concentration"].nunique()
    assert (doses == 6).all()
    assert len(doses) == 12 * 4


def test_responding_fraction_follows_the_hill_curve():
    settings = SimulatedSettings(sites=3)
    fields = simulated.field_table(settings)
    truth = simulated.compounds(settings).set_index("Metadata_Compound")
    treated = fields[~fields["Metadata_Control"]]
    for (compound, dose), group in treated.groupby(["Metadata_Compound", "Metadata_Concentration"]):
        ec50, hill, maximum = truth.loc[compound, ["ec50", "hill", "maximum"]]
        expected = maximum / (1 + (ec50 / dose) ** hill)
        n = group["cells"].sum()
        responding = (group["fraction"] * group["cells"]).sum()
        assert abs(responding - n * expected) <= 4.5 * np.sqrt(n * expected * (1 - expected)) + 1
        assert group["response"].iloc[0] == pytest.approx(expected)


def test_ec50_is_recovered_from_the_fractions_of_the_fields():
    settings = SimulatedSettings(plates={"train": 20, "validation": 1, "test": 1}, sites=1, cells=150)
    fields = simulated.field_table(settings)
    for _, compound in simulated.compounds(settings).iterrows():
        rows = fields[fields["Metadata_Compound"] == compound["Metadata_Compound"]]
        curve = rows.groupby("Metadata_Concentration")["fraction"].mean()

        def hill(log_dose, log_ec50, slope, top):
            return top / (1 + np.exp(slope * (log_ec50 - log_dose)))

        (log_ec50, _, top), _ = curve_fit(hill, np.log(curve.index), curve, p0=(0, 1.5, 0.8))
        assert np.exp(log_ec50) == pytest.approx(compound["ec50"], rel=0.2)
        assert top == pytest.approx(compound["maximum"], abs=0.05)


def test_fraction_is_the_share_of_objects_of_the_label(screen):
    objects = screen.objects.merge(screen.fields[[*FIELD_KEY, "Metadata_Label", "fraction", "cells"]], on=FIELD_KEY)
    objects["carries"] = objects["class"] == objects["Metadata_Label"]
    treated = objects[objects["Metadata_Label"] != "DMSO"].groupby(FIELD_KEY)
    np.testing.assert_allclose(treated["carries"].mean(), treated["fraction"].first())
    assert (objects.groupby(FIELD_KEY).size() == objects.groupby(FIELD_KEY)["cells"].first()).all()
    assert (screen.fields.loc[screen.fields["Metadata_Control"], "fraction"] == 0).all()
    strange = objects[~objects["carries"] & (objects["class"] != "DMSO")]
    assert len(strange) / len(objects) == pytest.approx(0.06 * 0.7, abs=0.025)
    assert (strange["class"] == "mitotic").mean() == pytest.approx(0.5, abs=0.1)


def test_plates_are_of_one_split_and_have_every_treatment_once(screen):
    fields = screen.fields
    in_sets = fields[fields["Metadata_Split"] != "dose"]
    assert (in_sets.groupby("Metadata_Plate")["Metadata_Split"].nunique() == 1).all()
    for _, part in in_sets.groupby("Metadata_Split"):
        assert set(part["Metadata_Label"]) == set(screen.classes)
    for _, plate in fields.groupby("Metadata_Plate"):
        assert plate["Metadata_Well"].is_unique
        treatments = plate[~plate["Metadata_Control"]][["Metadata_Compound", "Metadata_Concentration"]]
        assert len(treatments.drop_duplicates()) == len(treatments) == 72
    layouts = fields.pivot_table(index="Metadata_Well", columns="Metadata_Plate", values="response")
    assert layouts.corr().to_numpy()[~np.eye(4, dtype=bool)].max() < 0.5  # a well's position says nothing


def test_only_active_doses_carry_the_label(screen):
    fields = screen.fields
    active = fields["Metadata_Control"] | (fields["response"] >= 0.2)
    assert (fields["Metadata_Active"] == active).all()
    assert ((fields["Metadata_Split"] == "dose") == ~active).all()


def test_masks_are_the_objects(screen):
    for _, row in screen.fields.iloc[[0, 40, 150]].iterrows():
        truth = screen.truth(row)
        key = tuple(row[column] for column in FIELD_KEY)
        objects = screen.objects.set_index(FIELD_KEY).loc[key]
        assert truth.dtype == np.uint16
        assert truth.shape == screen.read(row).shape[1:]
        assert np.unique(truth[truth > 0]).tolist() == objects["object"].tolist()
        assert (truth[objects["y"], objects["x"]] == objects["object"]).mean() >= 0.97
        # cells are bright, the background is not
        reporter = screen.read(row)[1].astype(float)
        assert np.median(reporter[truth > 0]) > 1.3 * np.median(reporter[truth == 0])


def test_a_row_always_gives_the_same_field_and_rows_differ(screen):
    first, second = screen.fields.iloc[3], screen.fields.iloc[4]
    field = screen.read(first)
    assert field.shape == (3, 256, 256)
    assert field.dtype == np.uint16
    screen.read(second)
    np.testing.assert_array_equal(screen.read(first), field)
    assert not np.array_equal(screen.read(second), field)
    other = simulated.draw_field(first, SimulatedSettings(plates=PLATES, sites=1, seed=1))
    assert not np.array_equal(other, field)


def measured(settings: SimulatedSettings, phenotype: str) -> pd.DataFrame:
    """Measurements of every cell inside the field, by skimage; half of the cells respond."""
    rows = []
    for number in range(3):
        row = pd.Series({"Metadata_Label": phenotype, "response": 0.5, "field": number, "strength": 1.0})
        row["Metadata_Plate"], row["Metadata_Batch"] = "P01", "B1"
        classes, _ = simulated.population(row, settings)
        field, truth = simulated.draw_field(row, settings).astype(float), simulated.true_masks(row, settings)
        for region in regionprops(truth):
            y0, x0, y1, x1 = region.bbox
            if min(y0, x0) == 0 or max(y1, x1) == settings.size:
                continue
            dna, reporter, _ = field[:, y0:y1, x0:x1] * region.image - field.min(axis=(1, 2))[:, None, None]
            nucleus = region.image & (dna > 0.35 * np.percentile(dna[region.image], 98))
            parts = [part for part in regionprops(label(nucleus)) if part.area > 8]
            outer = region.image & ~nucleus
            rows.append(
                {
                    "responds": classes[region.label - 1] == phenotype,
                    "nucleus": nucleus.sum(),
                    "elongation": region.axis_major_length / region.axis_minor_length,
                    "solidity": regionprops(nucleus.astype(int))[0].solidity,
                    "parts": len(parts),
                    "contrast": dna[nucleus].std() / dna[nucleus].mean(),
                    "in_nucleus": reporter[nucleus].mean() / reporter[outer].mean(),
                }
            )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("phenotype", "measure", "factor"),
    [
        ("enlarged", "nucleus", 1.8),
        ("elongated", "elongation", 1.6),
        ("clumped", "contrast", 1.2),
        ("translocated", "in_nucleus", 2.0),
    ],
)
def test_phenotype_is_what_its_name_says(plain, phenotype, measure, factor):
    median = measured(plain, phenotype).groupby("responds")[measure].median()
    assert median[True] > factor * median[False]


@pytest.mark.parametrize("phenotype", ["fragmented", "binucleate"])
def test_nuclei_have_several_parts(plain, phenotype):
    table = measured(plain, phenotype)
    apart = (table["parts"] > 1) | (table["solidity"] < 0.9)
    assert apart[table["responds"]].mean() > 0.8
    assert apart[~table["responds"]].mean() < 0.35  # neighbours overlap


def test_phenotypes_are_fainter_when_the_screen_is_harder(plain):
    easy = measured(plain, "translocated").groupby("responds")["in_nucleus"].median()
    hard_settings = SimulatedSettings(plates=PLATES, sites=1, difficulty=1, outliers=0, cells=25)
    hard = measured(hard_settings, "translocated").groupby("responds")["in_nucleus"].median()
    assert hard[True] / hard[False] < 0.8 * easy[True] / easy[False]


def test_the_light_of_a_cell_is_set_for_each_channel():
    rng = np.random.default_rng(0)
    drawn = drawn_cells.normal_cells(5, rng)
    classes = np.array(["DMSO", "fragmented", "binucleate", "clumped", "mitotic"])
    depth, middle = drawn_cells.cell_outlines(drawn, rng)
    light = drawn_cells.lights(drawn, classes, depth, middle, rng)
    expected = np.stack([drawn["dna"], drawn["reporter"], drawn["actin"]], 1)
    np.testing.assert_allclose(light.sum(axis=(2, 3)), expected, rtol=1e-4)
    assert light.min() >= 0


def test_the_body_of_a_cell_is_as_thick_as_a_half_ball(monkeypatch):
    """Without texture, the reporter around the nucleus is proportional to √(1 − r²), with r = 1 − depth."""
    rng, classes = np.random.default_rng(0), np.zeros(5, int)
    drawn = drawn_cells.normal_cells(5, rng)
    depth, middle = drawn_cells.cell_outlines(drawn, rng)
    monkeypatch.setattr(drawn_cells, "patch_windows", lambda *_: np.zeros_like(depth))
    light = drawn_cells.lights(drawn | {"nuclear_share": np.zeros(5)}, classes, depth, middle, rng)
    for shown, own in zip(light[:, 1], depth, strict=True):
        rim = (own > 0.02) & (own < 0.2)
        ratio = shown[rim] / np.sqrt(1 - (1 - own[rim]) ** 2)
        assert np.quantile(ratio, [0.25, 0.75]) == pytest.approx(np.median(ratio), rel=1e-3)


def test_noise_is_that_of_a_camera():
    settings = SimulatedSettings(plates=PLATES, sites=1, difficulty=0, cells=5)
    screen = simulated_screen(settings)
    row = screen.fields.iloc[0]
    field, truth = screen.read(row).astype(float), screen.truth(row)
    far = np.ones(truth.shape, bool)
    for y, x in np.argwhere(truth > 0)[::7]:
        far[max(0, y - 12) : y + 13, max(0, x - 12) : x + 13] = False
    for channel in field:
        background = channel[far]
        background = background[background < np.percentile(background, 99.5)]  # no debris
        electrons = (background.mean() - OFFSET) / GAIN
        # Poisson and read noise, in squared grey values; cutting 0.5 % off takes some 4 %
        assert background.var() == pytest.approx(GAIN**2 * (electrons + READ_NOISE**2), rel=0.1)


def test_mean_intensities_do_not_predict_the_label():
    screen = simulated_screen(SimulatedSettings(plates={"train": 1, "validation": 1, "test": 1}, sites=1, size=192))
    fields = screen.fields[screen.fields["Metadata_Split"].isin(["train", "test"])]
    means = np.stack([screen.read(row).mean(axis=(1, 2)) for _, row in fields.iterrows()])
    trained = fields["Metadata_Split"] == "train"
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(np.log(means[trained]), fields["Metadata_Label"][trained])
    assert model.score(np.log(means[~trained]), fields["Metadata_Label"][~trained]) <= 0.6


def test_a_plate_that_is_too_full_is_refused():
    with pytest.raises(ValueError, match="72 treatments and 40 DMSO wells do not fit a plate of 96"):
        simulated_screen(SimulatedSettings(dmso_wells=40))


@pytest.mark.parametrize(
    "settings", [{"difficulty": 1.1}, {"doses": [0, 1]}, {"plates": {"train": 1, "test": 1, "validate": 1}}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(SettingsError, match=next(iter(settings))):
        SimulatedSettings(**settings)


def test_fresh_plates_change_no_other_plate():
    """Also the seed of a field, and so its cells, stay."""
    few = {"size": 96, "doses": [0.1, 1.0], "sites": 1}
    plates = {"train": 1, "validation": 1, "test": 1}
    before, after = (simulated_screen(SimulatedSettings(**few, plates=own)) for own in (plates, {"fresh": 1} | plates))
    pd.testing.assert_frame_equal(after.fields.iloc[: len(before.fields)], before.fields)
    added = after.fields.iloc[len(before.fields) :]
    assert set(added["Metadata_Split"]) == {"fresh", "dose"}
    assert set(added["Metadata_Plate"]) == {"P04"}
    assert not set(added["Metadata_Batch"]) & set(before.fields["Metadata_Batch"])  # P03 has B2 for itself
    assert (after.read(after.fields.iloc[3]) == before.read(before.fields.iloc[3])).all()
