"""What a microscope writes beside its images: the planes of a plate, the names of its channels, the pixel size.

- Opera Phenix, Operetta: ``Index.idx.xml`` of any version; newer ones tell of a channel once, in ``Entry``.
- Yokogawa CV7000, CV8000: ``MeasurementData.mlf``, and ``.mrf`` (pixel size), ``.mes`` (channels), ``.wpi`` (plate).
- ImageXpress: ``.HTD``.

A plane is a dict, see ``folders``.
"""

import csv
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from milcnn.screens.metadata import in_micrometres
from milcnn.screens.names import in_letters
from milcnn.screens.problems import ScreenError

PlaneRow = dict[str, Any]
NAMES = {  # of Phenix and of Yokogawa: ours
    **{"PlateID": "plate", "Name": "plate", "Row": "row", "Col": "col", "Column": "col"},
    **{"FieldID": "site", "FieldIndex": "site", "PlaneID": "z", "ZIndex": "z"},
    **{"TimepointID": "time", "TimePoint": "time"},
    **{"ChannelID": "number", "Ch": "number", "ChannelName": "channel", "Target": "channel", "URL": "path"},
    **{"ImageResolutionX": "pixel_size", "HorizontalPixelDimension": "pixel_size", "Type": "kind"},
}


def records(path: Path, *tags: str) -> dict[str, list[dict]]:
    """What an XML file tells in the attributes and children of each element of these tags, under our names."""
    found: dict[str, list[dict]] = defaultdict(list)
    try:
        for _, element in ElementTree.iterparse(path):
            if (tag := bare(element.tag)) in tags:
                told = {bare(name): value for name, value in element.items()}
                told |= {bare(child.tag): (child.text or "").strip() for child in element}
                units = {bare(child.tag): child.get("Unit", "m") for child in element}
                record: dict[str, Any] = {NAMES[name]: value for name, value in told.items() if name in NAMES and value}
                for name in set(told) & {"ImageResolutionX", "HorizontalPixelDimension"}:
                    record["pixel_size"] = in_micrometres(told[name], units.get(name, "um"))
                found[tag].append({"text": (element.text or "").strip()} | record)
                element.clear()  # an index can have gigabytes
    except ElementTree.ParseError as error:
        raise ScreenError([f"{path}: broken XML ({error}); copy it again."]) from None
    return found


def bare(name: str) -> str:
    """A name of XML without its namespace."""
    return name.rpartition("}")[2]


def with_facts(planes: list[PlaneRow], channels: list[dict], plates: list[dict]) -> list[PlaneRow]:
    """``planes`` that tell their channel, with the facts of it and of their plate.

    Two channels of one stain keep their numbers. An error in place of an image may have no channel.
    """
    facts: dict[str | None, dict] = defaultdict(dict)
    for channel in channels:
        facts[channel.get("number")] |= channel
    plate = {"plate": plates[0]["plate"]} if plates and "plate" in plates[0] else {}
    rows = [facts[plane["number"]] | plane | plate for plane in planes if "number" in plane]
    names = {row["number"]: row.get("channel", row["number"]) for row in rows}
    stains = Counter(names.values())
    names = {number: name if stains[name] == 1 else number for number, name in names.items()}
    return [row | {"channel": names[row["number"]]} for row in rows]


def phenix_planes(index: Path) -> list[PlaneRow]:
    """The planes that an index of Opera Phenix or Operetta lists; a path starts in the folder of the index."""
    told = records(index, "Plate", "Entry", "Image")
    return with_facts([image for image in told["Image"] if "path" in image], told["Entry"], told["Plate"])


def yokogawa_planes(index: Path) -> list[PlaneRow]:
    """The planes that a ``MeasurementData.mlf`` lists; a path is '' where it tells of an error in place of an image."""
    told = records(index, "MeasurementRecord")
    for path in [path for path in sorted(index.parent.iterdir()) if path.suffix.lower() in (".mrf", ".mes", ".wpi")]:
        told |= records(path, "MeasurementChannel", "Channel", "WellPlate")
    planes = told["MeasurementRecord"]
    for plane in planes:
        plane["path"] = plane["text"] if plane.get("kind") == "IMG" else ""
    plates = [told for told in told["WellPlate"] if not told.get("plate", "").startswith("AssayPlate_")]  # its default
    return with_facts(planes, told["Channel"] + told["MeasurementChannel"], plates)


def imagexpress_plate(htd: Path) -> tuple[dict[str, str], list[str], int]:
    """From an .HTD: the name of each wavelength by its number, the wells that were chosen, the sites of each."""
    rows = csv.reader(htd.read_text(encoding="latin-1").splitlines(), skipinitialspace=True)
    told = {row[0]: row[1:] for row in rows if row}
    try:
        waves = {str(wave): told[f"WaveName{wave}"][0] for wave in range(1, int(told["NWavelengths"][0]) + 1)}
        chosen = [told[f"WellsSelection{row + 1}"] for row in range(int(told["YWells"][0]))]
    except (KeyError, ValueError, IndexError) as error:
        raise ScreenError([f"{htd}: is not a whole .HTD ({error}); copy it again, or move it away."]) from None
    waves = {wave: name for wave, name in waves.items() if told.get(f"WaveCollect{wave}", ["1"])[0] != "0"}
    wells = [in_letters(row, col) for row, own in enumerate(chosen) for col, on in enumerate(own) if on == "TRUE"]
    sites = [on for name, own in told.items() if name.startswith("SiteSelection") for on in own]
    return waves, wells, max(1, sites.count("TRUE")) if told.get("Sites") != ["FALSE"] else 1
