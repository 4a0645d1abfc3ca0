"""Galleries: what is shown against hand-made tables, true objects and the page read back."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from matplotlib.colors import to_rgb
from PIL import Image

from milcnn.figures.gallery import class_colour, display_range, false_colour, ranked_sheet, scale_bar
from milcnn.network import model, predict
from milcnn.paths import ROOT
from milcnn.prepare.prepared import Prepared, load_prepared
from milcnn.study import gallery_page

SAMPLE = ROOT / "data" / "sample"
CLASSES = ["a", "b", "c"]


def predictions(rows):
    """A table of predictions from ``(label, predicted, y_a, y_b, y_c)``."""
    table = pd.DataFrame(rows, columns=["Metadata_Label", "predicted", "y_a", "y_b", "y_c"])
    return table.assign(Metadata_Plate="P", Metadata_Well=[f"A{n:02}" for n in range(len(table))], Metadata_Site=1)


@pytest.fixture(scope="module")
def sample():
    """The sample's fields, a network, and the scores of the test fields."""
    ready = load_prepared(SAMPLE / "prepared")
    network = model.load_model(SAMPLE / "models" / "noisy_and-0" / "model.safetensors")
    rows = ready.of("test")
    table = gallery_page.with_scores(predict.predict_fields(network, ready, rows)[0], ready.classes).assign(
        index=rows["index"]
    )
    return ready, network, table


@pytest.fixture(scope="module")
def drawn(sample, tmp_path_factory):
    """The page of the sample: its folder, its cells and their crops."""
    ready, network, table = sample
    folder = tmp_path_factory.mktemp("page")
    (folder / "thumbs").mkdir()
    (folder / "thumbs" / "99999.webp").write_bytes(b"of a run with more fields")
    (folder / "note.txt").write_text("not the gallery's")
    cells = gallery_page.likeliest(gallery_page.draw_fields(network, ready, table, folder), ready.classes, 2)
    crops = gallery_page.crop_cells(network, ready, table, cells)
    gallery_page.write_gallery(ready, table, cells, crops, folder)
    return folder, cells, crops


def test_score_is_the_probability_of_the_label_and_of_several_the_least():
    table = gallery_page.with_scores(predictions([("a", "a", 0.7, 0.2, 0.1), ("a|c", None, 0.4, 0.9, 0.3)]), CLASSES)
    assert table["score"].tolist() == [0.7, 0.3]
    assert table["correct"].tolist() == [1, 0]
    assert table["predicted"].tolist() == ["a", "none"]


def test_a_field_without_a_label_is_shown_for_its_predicted_class_and_never_ranked():
    rows = [(None, "b", 0.1, 0.8, 0.1), ("a", "a", 0.7, 0.2, 0.1)]
    table = gallery_page.with_scores(predictions(rows), CLASSES)
    assert table[["Metadata_Label", "score"]].to_numpy().tolist() == [["", 0.8], ["a", 0.7]]
    assert gallery_page.shown_classes(table, CLASSES) == [[1], [0]]
    assert gallery_page.ranked(table, CLASSES).index.tolist() == [1, 1, 1]


def test_a_page_says_which_fields_have_no_label(sample, tmp_path):
    ready, network, table = sample
    some = table.iloc[:2].assign(Metadata_Label=["", table["Metadata_Label"].iloc[1]], correct=[0, 1])
    cells = gallery_page.likeliest(gallery_page.draw_fields(network, ready, some, tmp_path), ready.classes, 1)
    crops = gallery_page.crop_cells(network, ready, some, cells)
    page = BeautifulSoup(gallery_page.write_gallery(ready, some, cells, crops, tmp_path).read_text(), "html.parser")
    first, second = page.select(".field")
    assert first["data-right"] == ""
    assert first.get_text().strip().startswith("no labelpredicted")
    assert second["data-right"] == "yes"


def test_ranked_has_best_median_and_worst_of_each_class_that_has_fields():
    rows = [("a", "a", p, 1 - p, 0) for p in (0.1, 0.9, 0.5, 0.3, 0.7)] + [("c", "b", 0, 0.8, 0.2)]
    chosen = gallery_page.ranked(gallery_page.with_scores(predictions(rows), CLASSES), CLASSES)
    assert chosen["class"].tolist() == ["a"] * 3 + ["c"] * 3
    assert chosen["rank"].tolist() == ["best", "median", "worst"] * 2
    assert chosen["score"].tolist() == [0.9, 0.5, 0.1, 0.2, 0.2, 0.2]
    assert chosen.index.tolist() == [1, 2, 0, 5, 5, 5]


