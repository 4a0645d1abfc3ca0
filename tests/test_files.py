"""A file is written completely or not at all, and tables come back as they were."""

import errno

import pandas as pd
import pytest

from milcnn.files import read_table, write_json, write_table, written_whole


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_table_is_read_as_it_was_written(tmp_path, name):
    table = pd.DataFrame({"text": ["x", "y"], "number": [0.125, 3.0]})
    write_table(table, tmp_path / "new" / name)
    pd.testing.assert_frame_equal(read_table(tmp_path / "new" / name), table, check_dtype=False)


def test_a_missing_table_is_named_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such table; run the stage that makes it"):
        read_table(tmp_path / "none.csv")


def test_json_does_not_depend_on_the_order_of_its_keys(tmp_path):
    write_json({"b": 1, "a": 2}, tmp_path / "1.json")
    write_json({"a": 2, "b": 1}, tmp_path / "2.json")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


def test_names_stay_text(tmp_path):
    table = pd.DataFrame({"Metadata_Plate": ["007", "010"], "Metadata_Label": ["NA", "1"], "value": [1.5, None]})
    write_table(table, tmp_path / "a.csv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.csv"), table, check_dtype=False)
