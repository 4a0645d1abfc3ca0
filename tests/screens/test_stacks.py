"""Several z planes and time points of a field become one image by the rule that the user sets."""

import itertools

import numpy as np
import pandas as pd
import pytest
import tifffile

from milcnn.screens.problems import ScreenError
from milcnn.screens.sets.kinds import open_screen
from milcnn.screens.stacks import projected

SHAPE = (8, 10)  # px


def image(well, z, time):
    """A plane that tells where it is from: z 2 has the strongest edges, z 3 the highest values."""
    plane = np.full(SHAPE, 1000 * well + 100 * time + 10 * z, np.uint16)
    plane[4:, 5:] += 50 if z == 2 else 1
    return plane


@pytest.fixture
def table(tmp_path):
    """One plate, wells A01 to A04, z 1 to 4, time points 1 and 2, one channel."""
    rows = []
    for well, z, time in itertools.product(range(1, 5), range(1, 5), (1, 2)):
        name = f"A{well:02}_z{z}_t{time}.tif"
        tifffile.imwrite(tmp_path / name, image(well, z, time), photometric="minisblack")
        key = {"Metadata_Plate": "P", "Metadata_Well": f"A{well:02}", "Metadata_Site": 1, "Metadata_Z": z}
        rows.append(key | {"Metadata_Time": time, "Metadata_Label": "xy"[well % 2], "Path_DAPI": name})
    return pd.DataFrame(rows)


def opened(table, folder, **settings):
    table.to_csv(folder / "fields.csv", index=False)
    screen = open_screen("manifest", table=str(folder / "fields.csv"), **settings)
    screen.check()
    return screen


def fields(screen):
    assert screen.fields.index.tolist() == list(range(len(screen.fields)))
    return np.stack([screen.read(row)[0] for _, row in screen.fields.iterrows()])


@pytest.mark.parametrize(("rule", "z"), [(1, 1), (4, 4), ("middle", 3), ("sharpest", 2)])
def test_one_z_plane_is_chosen(table, tmp_path, rule, z):
    screen = opened(table, tmp_path, z=rule, time=2)
    assert screen.fields["Metadata_Well"].tolist() == ["A01", "A02", "A03", "A04"]
    np.testing.assert_array_equal(fields(screen), [image(well, z, 2) for well in range(1, 5)])


def test_the_highest_value_of_each_pixel(table, tmp_path):
    expected = [np.max([image(well, z, 1) for z in range(1, 5)], axis=0) for well in range(1, 5)]
    np.testing.assert_array_equal(fields(opened(table, tmp_path, z="max", time=1)), expected)


def test_each_channel_has_its_own_sharpest_plane():
    flat, sharp = np.ones(SHAPE, np.uint8), np.eye(*SHAPE, dtype=np.uint8)
    planes = np.array([[flat, sharp], [sharp, flat], [flat, flat]])
    np.testing.assert_array_equal(projected(planes, "sharpest"), [sharp, sharp])


def test_the_order_of_rows_does_not_matter(table, tmp_path):
    screen = opened(table.sample(frac=1, random_state=0), tmp_path, z="middle", time=1)
    for pixels, well in zip(fields(screen), screen.fields["Metadata_Well"], strict=True):
        np.testing.assert_array_equal(pixels, image(int(well[1:]), 3, 1))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"z": "max"}, r"has 2 time points \(1 and 2\); set 'time' to one of them\.$"),
        ({"z": "max", "time": 3}, r"has no time point 3 \(1 and 2\); set 'time' to one of them\.$"),
        ({"time": 1}, r"has 4 z planes \(1, 2, 3 and 1 more\); set 'z' to max, middle, sharpest or one of them\.$"),
        ({"time": 1, "z": 7}, r"has no z plane 7 \(1, 2, 3 and 1 more\); set 'z' to one of them\.$"),
        ({"time": 1, "z": "best"}, "'z.*' = 'best'"),
    ],
)
def test_what_is_not_told_is_refused_in_one_sentence(table, tmp_path, settings, expected):
    with pytest.raises(ValueError, match=expected):
        opened(table, tmp_path, **settings)


@pytest.mark.parametrize("settings", [{"z": 2}, {"time": 0}])
def test_a_rule_for_what_the_table_does_not_have_is_refused(table, tmp_path, settings):
    flat = table.query("Metadata_Z == 1 and Metadata_Time == 1").drop(columns=["Metadata_Z", "Metadata_Time"])
    with pytest.raises(ScreenError, match=f"leave out '{next(iter(settings))}'"):
        opened(flat, tmp_path, **settings)


def test_one_z_plane_and_one_time_point_need_no_rule(table, tmp_path):
    screen = opened(table.query("Metadata_Z == 3 and Metadata_Time == 1"), tmp_path)
    np.testing.assert_array_equal(fields(screen), [image(well, 3, 1) for well in range(1, 5)])
    assert not {"Metadata_Z", "Metadata_Time"} & set(screen.fields)


def test_missing_planes_are_told(table, tmp_path):
    less = table.query("Metadata_Well != 'A02' or Metadata_Z != 2")
    with pytest.raises(
        ScreenError, match=r"plate P: not 4 z planes like most .* \(1 fields, as well A02, site 1 with 3\)"
    ):
        opened(less, tmp_path, z="max", time=1)
    less = table.query("Metadata_Well != 'A02' or Metadata_Time != 2")
    with pytest.raises(ScreenError, match="plate P, well A02, site 1: no time point 2; choose another 'time'"):
        opened(less, tmp_path, z="max", time=2)
    (tmp_path / "A03_z4_t1.tif").unlink()  # not the plane that the table of fields shows
    with pytest.raises(ScreenError, match=r"plate P: images are missing \(1 of 16, as .*A03_z4_t1\.tif \(well A03"):
        opened(table, tmp_path, z="max", time=1)


def test_a_plane_that_is_there_twice_is_refused(table, tmp_path):
    with pytest.raises(ScreenError, match="well A01, site 1, z 1: more than one row in the table"):
        opened(pd.concat([table, table.head(1)]), tmp_path, z="max", time=1)