def test_label_and_call_are_both_shown_once_each():
    table = pd.DataFrame({"Metadata_Label": ["a", "a", "a|b"], "predicted": ["a", "c", "none"]})
    assert gallery_page.shown_classes(table, CLASSES) == [[0], [0, 2], [0, 1]]


def test_likeliest_takes_one_place_a_field_in_the_order_of_the_classes():
    peaks = pd.DataFrame({"class": ["b", "a"] * 3, "p": [0.1, 0.9, 0.6, 0.2, 0.5, 0.8], "field": [0, 0, 1, 1, 2, 2]})
    cells = gallery_page.likeliest(peaks, ["a", "b"], 2)
    assert list(zip(cells["class"], cells["field"], strict=True)) == [("a", 0), ("a", 2), ("b", 1), ("b", 2)]


def test_peaks_are_where_the_maps_are_highest():
    maps = np.zeros((2, 4, 6))
    maps[0, 3, 1], maps[1, 0, 5] = 0.5, 0.75
    peaks = gallery_page.class_peaks(maps, ["a", "b"])
    assert peaks.to_numpy().tolist() == [["a", 0.5, 3, 1], ["b", 0.75, 0, 5]]


@pytest.mark.parametrize("place", [(0, 0), (99, 149), (50, 70)])
def test_a_window_is_whole_holds_its_place_and_is_cut_from_the_image(place):
    image = np.arange(100 * 150).reshape(100, 150)
    cut = gallery_page.window(image, *place)
    assert cut.shape == (gallery_page.CROP, gallery_page.CROP)
    assert image[place] in cut
    assert np.array_equal(np.diff(cut, axis=0), np.full((gallery_page.CROP - 1, gallery_page.CROP), 150))


def test_a_mask_of_one_field_and_class_does_not_depend_on_the_others(sample):
    ready, network, table = sample
    pixels = torch.from_numpy(ready.pixels(table.iloc[:3]))
    wanted = [[0, 4, 5, 8], [], [1, 2]]  # more than one batch
    together = gallery_page.class_masks(network, pixels, wanted)
    alone = gallery_page.class_masks(network, pixels[2:], [[2]])
    assert [sorted(masks) for masks in together] == wanted
    assert alone[0][2].any()
    assert (together[2][2] != alone[0][2]).mean() < 0.01  # sums of another batch are rounded otherwise


def test_outlines_change_the_border_of_the_mask_only_and_have_the_colour_of_the_class():
    rgb = np.full((40, 40, 3), 0.5)
    mask = np.zeros((40, 40), bool)
    mask[10:20, 10:20] = True
    image = gallery_page.outlined(rgb, {2: mask}, gallery_page.THUMB)  # 4 px a pixel
    changed = (image != 127).any(axis=2)
    border = np.zeros((160, 160), bool)
    border[40:80, 40:80] = True
    border[41:79, 41:79] = False
    assert np.array_equal(changed, border)
    assert (image[border] == np.uint8(255 * np.array(to_rgb(class_colour(2))))).all()


def test_map_strip_has_a_tile_a_class_from_black_to_yellow():
    strip = gallery_page.map_strip(np.stack([np.zeros((20, 10)), np.ones((20, 10))]))
    assert strip.shape == (gallery_page.TILE, 2 * gallery_page.TILE, 3)
    assert strip[:, : gallery_page.TILE].max() < 5
    assert strip[0, gallery_page.TILE].tolist() == [251, 252, 191]  # the last colour of magma
    assert not strip[
        :, gallery_page.TILE + gallery_page.TILE // 2 :
    ].any()  # a narrow field leaves the rest of its tile black


@pytest.mark.parametrize(
    ("width", "pixel_size", "length", "text"),
    [
        (256, 0.65, 50 / 0.65, "50 µm"),
        (1280, 0.3, 100 / 0.3, "100 µm"),
        (300, None, 100, "100 px"),
        (2, 3, 2 / 3, "2 µm"),
    ],
)
def test_scale_bar_is_the_longest_round_length_within_a_third(width, pixel_size, length, text):
    assert scale_bar(width, pixel_size) == (pytest.approx(length), text)


