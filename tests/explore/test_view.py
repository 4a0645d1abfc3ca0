"""Pictures: against values worked out by hand, and against the field itself."""

import io

import numpy as np
import pytest
from PIL import Image

from milcnn.explore.view import (
    GAP,
    OPACITY,
    Channel,
    Frame,
    as_image,
    as_jpeg,
    blended,
    box_of,
    channel_colours,
    lined,
    on_screen,
    screen_size,
    square_around,
    strip_of,
    tinted,
    with_bar,
)  # fmt: skip
from milcnn.figures.gallery import scale_bar


def test_each_channel_adds_its_colour_from_black_to_full():
    planes = np.array([[[100, 150, 200, 900]], [[0, 0, 10, 10]]], np.uint16)
    channels = [Channel("#FF0000", 100, 200), Channel("#008000", 0, 10)]
    green = 128 / 255
    expected = [[0, 0, 0], [0.5, 0, 0], [1, green, 0], [1, green, 0]]
    np.testing.assert_allclose(blended(planes, channels)[0], expected, atol=1e-6)


def test_two_colours_add_up_to_white_at_most_and_a_channel_that_is_off_adds_nothing():
    planes = np.full((3, 1, 1), 10.0)
    channels = [Channel("#FFFF00", 0, 10), Channel("#FF00FF", 0, 10), Channel("#FFFFFF", 0, 5, on=False)]
    assert blended(planes, channels).tolist() == [[[1, 1, 1]]]
    assert blended(planes[2:], channels[2:]).max() == 0


def test_one_channel_is_grey_and_eight_have_colours():
    assert channel_colours(1) == ["#FFFFFF"]
    assert len(set(channel_colours(6))) == 6
    assert len(channel_colours(8)) == 8


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        (Frame(50, 100), (0, 0, 200, 100)),
        (Frame(50, 100, 2), (50, 25, 150, 75)),
        (Frame(0, 0, 4), (0, 0, 50, 25)),
        (Frame(99, 199, 4), (150, 75, 200, 100)),
    ],
)
def test_a_frame_stays_inside_the_field(frame, box):
    assert box_of(frame, 100, 200) == box


def test_a_square_around_a_place_stays_inside_the_field():
    assert square_around(50, 100, 20, 100, 200) == (90, 40, 110, 60)
    assert square_around(0, 199, 20, 100, 200) == (180, 0, 200, 20)
    assert square_around(3, 3, 500, 100, 200) == (0, 0, 100, 100)


def test_scaling_down_averages_and_never_mixes_the_numbers_of_cells():
    plane = np.kron([[1000, 3000], [5000, 7000]], np.ones((8, 8))).astype(np.uint16)
    small = on_screen(plane, (0, 0, 16, 16), (4, 4))
    assert small.mean() == pytest.approx(4000)
    assert small[0, 0] < small[0, 3] < small[3, 0] < small[3, 3]
    np.testing.assert_array_equal(on_screen(plane, (9, 1, 15, 7), (6, 6)), np.full((6, 6), 3000))
    assert set(np.unique(on_screen(plane, (0, 0, 16, 16), (5, 5), whole=True))) == {1000, 3000, 5000, 7000}


def test_a_map_tints_from_the_threshold_on_by_its_value():
    values = np.array([[0.2, 0.5, 1.0]])
    shown = tinted(np.zeros((1, 3, 3), np.float32), values, 0.5, "#00FF00")
    np.testing.assert_allclose(shown[0, :, 1], [0, OPACITY * 0.5, OPACITY], atol=1e-6)
    assert shown[..., [0, 2]].max() == 0


def test_lines_lie_on_the_border_of_each_region_also_where_two_touch():
    regions = np.zeros((9, 9), int)
    regions[1:8, 1:5], regions[1:8, 5:8] = 1, 2
    lines = lined(np.zeros((9, 9, 3)), regions, "#FFFFFF")[..., 0] == 1
    expected = np.zeros((9, 9), bool)
    expected[1:8, 1:8] = True
    expected[2:7, 2:4] = expected[2:7, 6] = False  # inside the two
    np.testing.assert_array_equal(lines, expected)


def test_the_longer_side_has_the_asked_size():
    assert screen_size(1024, 1280, 560) == (560, 448)
    assert screen_size(256, 256, 560) == (560, 560)


def test_the_scale_bar_is_as_long_as_it_says():
    image = with_bar(Image.new("RGB", (500, 500)), shown_px=250, pixel_size=0.5)
    length, text = scale_bar(250, 0.5)
    assert text == "20 µm"
    white = np.asarray(image)[int(0.97 * 500) - 1].min(axis=1) == 255
    assert abs(white.sum() - 2 * length) <= 2  # 250 px of the field are 500 px


def test_a_jpeg_of_a_field_looks_like_it():
    ramp = np.stack([*np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64)), np.zeros((64, 64))], axis=2)
    back = np.asarray(Image.open(io.BytesIO(as_jpeg(as_image(ramp))))) / 255
    assert np.abs(back - ramp).mean() < 0.01


def test_small_pictures_stand_side_by_side_and_one_is_framed():
    strip = strip_of([np.zeros((10, 10, 3)), np.full((6, 10, 3), 0.5)], current=1, side=10)
    step = 10 + 2 * GAP
    assert strip.shape == (step, 2 * step, 3)
    assert strip[0, 0].tolist() == [1, 1, 1]
    assert strip[0, step, 1] < 0.3  # red
    assert strip[GAP, GAP].tolist() == [0, 0, 0]
    assert strip[GAP + 5, step + GAP].tolist() == [0.5, 0.5, 0.5]
    assert strip_of([], 0, 10).shape[1] == 0
