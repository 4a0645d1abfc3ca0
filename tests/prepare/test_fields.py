"""Prepared fields against values computed by hand, and what stays on disk after a failure."""

import errno
import json
import shutil
from collections import namedtuple
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from milcnn.prepare import fields, illumination, plates, quality
from milcnn.prepare.fields import prepare
from milcnn.prepare.prepared import load_prepared
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.prepare.quality import QualitySettings
from milcnn.prepare.splits import SplitSettings
from milcnn.screens.screen import Screen
from milcnn.settings import SettingsError

SHAPE = (48, 64)
CHANNELS = ["DNA", "Actin"]


def field_table(plates_of: int = 3, fields_of: int = 8) -> pd.DataFrame:
    """Plates of 8 fields by default: wells A0 to A3 train, A4 and A5 validate, A6 and A7 test."""
    rows = [
        {
            "Metadata_Plate": f"P{plate}",
            "Metadata_Well": f"A{number}",
            "Metadata_Site": 1,
            "Metadata_Label": "ab"[number % 2],
            "Metadata_Split": "test" if number >= 6 else "validation" if number >= 4 else "train",
            "Metadata_Control": number in (0, 1, 6),
        }
        for plate in range(plates_of)
        for number in range(fields_of)
    ]
    return pd.DataFrame(rows)