def test_composite_is_blue_green_red_between_its_range_and_a_constant_channel_is_black():
    pixels = np.stack([np.linspace(10, 30, 100).reshape(10, 10), np.full((10, 10), 7.0)])
    low, high = display_range(pixels[None])
    assert (low[0].item(), high[0].item()) == pytest.approx((10.1, 29.9))
    rgb = false_colour(pixels, low, high)
    assert rgb.shape == (10, 10, 3)
    assert not rgb[..., :2].any()  # red is missing, green constant
    assert rgb[0, 0, 2] == 0
    assert rgb[9, 9, 2] == 1
    assert rgb[4, 5, 2] == pytest.approx((pixels[0, 4, 5] - 10.1) / 19.8)


def test_one_channel_is_grey_and_a_fourth_is_left_out():
    pixels = np.random.default_rng(0).random((4, 5, 5))
    low, high = np.zeros((4, 1, 1)), np.ones((4, 1, 1))
    grey = false_colour(pixels[:1], low[:1], high[:1])
    assert np.array_equal(grey, np.repeat(pixels[0][..., None], 3, axis=2))
    assert np.array_equal(false_colour(pixels, low, high), pixels[[2, 1, 0]].transpose(1, 2, 0))


def test_sheets_put_each_field_under_its_class_and_rank():
    table = gallery_page.with_scores(predictions([("a", "a", 0.9, 0.1, 0), ("c", "b", 0.1, 0.8, 0.1)]), CLASSES)
    chosen = gallery_page.ranked(table, CLASSES)
    rgb, mask = np.zeros((20, 20, 3)), np.zeros((20, 20), bool)
    fig = ranked_sheet(chosen, CLASSES, [rgb] * 6, [{0: mask}] * 6, 0.5)
    titles = [ax.get_title() for ax in fig.axes]
    assert titles[0] == "a, best: 0.90\npredicted a"
    assert titles[3:6] == ["", "", ""]  # b has no field
    assert titles[8] == "c, worst: 0.10\npredicted b"
    assert "2 µm" in [text.get_text() for text in fig.axes[0].texts]
    plt.close(fig)


def test_cells_of_a_class_are_cut_around_its_true_objects(sample):
    ready, network, table = sample
    maps = gallery_page.all_class_maps(network, torch.from_numpy(ready.pixels(table))).numpy()
    peaks = pd.concat([gallery_page.class_peaks(one, ready.classes).assign(field=i) for i, one in enumerate(maps)])
    own = peaks[peaks["class"].to_numpy() == np.repeat(table["Metadata_Label"].to_numpy(), len(ready.classes))]
    shown = gallery_page.crop_cells(network, ready, table, own)
    assert shown.shape == (len(table), gallery_page.CROP, gallery_page.CROP, 3)
    objects = ready.labelled_mask(table)
    hits = 0
    for (_, row), crop, true in zip(table.iterrows(), shown, objects, strict=True):
        low, high = gallery_page.range_of(ready, table)
        rgb = false_colour(ready.pixels(row.to_frame().T)[0], low, high)
        corners = [(y, x) for y in range(33) for x in range(33) if np.array_equal(rgb[y : y + 64, x : x + 64], crop)]
        (y, x), *_ = corners
        hits += true[y + 16 : y + 48, x + 16 : x + 48].any()
    assert hits >= 8  # of nine, although half the digits of a field are others


def test_a_crop_without_evidence_is_centred_at_the_peak_of_the_class_map(sample, monkeypatch):
    ready, network, table = sample
    monkeypatch.setattr(gallery_page, "sharp_map", lambda network, pixels, index: torch.zeros(1, *pixels.shape[-2:]))
    cells = pd.DataFrame({"class": [ready.classes[0]], "p": [1.0], "field": [2], "y": [50], "x": [44]})
    low, high = gallery_page.range_of(ready, table)
    rgb = false_colour(ready.pixels(table.iloc[[2]])[0], low, high)
    (crop,) = gallery_page.crop_cells(network, ready, table, cells)
    np.testing.assert_array_equal(crop, gallery_page.window(rgb, 50, 44))


