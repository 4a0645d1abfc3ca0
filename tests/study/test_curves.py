"""``milcnn curves``: the right EC50 from scores that were made from known curves, and what is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from milcnn.evaluate.hill import Hill, hill
from milcnn.files import read_table
from milcnn.parameters import StageError
from milcnn.prepare.prepared import load_prepared
from milcnn.score.plan import ScoreSettings, in_view, write_settings
from milcnn.study.curves import write_curves
from tests.score.conftest import PREPARED, RUN

CELLS = 4  # a field
DOSES = [0.05, 0.2, 0.8, 3.2, 12.8]
TRUTH = {"c2": ("2", Hill(0, 0.9, 0.5, 1.5)), "c3": ("3", Hill(0, 0.7, 2, 2))}
CLASSES = load_prepared(PREPARED).classes


def rows_of(plate, k):
    """Four controls and each compound of ``TRUTH`` at each dose; p̄ as an instance that sees ``k`` cells has it."""
    rows = [(f"A{n}", "DMSO", 0.0, CLASSES[1], 0.0) for n in range(1, 5)]
    for compound, (name, curve) in TRUTH.items():
        fractions = zip(DOSES, hill(np.array(DOSES), curve), strict=True)
        rows += [(f"{compound}-{dose}", compound, dose, name, fraction) for dose, fraction in fractions]
    for well, compound, dose, name, fraction in rows:
        q = 0.1 + 0.9 * (1 - (1 - fraction) ** k)
        p = dict.fromkeys((f"p_{other}" for other in CLASSES), 0.05)
        p |= {f"p_{name}": 0.5 * q, f"p_{CLASSES[0]}": 0.5 * (1 - q)}
        yield {
            "Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": 1, "Metadata_Compound": compound,
            "Metadata_Concentration": dose, "Metadata_Control": compound == "DMSO", "reason": "", **p,
        }  # fmt: skip


@pytest.fixture
def scores(tmp_path):
    """Three scored plates, and a study whose class 1 is that of the controls."""
    prepared, folder = tmp_path / "prepared", tmp_path / "scores"
    shutil.copytree(PREPARED, prepared)
    fields = load_prepared(PREPARED).fields
    fields.assign(Metadata_Control=fields["Metadata_Label"] == CLASSES[0]).to_csv(prepared / "fields.csv", index=False)
    settings = ScoreSettings(prepared=str(prepared), runs=[str(RUN)], output=str(folder), cells_per_field=CELLS)
    folder.mkdir()
    write_settings(settings)
    k = in_view(settings, load_prepared(prepared))
    assert k > 1.5
    for plate in ("P1", "P2", "P3"):
        pd.DataFrame(rows_of(plate, k)).to_parquet(folder / f"{plate}.parquet")
    pd.DataFrame({"plate": ["P1", "P2", "P3"], "error": ""}).to_csv(folder / "summary.csv", index=False)
    return folder


def change(folder, plate, edit):
    path = folder / f"{plate}.parquet"
    edit(pd.read_parquet(path)).to_parquet(path)


def test_ec50_and_phenotype_of_known_curves_come_back(scores, capsys):
    write_curves(str(scores))
    curves = read_table(scores / "curves.csv").set_index("Metadata_Compound")
    for compound, (name, curve) in TRUTH.items():
        row = curves.loc[compound]
        assert row["Metadata_Label"] == name
        assert row[["top", "ec50", "slope"]].to_numpy(float) == pytest.approx(
            [curve.top, curve.ec50, curve.slope], rel=1e-3
        )
        assert row["low"] == pytest.approx(curve.ec50, rel=0.01)  # plates alike, no noise
    wells = read_table(scores / "wells.csv")
    assert len(wells) == 3 * 2 * len(DOSES)
    assert (scores / "dose_response_1.png").exists()
    assert not (scores / "dose_response_2.png").exists()
    assert "2 compounds, 2 of them with an EC50" in capsys.readouterr().out


def test_only_the_plates_of_the_last_call_and_no_older_output(scores):
    shutil.copy(scores / "P1.parquet", scores / "older.parquet")
    change(scores, "older", lambda t: t.assign(Metadata_Plate="older", Metadata_Concentration=5.0))
    table = read_table(scores / "summary.csv").assign(error=["", "no field can be read", ""])
    table.to_csv(scores / "summary.csv", index=False)
    (scores / "dose_response_2.png").touch()
    write_curves(str(scores))
    assert set(read_table(scores / "wells.csv")["Metadata_Plate"]) == {"P1", "P3"}
    curves = read_table(scores / "curves.csv")
    assert curves[["wells", "plates", "lowest_dose", "highest_dose"]].drop_duplicates().to_numpy().tolist() == [
        [2 * len(DOSES), 2, DOSES[0], DOSES[-1]]
    ]
    assert not (scores / "dose_response_2.png").exists()


@pytest.mark.parametrize("name", ["007", "NA"])
def test_a_plate_whose_name_looks_like_a_number_or_nothing_is_found(scores, name):
    (scores / "P1.parquet").rename(scores / f"{name}.parquet")
    change(scores, name, lambda t: t.assign(Metadata_Plate=name))
    pd.DataFrame({"plate": [name]}).to_csv(scores / "summary.csv", index=False)
    write_curves(str(scores))
    assert read_table(scores / "wells.csv")["Metadata_Plate"].unique().tolist() == [name]


def test_without_a_response_there_is_no_phenotype_and_without_cells_a_note(scores, capsys):
    settings = json.loads((scores / "settings.json").read_text()) | {"cells_per_field": 0}
    (scores / "settings.json").write_text(json.dumps(settings))
    for plate in ("P1", "P2", "P3"):
        change(
            scores, plate, lambda t: t.assign(p_3=0.05, p_1=np.where(t["Metadata_Compound"] == "c3", 0.45, t["p_1"]))
        )
    write_curves(str(scores))
    curves = read_table(scores / "curves.csv").set_index("Metadata_Compound")
    assert curves["Metadata_Label"].fillna("").to_dict() == {"c2": "2", "c3": ""}
    assert "Note: cells in a field are not known" in capsys.readouterr().out


def test_a_compound_has_one_phenotype_on_all_plates(scores):
    change(scores, "P2", lambda t: t.assign(p_3=t["p_3"].where(t["Metadata_Compound"] != "c2", 0.49)))
    write_curves(str(scores))
    assert (
        read_table(scores / "wells.csv").groupby("Metadata_Compound")["Metadata_Label"].unique().str.len().eq(1).all()
    )


def test_what_gets_no_curve_is_told(scores, capsys):
    change(scores, "P1", lambda t: t.assign(Metadata_Control=False))
    for plate in ("P2", "P3"):
        change(scores, plate, lambda t: t[(t["Metadata_Compound"] != "c3") | (t["Metadata_Concentration"] < 1)])
        change(scores, plate, lambda t: t.assign(reason=np.where(t["Metadata_Concentration"] == 0.8, "blank", "")))
    write_curves(str(scores))
    told = capsys.readouterr().out
    assert "1 plates have no negative control and are left out: P1." in told
    assert "1 of 2 compounds have fewer than 4 doses" in told
    assert read_table(scores / "wells.csv")["Metadata_Plate"].unique().tolist() == ["P2", "P3"]
    assert 0.8 not in set(read_table(scores / "wells.csv")["Metadata_Concentration"])


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda t: t.drop(columns="Metadata_Concentration"), "have no Metadata_Concentration; score the screen with"),
        (lambda t: t.assign(Metadata_Control=False), "No plate has a negative control"),
        (lambda t: t[t["Metadata_Concentration"] < 1], "No compound has 4 doses"),
    ],
)
def test_scores_without_what_a_curve_needs_are_refused(scores, edit, told):
    for plate in ("P1", "P2", "P3"):
        change(scores, plate, edit)
    with pytest.raises(StageError, match=told):
        write_curves(str(scores))
    assert not (scores / "curves.csv").exists()


def test_folders_without_scores_and_controls_that_are_no_class_are_refused(scores, tmp_path):
    with pytest.raises(StageError, match="no scores; give the folder"):
        write_curves(str(tmp_path))
    (tmp_path / "settings.json").write_text((scores / "settings.json").read_text())
    with pytest.raises(StageError, match="no scores; give the folder"):
        write_curves(str(tmp_path))  # scoring has not ended
    facts = tmp_path / "prepared/prepared.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"classes": CLASSES[1:]}))
    with pytest.raises(StageError, match="its negative controls are no class"):
        write_curves(str(scores))