def pixels_of(row: pd.Series, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Blurred spots and noise that depend on plate and well only."""
    return drawn(f"{row['Metadata_Plate']}{row['Metadata_Well']}", shape).copy()


@cache
def drawn(name: str, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng([ord(mark) for mark in name])
    spots = gaussian_filter((rng.random((2, *shape)) > 0.98) * 9000.0, (0, 2, 2))
    return (spots + 500 + rng.normal(0, 20, spots.shape)).astype(np.uint16)


def truth_of(row: pd.Series) -> np.ndarray:
    truth = np.zeros(SHAPE, np.uint16)
    truth[:6, :6], truth[17:27, 30:40] = 1, 2
    return truth


def screen_of(table: pd.DataFrame, read=pixels_of, with_truth: bool = False) -> Screen:
    screen = Screen(fields=table, channels=CHANNELS, classes=["a", "b"], read=read, pixel_size=0.5)
    if not with_truth:
        return screen
    key = table[["Metadata_Plate", "Metadata_Well", "Metadata_Site"]]
    corners = {1: (0, 0), 2: (17, 30)}
    objects = [key.assign(object=k, y=y, x=x, **{"class": "ab"[k - 1]}) for k, (y, x) in corners.items()]
    return replace(screen, truth=truth_of, objects=pd.concat(objects, ignore_index=True))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Counted:
    """A reader that lists the fields it reads, and fails at the field ``fails_at``."""

    def __init__(self, fails_at: str = ""):
        self.fails_at = fails_at
        self.read: list[str] = []

    def __call__(self, row: pd.Series) -> np.ndarray:
        name = f"{row['Metadata_Plate']}-{row['Metadata_Well']}"
        self.read.append(name)
        if name == self.fails_at:
            raise RuntimeError(f"{name}: the power went out")
        return pixels_of(row)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """The default study in a folder: 3 plates, no truth. Tests copy it or compare with it."""
    folder = tmp_path_factory.mktemp("plain") / "mine"
    prepare(screen_of(field_table()), "mine", folder)
    return folder


@pytest.fixture(scope="module")
def halved(tmp_path_factory) -> Path:
    """The same study with ``downscale`` 2."""
    folder = tmp_path_factory.mktemp("halved") / "mine"
    prepare(screen_of(field_table()), "mine", folder, PrepareSettings(downscale=2))
    return folder


@pytest.fixture
def mine(tmp_path, plain) -> Path:
    """A copy of ``plain`` for one test."""
    return shutil.copytree(plain, tmp_path / "mine")


# what is stored


def test_defaults_store_the_raw_pixels(tmp_path):
    table = field_table()
    ready = prepare(screen_of(table, with_truth=True), "mine", tmp_path / "mine")
    assert ready.pixels(ready.fields).dtype == np.uint16
    for index, row in table.iterrows():
        assert_array_equal(ready.pixels(ready.fields.iloc[[index]])[0], pixels_of(row))
        assert_array_equal(ready.truth(ready.fields.iloc[[index]])[0], truth_of(row))
    assert ready.truth(ready.fields).dtype == np.uint16
    assert np.load(tmp_path / "mine" / "truth" / "P0.npy").dtype == np.uint8  # no more than 255 objects
    pd.testing.assert_frame_equal(ready.fields[table.columns], table)
    assert ready.pixel_size == 0.5


def test_statistics_come_from_training_fields_only(tmp_path):
    table = field_table()

    def brighter_when_tested(row: pd.Series) -> np.ndarray:
        return pixels_of(row) + np.uint16(0 if row["Metadata_Split"] == "train" else 20_000)

    ready = prepare(screen_of(table, brighter_when_tested), "mine", tmp_path / "mine")
    training = np.stack([pixels_of(row) for _, row in table[table["Metadata_Split"] == "train"].iterrows()])
    assert_allclose(ready.mean, training.mean(axis=(0, 2, 3)), rtol=1e-12)
    assert_allclose(ready.std, training.std(axis=(0, 2, 3)), rtol=1e-9)


def test_a_new_split_changes_the_statistics_but_reads_no_plate_again(tmp_path):
    read = Counted()
    screen = screen_of(field_table(), read)
    first = prepare(screen, "mine", tmp_path / "mine")
    read.read.clear()
    again = prepare(screen, "mine", tmp_path / "mine", split_settings=SplitSettings(kind="plate", folds=3))
    assert len(read.read) == 2 * 3  # the first and last field of each plate, for its fingerprint
    assert first.mean != again.mean
    assert again.of("test")["Metadata_Plate"].nunique() == 1


def test_crop_and_downscale_keep_pixels_truth_and_objects_together(tmp_path):
    settings = PrepareSettings(crop=[40, 40], downscale=4)
    ready = prepare(screen_of(field_table(1), with_truth=True), "mine", tmp_path / "mine", settings)
    row = ready.fields.iloc[[3]]
    cut = pixels_of(row.iloc[0])[:, 4:44, 12:52].astype(float)
    blocks = [[cut[:, y : y + 4, x : x + 4].mean(axis=(1, 2)) for x in range(0, 40, 4)] for y in range(0, 40, 4)]
    assert_allclose(ready.pixels(row)[0], np.moveaxis(np.array(blocks), -1, 0), atol=0.501)
    # object 1 lies outside the cut; object 2 begins at (17 − 4, 30 − 12) / 4
    assert ready.objects["object"].unique().tolist() == [2]
    assert ready.objects[["y", "x"]].drop_duplicates().to_numpy().tolist() == [[3.25, 4.5]]
    assert set(np.unique(ready.truth(row))) == {0, 2}
    # blocks whose middle (2, 2) is in it: rows 14, 18, 22 and columns 18, 22, 26 of the cut
    assert_array_equal(np.argwhere(ready.truth(row)[0] == 2)[[0, -1]], [[3, 4], [5, 6]])
    assert ready.pixel_size == 2.0


def test_number_of_workers_changes_nothing(tmp_path):
    settings = {"illumination": "median", "scaling": "control"}
    for workers in (1, 3):
        prepare(screen_of(field_table()), "mine", tmp_path / str(workers), PrepareSettings(**settings, workers=workers))
    assert content(tmp_path / "1") == content(tmp_path / "3")


# illumination and scale


@pytest.mark.parametrize(("kept", "most"), [(2**29, 1), (0, 5)])
def test_a_field_is_read_once_where_memory_allows_and_no_value_changes(tmp_path, monkeypatch, kept, most):
    """Without memory the first field is read for the fingerprint, as the example, for the sample and for the array."""
    reads = []
    monkeypatch.setattr(plates, "KEPT", kept)
    table = field_table()
    screen = screen_of(table, lambda row: reads.append(row.name) or pixels_of(row))
    prepare(screen, "s", tmp_path, PrepareSettings(workers=1))
    counts = pd.Series(reads).value_counts()
    assert set(counts.index) == set(table.index)
    assert counts.max() <= most
    assert (counts.max() == 1) == (kept > 0)
    for plate in table["Metadata_Plate"].unique():
        stored = np.load(tmp_path / "plates" / f"{plate}.npy")
        own = table[table["Metadata_Plate"] == plate]
        assert_array_equal(stored, np.stack([pixels_of(row) for _, row in own.iterrows()]))


def shading(shape: tuple[int, int]) -> np.ndarray:
    """Smooth, asymmetric light with mean 1 that falls to about one half."""
    y, x = (np.indices(shape) + 0.5) / np.array(shape)[:, None, None] - 0.5
    light = 1 - 1.1 * (y - 0.1) ** 2 - 0.8 * (x + 0.15) ** 2 + 0.2 * x
    return light / light.mean()


@cache
def shaded_cells(shape: tuple[int, int]) -> np.ndarray:
    """64 fields of cells under ``shading``, reduced by 2."""
    rng = np.random.default_rng(0)
    cells = gaussian_filter((rng.random((64, 1, *shape)) > 0.998) * 1.0, (0, 0, 4, 4)) * 3000
    raw = (cells + 1000) * shading(shape) + rng.normal(0, 10, cells.shape)
    return np.stack([illumination.block_mean(field, 2) for field in raw])


@pytest.mark.parametrize("how", ["mean", "median"])
def test_illumination_recovers_a_known_shading(how):
    shape = (200, 256)
    reduced = shaded_cells(shape)
    estimate = illumination.illumination_function(reduced, how, 0.1, shape)[0]
    assert estimate.shape == shape
    assert_allclose(estimate.mean(), 1, rtol=1e-6)
    error = np.abs(estimate / shading(shape) - 1)
    assert error.mean() < 0.01
    assert error.max() < 0.06  # in the corners, where only a quarter of the pixels is near
    plain = gaussian_filter(reduced.mean(axis=0)[0], 10, mode="nearest")
    plain = np.abs(np.kron(plain / plain.mean(), np.ones((2, 2))) / shading(shape) - 1)
    assert error.max() < plain.max() / 2  # a plain Gaussian flattens the edges


def test_smoothing_keeps_planes_to_their_edges():
    y, x = np.indices((30, 40))
    plane = 3 + 0.2 * y - 0.1 * x
    assert_allclose(illumination.local_linear_fit(plane, 5.0), plane, atol=1e-9)


def test_corrected_fields_are_even(tmp_path):
    shape = (96, 128)
    rng = np.random.default_rng(1)
    flat = rng.normal(2000, 5, (8, 2, *shape))
    table = field_table(1)

    def shaded(row: pd.Series) -> np.ndarray:
        return (flat[int(row["Metadata_Well"][1:])] * shading(shape)).astype(np.uint16)

    ready = prepare(screen_of(table, shaded), "mine", tmp_path / "mine", PrepareSettings(illumination="mean"))
    stored = ready.pixels(ready.fields).astype(float)
    assert stored.std(axis=(2, 3)).max() < 25  # 5 of noise, against 300 of shading
    assert_allclose(stored.mean(), 2000, rtol=0.01)


@pytest.mark.parametrize("scaling", ["control", "plate"])
def test_scaling_undoes_the_gain_and_offset_of_each_plate_and_channel(tmp_path, scaling):
    gains = np.array([[1, 1], [3.7, 0.4], [0.9, 5]])[:, :, None, None]
    offsets = np.array([[0, 0], [300, 90], [1000, 20]])[:, :, None, None]

    def read(row: pd.Series) -> np.ndarray:
        plate = int(row["Metadata_Plate"][1:])
        same = drawn(f"P0{row['Metadata_Well']}", SHAPE).astype(float)
        return (same * gains[plate] + offsets[plate]).round().astype(np.uint16)

    ready = prepare(screen_of(field_table(), read), "mine", tmp_path / "mine", PrepareSettings(scaling=scaling))
    assert ready.fields["Quality_Clipped"].max() == 0
    assert ready.pixels(ready.fields).dtype == np.uint16
    stored = ready.pixels(ready.fields).astype(int).reshape(3, 8, 2, *SHAPE)
    # the raw values were rounded: at gain 0.4 by ±0.5 of about 7.5 scaled units
    assert_allclose(stored[1], stored[0], atol=30)
    assert_allclose(stored[2], stored[0], atol=15)


def test_scale_comes_from_controls_that_are_not_scored(tmp_path):
    """Wells A0 and A1 are training controls; A6 is one as well, but a test field."""
    table = field_table(1)

    def treated_glow(row: pd.Series) -> np.ndarray:
        return pixels_of(row) * np.uint16(1 if row["Metadata_Well"] in ("A0", "A1") else 3)

    ready = prepare(screen_of(table, treated_glow), "mine", tmp_path / "mine", PrepareSettings(scaling="control"))
    controls = ready.pixels(ready.fields[ready.fields["Metadata_Well"].isin(["A0", "A1"])])
    quantiles = np.quantile(np.moveaxis(controls, 1, 0).reshape(2, -1), [0.01, 0.995], axis=1)
    assert_allclose(quantiles.T, [[2000, 12000]] * 2, rtol=0.002)
    assert ready.fields.loc[~ready.fields["Metadata_Control"], "Quality_Clipped"].max() == 0  # room for the bright


def test_clipped_pixels_are_counted(tmp_path):
    def one_glows(row: pd.Series) -> np.ndarray:
        field = pixels_of(row)
        if row["Metadata_Well"] == "A7":
            field[0, :12, :16] = 65535
        return field

    ready = prepare(screen_of(field_table(1), one_glows), "mine", tmp_path / "mine", PrepareSettings(scaling="control"))
    assert ready.fields["Quality_Clipped"].tolist() == [0] * 7 + [pytest.approx(12 * 16 / (2 * 48 * 64), rel=1e-5)]


def test_a_dark_channel_stays_dark(tmp_path):
    def dark(row: pd.Series) -> np.ndarray:
        return pixels_of(row) * np.array([1, 0], np.uint16)[:, None, None]

    settings = PrepareSettings(illumination="mean", scaling="plate")
    ready = prepare(screen_of(field_table(1), dark), "mine", tmp_path / "mine", settings)
    assert np.unique(ready.pixels(ready.fields)[:, 1]).tolist() == [2000]
    assert ready.std[1] == 1


# quality


@cache
def power_law(exponent: float, side: int = 256) -> np.ndarray:
    """An image with power ∝ frequency ^ −exponent."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1
    phase = np.exp(2j * np.pi * rng.random(frequency.shape))
    return np.fft.irfft2(frequency ** (-exponent / 2) * phase, (side, side))


@pytest.mark.parametrize("exponent", [0, 2, 3])
def test_focus_is_the_slope_of_the_power_spectrum(exponent):
    # a ring has a length ∝ f, so the slope is 1 − exponent, up to the width of a ring
    assert quality.power_slope(power_law(exponent)) == pytest.approx(1 - exponent, abs=0.1)


def test_focus_ignores_gain_and_offset_and_falls_with_blur():
    image = power_law(1.5)
    sharp = quality.power_slope(image)
    assert quality.power_slope(image * 300 + 4000) == pytest.approx(sharp, abs=1e-3)
    slopes = [quality.power_slope(gaussian_filter(image, sigma, mode="wrap")) for sigma in (1, 2, 4)]
    assert sharp > slopes[0] > slopes[1] > slopes[2]
    assert quality.power_slope(np.full((64, 64), 7)) is None


def test_only_bad_fields_are_flagged(tmp_path):
    def read(row: pd.Series) -> np.ndarray:
        field = pixels_of(row, (128, 128))
        match f"{row['Metadata_Plate']}-{row['Metadata_Well']}":
            case "P0-A1":
                return np.zeros_like(field)
            case "P1-A2":
                return np.minimum(field * 100.0, 65535).astype(np.uint16)
            case "P2-A3":
                return gaussian_filter(field.astype(float), (0, 12, 12)).astype(np.uint16)
        return field

    ready = prepare(
        screen_of(field_table(), read), "mine", tmp_path / "mine", quality_settings=QualitySettings(blurred_below=-8)
    )
    named = ready.fields.set_index(ready.fields["Metadata_Plate"] + "-" + ready.fields["Metadata_Well"])
    flagged = {flag: named.index[named[f"Flag_{flag}"]].tolist() for flag in ("empty", "saturated", "blurred")}
    assert flagged["empty"] == ["P0-A1"]
    assert flagged["saturated"] == ["P1-A2"]
    assert flagged["blurred"] == ["P2-A3"]
    raw = read(ready.fields.iloc[10])
    assert named.loc["P1-A2", "Quality_Saturation_DNA"] == pytest.approx((raw[0] == 65535).mean(), rel=1e-5)
    assert np.isnan(named.loc["P0-A1", "Quality_Focus_DNA"])
    assert len(ready.fields) == 24  # flags leave nothing out


def test_a_twelve_bit_camera_saturates_at_4095(tmp_path):
    def read(row: pd.Series) -> np.ndarray:
        return np.minimum(pixels_of(row) * 5.0, 4095).astype(np.uint16)

    screen = screen_of(field_table(1), read)
    for found_or_told, limit in ((0, 4095), (4095, 4095), (3000, 3000)):
        share = (read(screen.fields.iloc[0])[0] >= limit).mean()
        ready = prepare(screen, "mine", tmp_path / str(found_or_told), PrepareSettings(saturated_at=found_or_told))
        assert ready.fields["Quality_Saturation_DNA"][0] == pytest.approx(share, rel=1e-5)
    plain = prepare(screen_of(field_table(1), lambda row: read(row) - np.uint16(1)), "mine", tmp_path / "plain").fields
    assert plain["Quality_Saturation_DNA"].max() == 0  # 4094 is no limit of a camera


# nothing is lost


@pytest.mark.parametrize("settings", [{}, {"illumination": "mean", "scaling": "control", "downscale": 2}])
def test_restart_after_a_crash_equals_an_uninterrupted_run(tmp_path, settings):
    settings, table = PrepareSettings(**settings, workers=2), field_table()
    prepare(screen_of(table, Counted(), with_truth=True), "mine", tmp_path / "whole", settings)
    with pytest.raises(RuntimeError, match="P1-A4: the power went out"):
        prepare(screen_of(table, Counted("P1-A4"), with_truth=True), "mine", tmp_path / "cut", settings)
    assert not (tmp_path / "cut" / "prepared.json").exists()
    read = Counted()
    prepare(screen_of(table, read, with_truth=True), "mine", tmp_path / "cut", settings)
    assert set(read.read[:2]) == {"P0-A0", "P0-A7"}
    assert "P0-A3" not in read.read  # the finished plate was kept
    assert "P1-A3" in read.read
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


def test_half_written_files_of_a_killed_process_are_removed(tmp_path, plain):
    screen = screen_of(field_table())
    part = tmp_path / ".mine.part" / "plates"
    part.mkdir(parents=True)
    (part / ".P0.npy.123.part.npy").write_bytes(b"half")  # as files.written_whole names it
    shutil.copy(plain / "plates" / "P1.json", part / "P1.json")  # killed before the array was renamed
    with pytest.raises(RuntimeError, match="the power went out"):
        prepare(screen_of(field_table(), Counted("P0-A4")), "mine", tmp_path / "mine")
    assert [path.name for path in part.iterdir()] == ["P1.json"]
    prepare(screen, "mine", tmp_path / "mine")
    assert content(tmp_path / "mine") == content(plain)


def test_after_a_kill_between_renames_the_next_run_completes(tmp_path, monkeypatch, mine, plain, halved):
    screen, settings = screen_of(field_table()), PrepareSettings(downscale=2)
    moves = []
    rename = Path.replace

    def replace_thrice(path: Path, target: Path) -> Path:
        if Path(target).is_relative_to(mine):
            moves.append(path)
            if len(moves) > 3:
                raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace_thrice)
    with pytest.raises(KeyboardInterrupt):
        prepare(screen, "mine", mine, settings)
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="run the prepare stage first"):
        load_prepared(mine)
    shutil.copytree(mine, tmp_path / "other")
    shutil.copytree(tmp_path / ".mine.part", tmp_path / ".other.part")
    prepare(screen, "mine", mine, settings)
    assert content(mine) == content(halved)
    # with the old settings, the new arrays are not mistaken for the old ones
    prepare(screen, "mine", tmp_path / "other")
    assert content(tmp_path / "other") == content(plain)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": PrepareSettings(downscale=2)},
        {"origin": {"size": 2}},
        {"screen": screen_of(field_table(), lambda row: pixels_of(row) + np.uint16(1))},
        {"screen": screen_of(field_table().assign(seed=1))},
    ],
)
def test_changed_inputs_rebuild_the_plates(tmp_path, plain, mine, change):
    changed = {"screen": screen_of(field_table()), "study": "mine"} | change
    prepare(**changed, folder=mine)
    prepare(**changed, folder=tmp_path / "fresh")
    assert content(mine)["plates/P0.json"] != content(plain)["plates/P0.json"]
    assert content(mine) == content(tmp_path / "fresh")


