"""Grey values that are no ordinary counts: signed data, cameras of fewer bits, fields without light, full of cells."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from milcnn.prepare.fields import prepare
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.prepare.quality import all_ones, peaks, saturation
from milcnn.screens.screen import Screen
from tests.prepare.test_fields import CHANNELS, field_table

SIZE = 96
EVEN = PrepareSettings(illumination="median", scaling="plate")
LIGHT = 1.5 - np.arange(SIZE) / SIZE


def counts(number: int) -> np.ndarray:
    """Spots and photon noise (2, 96, 96) under a light that falls from left to right."""
    rng = np.random.default_rng(number)
    spots = gaussian_filter((rng.random((2, SIZE, SIZE)) > 0.995) * 20_000.0, (0, 2, 2))
    return rng.poisson((300 + spots) * LIGHT)


def screen_of_counts(change) -> Screen:
    table = field_table(1, 8)
    return Screen(table, CHANNELS, ["a", "b"], read=lambda row: change(counts(int(row["Metadata_Well"][1:]))))


def test_counts_less_32768_are_corrected_like_the_counts(tmp_path):
    """Olympus Scan^R: the pixels that are stored are those of the same counts in uint16."""
    signed = screen_of_counts(lambda image: (image - 32768).astype(np.int16))
    unsigned = screen_of_counts(lambda image: image.astype(np.uint16))
    one, two = (
        prepare(screen, "a", tmp_path / name, EVEN) for name, screen in (("signed", signed), ("unsigned", unsigned))
    )
    got, expected = (ready.pixels(ready.fields).astype(int) for ready in (one, two))
    assert np.abs(got - expected).max() <= 2  # of about 10,000
    left, right = (np.median(got[:, 0, :, columns]) for columns in (slice(0, 24), slice(72, 96)))
    assert left / right == pytest.approx(1, abs=0.02)
    raw = prepare(signed, "a", tmp_path / "raw", PrepareSettings(illumination="median"))
    assert raw.pixels(raw.fields).dtype == np.int16
    flat = raw.pixels(raw.fields).astype(int) + 32768
    assert np.median(flat[:, 0, :, :24]) / np.median(flat[:, 0, :, 72:]) == pytest.approx(1, abs=0.02)


def test_signed_data_without_an_offset_keep_their_zero(tmp_path):
    """A background was subtracted: some pixels are below 0, and 0 is no light."""
    screen = screen_of_counts(lambda image: (image - 100).astype(np.int16))
    shifted = screen_of_counts(lambda image: (image - 100).astype(np.float32))
    one, two = (
        prepare(each, "a", tmp_path / str(at), PrepareSettings(illumination="mean"))
        for at, each in enumerate((screen, shifted))
    )
    np.testing.assert_allclose(one.pixels(one.fields), two.pixels(two.fields), atol=0.51)


def test_a_channel_below_0_is_refused_before_anything_is_written(tmp_path):
    screen = screen_of_counts(lambda image: np.stack([image[0], -image[1]]).astype(np.int32))
    with pytest.raises(ValueError, match=r"plate P0: channel Actin is below 0 .*set illumination to none\."):
        prepare(screen, "a", tmp_path / "a", EVEN)
    assert not list(tmp_path.rglob("*.npy"))
    prepare(screen, "a", tmp_path / "a")


@pytest.mark.parametrize("value", [255, 1023, 4095, 16383, 32767, 65520, 65472])
def test_the_limits_of_cameras(value):
    assert all_ones(value)


@pytest.mark.parametrize("value", [0, -1, 127, 254, 4094, 4096, 4080, 8190, 60000, 131_070])
def test_other_values_are_no_limits(value):
    assert not all_ones(value)


@pytest.mark.parametrize(
    ("at_limit", "dtype", "zero", "full"),
    [
        (500, np.uint16, 0, 4095),
        (5, np.uint16, 0, 65535),  # so few may be chance
        (500, np.int16, -32768, 4095 - 32768),
        (500, np.float32, 0, np.inf),
    ],
)
def test_a_pile_at_the_largest_value_is_saturation(at_limit, dtype, zero, full):
    image = np.random.default_rng(0).integers(0, 4000, (2, 64, 64))
    image[0].flat[:at_limit] = 4095
    field = (image + zero).astype(dtype)
    other = (np.full((2, 64, 64), 9) + zero).astype(dtype)
    found = np.stack([peaks(field), peaks(other)])
    top = np.inf if dtype == np.float32 else np.iinfo(dtype).max
    np.testing.assert_array_equal(saturation(found, np.dtype(dtype), zero), [full, top])


def test_blank_is_without_light_not_full_of_cells(tmp_path):
    """One field is black, one has only the camera's noise, one is covered with cells; the others have some cells."""

    def read(row):
        number = int(row["Metadata_Well"][1:])
        rng = np.random.default_rng(number)
        spots = gaussian_filter((rng.random((2, SIZE, SIZE)) > (0.8 if number == 5 else 0.99)) * 40_000.0, (0, 3, 3))
        signal = {3: 0, 4: 0}.get(number, 1) * spots
        return ((signal + rng.normal(500, 20, signal.shape)) * (number != 3)).astype(np.uint16)

    ready = prepare(Screen(field_table(1, 8), CHANNELS, ["a", "b"], read=read), "a", tmp_path / "a")
    assert ready.fields.loc[ready.fields["Flag_empty"], "Metadata_Well"].tolist() == ["A3", "A4"]
    assert ready.fields["Quality_Foreground_DNA"][5] > 0.9


def test_a_bright_tail_that_ends_at_a_limit_by_chance_is_no_saturation():
    tail = np.repeat(np.arange(4080, 4096), 20)  # 20 pixels at each of the values up to 4,095
    field = np.concatenate([np.zeros(704, int), tail]).reshape(1, 32, 32).astype(np.uint16)
    assert saturation(peaks(field)[None], field.dtype, 0) == 65535
