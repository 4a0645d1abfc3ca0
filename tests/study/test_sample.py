"""The sample in git is what its script makes of the runs, and small."""

import pandas as pd

from milcnn.columns import LABEL, SPLIT
from milcnn.study import sample


def made(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["Metadata_Plate", SPLIT, "Metadata_Compound", LABEL])
    names = [*sample.PREDICTED, *sample.DOSE_COLUMNS, "p_a", "y_a", "P_a"]
    return table.assign(**{name: 0.123456 for name in names if name not in table})


def test_one_compound_of_each_phenotype_on_unseen_plates():
    splits = [
        ("P1", "dose", "S1", "a"),
        ("P2", "test", "S1", "a"),
        ("P2", "dose", "S3", "a"),
        ("P2", "test", "S2", "b"),
    ]
    found = sample.few_treatments(made(splits))
    assert found[["Metadata_Plate", "Metadata_Compound"]].to_numpy().tolist() == [["P2", "S3"], ["P2", "S2"]]
    assert "p_a" in found
    assert "y_a" not in found


def test_few_fields_of_each_class_and_set():
    splits = [("P1", split, "S1", label) for split in ("test", "validation") for label in "ab" for _ in range(20)]
    found = sample.few_fields(made(splits))
    assert found.groupby([LABEL, SPLIT]).size().tolist() == [sample.FIELDS] * 4
    assert {"y_a"} == set(found.filter(regex="_a$"))


def test_tables_keep_three_digits(tmp_path):
    sample.write(made([("P1", "test", "S1", "a")]), tmp_path / "table.csv")
    assert "0.123," in (tmp_path / "table.csv").read_text()
    assert "0.1234" not in (tmp_path / "table.csv").read_text()


def test_the_sample_is_small():
    assert 0 < sum(path.stat().st_size for path in sample.SAMPLE.rglob("*") if path.is_file()) <= 1_000_000