def test_a_replaced_file_rebuilds_its_plate(tmp_path):
    table = field_table(2)
    table["Path_DNA"] = [str(tmp_path / f"{index}.npy") for index in table.index]
    for path, row in zip(table["Path_DNA"], table.index, strict=True):
        np.save(path, pixels_of(table.loc[row]))
    screen = screen_of(table, lambda row: np.load(row["Path_DNA"]))
    prepare(screen, "mine", tmp_path / "mine")
    np.save(table["Path_DNA"][3], pixels_of(table.loc[3]) + np.uint16(7))  # neither the first nor the last
    ready = prepare(screen, "mine", tmp_path / "mine")
    assert_array_equal(ready.pixels(ready.fields.iloc[[3]])[0], pixels_of(table.loc[3]) + 7)


def test_only_plates_that_left_the_table_leave_the_folder(tmp_path):
    prepare(screen_of(field_table(3), with_truth=True), "mine", tmp_path / "mine")
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    prepare(screen_of(field_table(2), with_truth=True), "mine", tmp_path / "mine")
    names = sorted(content(tmp_path / "mine"))
    assert [name for name in names if "P2" in name] == []
    assert {"plates/P1.npy", "truth/P1.npy", "notes.txt"} <= set(names)


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("moment", ["before", "while writing a plate", "while writing the tables"])
def test_full_disk_keeps_the_previous_study(monkeypatch, plain, halved, mine, moment):
    screen = screen_of(field_table())
    if moment == "before":
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(plates.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    elif moment == "while writing a plate":
        monkeypatch.setattr(plates.np, "ascontiguousarray", full_disk_once_written(3))
    else:
        monkeypatch.setattr(fields, "write_table", full_disk)
    with pytest.raises(OSError, match=r"the disk is full .* make room and start again") as caught:
        prepare(screen, "mine", mine, PrepareSettings(downscale=2))
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert content(mine) == content(plain)
    ready = load_prepared(mine)
    assert ready.pixels(ready.fields).shape == (24, 2, *SHAPE)
    prepare(screen, "mine", mine, PrepareSettings(downscale=2))
    assert content(mine) == content(halved)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_plate_needs_room_for_all_its_fields(monkeypatch, tmp_path, missing):
    needed = 8 * 2 * np.prod(SHAPE) * 2  # fields, channels, pixels, bytes
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(plates.shutil, "disk_usage", lambda path: usage(10**9, 0, needed - missing))
    table = field_table(plates_of=1)
    if missing:
        with pytest.raises(OSError, match=r"P0 needs .* are free"):
            prepare(screen_of(table), "mine", tmp_path)
    else:
        prepare(screen_of(table), "mine", tmp_path)


def full_disk_once_written(count: int):
    """``np.ascontiguousarray``, the last step before a field is written, until the disk is full."""
    plain, calls = np.ascontiguousarray, []

    def contiguous(array: np.ndarray) -> np.ndarray:
        calls.append(array)
        if array.shape == (2, SHAPE[0] // 2, SHAPE[1] // 2) and len(calls) > count:
            full_disk()
        return plain(array)

    return contiguous


# bad input


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda field: field[:1],
            r"plate P1, well A2, site 1: its array has shape \(1, 48, 64\), not 2 channels \(DNA, Actin\)",
        ),
        (lambda field: field[:, 1:], r"plate P1, well A2, site 1: uint16 of \(2, 47, 64\), but the first field"),
        (lambda field: (field // 256).astype(np.uint8), "plate P1, well A2, site 1: uint8 of .* uint16"),
        (lambda field: np.where(field > 600, np.nan, field), "plate P1, well A2, site 1: some pixels are NaN"),
    ],
)
def test_a_bad_field_is_named_and_the_previous_study_stays(plain, mine, damage, sentence):
    def read(row: pd.Series) -> np.ndarray:
        field = pixels_of(row) + np.uint16(1)
        return damage(field) if (row["Metadata_Plate"], row["Metadata_Well"]) == ("P1", "A2") else field

    with pytest.raises(ValueError, match=sentence):
        prepare(screen_of(field_table(), read), "mine", mine)
    assert content(mine) == content(plain)


def test_settings_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(SettingsError, match="crop"):
        PrepareSettings(crop=[100])
    with pytest.raises(ValueError, match=r"crop: \[49, 64\] px is more than a field of 48 × 64 px"):
        prepare(screen_of(field_table(1)), "mine", tmp_path / "mine", PrepareSettings(crop=[49, 64]))
    table = field_table(1).assign(Metadata_Plate="../outside")
    with pytest.raises(ValueError, match=r"plate '\.\./outside': a plate names its file"):
        prepare(screen_of(table), "mine", tmp_path / "deep" / "mine")
    assert not (tmp_path / "deep" / "outside.npy").exists()


def test_too_few_fields_for_an_illumination_function_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"plate P0: 7 fields are too few .* set illumination to none"):
        prepare(
            screen_of(field_table(1).iloc[1:].reset_index(drop=True)),
            "mine",
            tmp_path / "mine",
            PrepareSettings(illumination="mean"),
        )


