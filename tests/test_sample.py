"""The sample in git is what its script makes of a run, and small."""

import pandas as pd

from milcnn import sample
from milcnn.paths import ROOT


def test_one_compound_of_each_phenotype_on_unseen_plates():
    splits = [
        ("P1", "dose", "S1", "a"),
        ("P2", "test", "S1", "a"),
        ("P2", "dose", "S3", "a"),
        ("P2", "test", "S2", "b"),
    ]
    table = pd.DataFrame(splits, columns=["Metadata_Plate", "Metadata_Split", "Metadata_Compound", "Metadata_Label"])
    facts = dict.fromkeys([*sample.CALLED, *sample.TOLD, "p_a", "y_a"], 0)
    found = sample.sample(table.assign(**{name: 0 for name in facts if name not in table}))
    assert found[["Metadata_Plate", "Metadata_Compound"]].to_numpy().tolist() == [["P2", "S3"], ["P2", "S2"]]
    assert "p_a" in found
    assert "y_a" not in found


def test_the_sample_is_small():
    folder = ROOT / "data" / "sample" / "dose"
    assert 0 < sum(path.stat().st_size for path in folder.rglob("*.csv")) < 27_000
