"""Small screens as users bring them, prepared as notebook 01 does, where a folder with them is given.

``MILCNN_CASES`` names a folder of cases: ``<case>/expect.json`` says how the case is set (``settings``) and what it
must hold (``values``) or what a refusal must name (``refusal_names``).
"""

import json
import os
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from milcnn.columns import COMPOUND, FIELD_KEY, LABEL, SETS, SPLIT
from milcnn.prepare.fields import prepare
from milcnn.prepare.prepared import Prepared
from milcnn.prepare.preprocessing import PrepareSettings
from milcnn.prepare.splits import SplitSettings
from milcnn.screens.sets.kinds import open_screen

FOLDER = Path(os.environ.get("MILCNN_CASES", "no-such-folder"))
CASES = {path.parent.name: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*/expect.json"))}
FORMS = ["plain", "omezarr_fields", "phenix_index", "imagexpress_folder"]  # of one screen
FLAGS = {"blank": "Flag_empty", "saturated": "Flag_saturated"}


def prepared_case(name: str, to: Path) -> Prepared:
    """The case as notebook 01 prepares it."""
    settings = dict(CASES[name]["settings"])
    split = SplitSettings(**settings.pop("split", {}))
    rest = {key: settings.pop(key) for key in list(settings) if key in PrepareSettings.model_fields}
    files = {key: str(FOLDER / name / settings.pop(key)) for key in ("table", "images", "platemap") if settings[key]}
    settings = {key: value for key, value in settings.items() if value != ""}
    screen = open_screen("manifest", **files, **settings)
    screen.check()
    return prepare(screen, "case", to, PrepareSettings(**rest), split)


@pytest.mark.skipif(not CASES, reason="MILCNN_CASES names no folder of cases")
@pytest.mark.parametrize("name", CASES or ["none"])
def test_a_case_gives_its_values_or_is_refused_by_name(name, tmp_path, capsys):
    case, to = CASES[name], tmp_path / "prepared"
    try:
        ready = prepared_case(name, to)
    except (ValueError, FileNotFoundError) as error:
        if case["want"] == "values":
            raise
        assert not (to / "prepared.json").exists()
        return assert_refusal(str(error).replace(str(FOLDER / name), ""), case)
    said = capsys.readouterr().out
    assert case["want"] != "refusal", "it must be refused"
    if "flagged" in case["values"] and case["refusal_names"] and all(word in said for word in case["refusal_names"]):
        case["values"].pop("flagged")  # a warning will do
    assert_values(ready, case, FOLDER / name)


@pytest.mark.skipif(not set(FORMS) <= set(CASES), reason="MILCNN_CASES names no folder of cases")
def test_a_screen_is_prepared_to_the_same_bytes_from_all_its_forms(tmp_path):
    first, *others = [prepared_case(name, tmp_path / name) for name in FORMS]
    for other in others:
        for array in first.folder.glob("plates/*.npy"):
            assert array.read_bytes() == (other.folder / "plates" / array.name).read_bytes()
        tables = [ready.fields.drop(columns=ready.fields.filter(like="Path_")) for ready in (first, other)]
        pd.testing.assert_frame_equal(*tables)


def assert_refusal(message: str, case: dict) -> None:
    for word in case["refusal_names"]:
        assert word.casefold() in message.casefold()
    if limits := case["values"].get("message"):
        lines = message.splitlines()
        assert len(lines) <= limits["lines_at_most"]
        assert max(map(len, lines)) <= limits["characters_a_line_at_most"]


def assert_values(ready: Prepared, case: dict, folder: Path) -> None:
    values, fields = case["values"], ready.fields
    if "channels" in values:
        assert ready.channels == values["channels"]
    if "classes" in values:
        assert sorted(ready.classes) == sorted(values["classes"])
    if "pixel_size" in values:
        assert ready.pixel_size == pytest.approx(values["pixel_size"])
    if "fields" in values:
        assert fields[[*FIELD_KEY, LABEL]].astype(str).to_numpy().tolist() == [
            [str(cell) for cell in row] for row in values["fields"]
        ]
        for name in SETS:
            assert set(fields.loc[fields[SPLIT] == name, LABEL]) == set(ready.classes)
    pixels = ready.pixels(fields)
    if "dtype" in values:
        assert str(pixels.dtype) == values["dtype"]
    if "means" in values:
        assert np.rint(pixels.mean(axis=(2, 3), dtype=float)).astype(int).tolist() == values["means"]
    if "crc32" in values:
        raw = [field.astype(field.dtype.newbyteorder("<")).tobytes() for field in pixels]
        assert [zlib.crc32(field) for field in raw] == values["crc32"]
    for what, count in values.get("flagged", {}).items():
        assert fields[FLAGS[what]].sum() == count
    if labels := values.get("labels", values.get("fields_of_label")):
        assert Counter(fields[LABEL]) == labels
    if "learnt_as" in values:
        learnt = zip(fields[LABEL], np.array(ready.classes)[ready.targets(fields)], strict=True)
        assert dict(learnt) == values["learnt_as"]
    assert_together(fields, values.get("same_set", []), folder / case["settings"]["table"])
    if light := values.get("even_light"):
        channel = pixels[:, ready.channels.index(light["channel"])]
        left, right = (np.median(channel[..., start:stop]) for start, stop in light["columns"])
        assert left / right == pytest.approx(light["ratio_of_medians"], abs=light["within"])


def assert_together(fields: pd.DataFrame, groups: list[list[str]], table: Path) -> None:
    """All fields of a group of compounds, as the table spells them, are in one set."""
    if groups:
        spelt = pd.read_csv(table, dtype=str, keep_default_na=False)[COMPOUND]
    for group in groups:
        assert fields.loc[spelt.isin(group).to_numpy(), SPLIT].nunique() == 1