def test_load_says_what_is_wrong(tmp_path, plain):
    with pytest.raises(FileNotFoundError, match="run the prepare stage first"):
        load_prepared(tmp_path)
    with pytest.raises(ValueError, match="this is study 'mine', not 'other'"):
        load_prepared(plain, "other")
    assert json.loads((plain / "prepared.json").read_text())["settings"]["illumination"] == "none"


def test_a_label_with_a_bar_is_a_class_of_its_own_unless_the_study_has_several_labels_a_field(tmp_path):
    table = field_table().replace({"Metadata_Label": {"b": "a|b"}})
    table.loc[0, "Metadata_Label"] = ""
    screen = replace(screen_of(table), classes=["a", "a|b"])
    ready = prepare(screen, "mine", tmp_path / "mine")
    assert ready.fields["Metadata_Label"].isna().tolist() == [True] + [False] * 23
    assert ready.targets(ready.fields).tolist() == [-1, 1] + [0, 1] * 11
    several = replace(ready, classes=["a", "b"], multilabel=True)
    assert several.targets(ready.fields[1:]).tolist() == [0] * 23  # the first label counts


def test_of_several_labels_an_object_carries_any_that_it_shows(tmp_path):
    ready = prepare(screen_of(field_table(), with_truth=True), "mine", tmp_path / "mine")  # objects 1 of a, 2 of b
    several = replace(ready, classes=["a", "b", "c"], multilabel=True)
    several.__dict__["objects"] = ready.objects.replace({"class": {"b": "b|c"}})
    rows = several.fields.iloc[[0, 1, 0, 2]].assign(Metadata_Label=["a", "c", "a|b", "d"])
    expected = [truth_of(None) == 1, truth_of(None) == 2, truth_of(None) > 0, np.zeros(SHAPE, bool)]
    assert_array_equal(several.labelled_mask(rows), np.stack(expected))
    again = several.with_fields(rows.iloc[[0, 1]].assign(Metadata_Label=["c", "a|b"]))
    again.__dict__["objects"] = several.objects
    assert again.label_share().tolist() == [0.5, 1]


