"""A file is written completely or not at all, and tables come back as they were."""

import errno
import os

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


def test_a_new_file_has_the_usual_rights(tmp_path):
    """Also where a library writes a file that its owner alone can read, as safetensors does."""
    before = os.umask(0o027)
    try:
        with written_whole(tmp_path / "a.txt") as temporary:
            temporary.unlink(missing_ok=True)
            os.close(os.open(temporary, os.O_CREAT, 0o600))
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_whole_numbers_keep_all_digits(tmp_path):
    values = [20230517001.0, -3.0, 1234567.25, 1 / 3, 1e300, float("inf"), None]
    narrow = pd.Series([1048577.0, -3.0, 1234567.25, 1 / 3, 1e30, float("inf"), None], dtype="float32")
    write_table(pd.DataFrame({"wide": values, "narrow": narrow}), tmp_path / "a.csv")
    wide, narrow = zip(*(line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()[1:]), strict=True)
    assert wide == ("20230517001", "-3", "1.23457e+06", "0.333333", "1e+300", "inf", "")
    assert narrow == ("1048577", "-3", "1.23457e+06", "0.333333", "1e+30", "inf", "")


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