def test_all_class_maps_are_those_of_each_class(sample):
    ready, network, table = sample
    pixels = torch.from_numpy(ready.pixels(table.head(2)))
    maps = gallery_page.all_class_maps(network, pixels)
    for index in range(len(ready.classes)):
        np.testing.assert_allclose(maps[:, index], gallery_page.class_map(network, pixels, index).numpy(), atol=1e-6)


def test_a_field_without_an_instance_is_refused_as_by_class_map(sample):
    _, network, _ = sample
    small = torch.zeros(1, 1, 16, 16)
    with pytest.raises(ValueError, match="px") as told:
        gallery_page.all_class_maps(network, small)
    with pytest.raises(ValueError, match="px") as expected:
        gallery_page.class_map(network, small, 0)
    assert str(told.value) == str(expected.value)


def test_page_of_the_sample_has_every_picture_it_names_and_no_old_ones(sample, drawn):
    _, _, table = sample
    folder, cells, _ = drawn
    page = BeautifulSoup((folder / "index.html").read_text(), "html.parser")
    sources = [image["src"] for image in page.find_all("img") if "src" in image.attrs]
    assert len(sources) == len(table) + len(cells)
    assert all((folder / source).exists() for source in sources)
    for kind in ("thumbs", "views", "maps"):
        assert len(list((folder / kind).iterdir())) == len(table)
    with Image.open(folder / "views" / "00000.webp") as view:
        assert view.size == (gallery_page.VIEW, gallery_page.VIEW)
    assert (folder / "note.txt").exists()
    assert "the size of a pixel is not known" in " ".join(page.get_text().split())


def many(folder, n=2000):
    """A page of ``n`` made-up fields on 10 plates, without pictures."""
    rng = np.random.default_rng(0)
    rows = [(rng.choice(CLASSES), rng.choice(CLASSES), *rng.dirichlet([1, 1, 1])) for _ in range(n)]
    table = gallery_page.with_scores(predictions(rows), CLASSES)
    table["Metadata_Plate"] = [f"<b>plate</b> \"{number % 10}'" for number in range(n)]
    table = table.assign(**{f"P_{name}": table[f"y_{name}"] for name in CLASSES})
    cells = pd.DataFrame({"class": CLASSES, "p": 0.9, "field": [0, 1, 2]})

    class Made(Prepared):
        def pixels(self, rows):
            return np.zeros((len(rows), 1, 200, 300), np.uint8)

    made = Made(folder, "<i>made up</i>", ["x"], CLASSES, [0.0], [1.0], pixel_size=0.5)
    return table, gallery_page.write_gallery(made, table, cells, np.zeros((3, 64, 64, 3)), folder)


def test_page_of_2000_fields_is_small_lazy_escaped_and_needs_no_network(tmp_path):
    table, path = many(tmp_path)
    assert path.stat().st_size < 2.5e6
    page = BeautifulSoup(path.read_text(), "html.parser")
    entries = page.select("#fields > li")
    assert len(entries) == 2000
    assert [entry["data-plate"] for entry in entries] == table["Metadata_Plate"].tolist()
    assert [entry["data-right"] for entry in entries] == table["correct"].map({1: "yes", 0: "no"}).tolist()
    assert not page.find_all(["b", "i", "link", "iframe"])
    assert not [script for script in page.find_all("script") if script.get("src")]
    assert "http" not in path.read_text()
    thumbnails = page.select("#fields img")
    assert all(image["loading"] == "lazy" and image["width"] and image["height"] for image in thumbnails)
    assert all(image["alt"].startswith("Field ") for image in thumbnails)
    assert [len(page.select(f"select[name={name}] option")) for name in ("label", "plate")] == [4, 11]


def test_everything_that_can_be_clicked_can_be_reached_by_keyboard_and_has_a_name(tmp_path):
    page = BeautifulSoup(many(tmp_path, n=5)[1].read_text(), "html.parser")
    assert all(button.get_text(strip=True) or button.img["alt"] for button in page.find_all("button"))
    assert {image.parent.name for image in page.select("#fields img, .cell img")} == {"button"}
    assert all(control.find_parent("label") for control in page.find_all(["select", "input"]))
    assert page.find("dialog")["aria-labelledby"] == page.find("dialog").p["id"]
    assert page.find("output")["aria-live"] == "polite"