def test_fields_without_a_label_are_prepared_and_change_no_mean(tmp_path, plain):
    table = field_table()
    table = pd.concat([table, table[:8].assign(Metadata_Plate="P9", Metadata_Label="")], ignore_index=True)
    ready, known = prepare(screen_of(table), "mine", tmp_path / "mine"), load_prepared(plain)
    assert ready.fields["Metadata_Split"].tolist() == [*known.fields["Metadata_Split"], *["unlabelled"] * 8]
    assert_array_equal(ready.pixels(ready.of("unlabelled"))[3], pixels_of(table.iloc[27]))
    assert (ready.mean, ready.std) == (known.mean, known.std)


def test_scaling_to_controls_needs_a_control_and_names_what_looks_like_one(tmp_path, capsys):
    names = [f"drug {number}" for number in range(10)] * 2 + ["DMSO 0.1%"] * 4
    table = field_table().assign(Metadata_Control=False, Metadata_Compound=names)
    with pytest.raises(ValueError, match=r"in 'controls'; the table has DMSO 0\.1%, drug 0, drug 1 and 8 more"):
        prepare(screen_of(table), "mine", tmp_path / "mine", PrepareSettings(scaling="control"))
    assert not (tmp_path / "mine").exists()
    table = field_table()
    table.loc[table["Metadata_Plate"] == "P1", "Metadata_Control"] = False
    prepare(screen_of(table), "mine", tmp_path / "mine", PrepareSettings(scaling="control"))
    assert "plate P1: no negative control that is not scored: all its fields set" in capsys.readouterr().out
