"""Small plates after the layouts of microscopes: 2 wells × 2 sites × 2 channels, 32 × 40 px, 16 bit.

The side files have the elements, attributes and namespaces of public ones: fmi-faim/faim-ipa (CV8000, .HTD), indexes
of Harmony V5 (cpg0016) and V7, .xdce of IN Cell 2000. Each function writes a plate into a new folder and gives what a
reader must find: (plate, well, site, channel, z, time) with the one value that all pixels of the plane have.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import tifffile

WELLS, SITES, CHANNELS = {"B02": (2, 2), "D11": (4, 11)}, (1, 2), ("DAPI", "Actin")
GUID = "C674FCB8-5F2F-59B9-928D-{:012X}"
YOKOGAWA = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
HARMONY = {
    "V5": "http://www.perkinelmer.com/PEHH/HarmonyV5",
    "V6": "http://www.perkinelmer.com/PEHH/HarmonyV6",
    "V7": "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7",
}
Planes = dict[tuple[str, str, int, str, int, int], int]


def planes(plate: str, z: int, times: int) -> Iterator[tuple[tuple[str, str, int, str, int, int], int]]:
    """The keys of all planes, and the value of each: no two have the same."""
    keys = product([plate], WELLS, SITES, CHANNELS, range(1, z + 1), range(1, times + 1))
    yield from ((key, 1000 + number) for number, key in enumerate(keys))


def write_plane(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.full((32, 40), value, np.uint16))


def write_yokogawa(folder: Path, plate: str = "PL1", z: int = 1, times: int = 1) -> Planes:
    """CV8000: .mlf, .mrf, .mes and .wpi beside the images, and a correction of the camera. 0.325 µm a pixel."""
    records, wanted = [], dict(planes(plate, z, times))
    for (_, well, site, channel, at, time), value in wanted.items():
        number = CHANNELS.index(channel) + 1
        name = f"{plate}_{well}_T{time:04d}F{site:03d}L01A0{number}Z{at:02d}C0{number}.tif"
        write_plane(folder / name, value)
        place = f'bts:Column="{WELLS[well][1]}" bts:Row="{WELLS[well][0]}" bts:TimePoint="{time}"'
        index = f'bts:FieldIndex="{site}" bts:ZIndex="{at}" bts:TimelineIndex="1" bts:ActionIndex="{number}"'
        head = f'<bts:MeasurementRecord bts:Type="IMG" bts:Time="2026-01-15T10:00:00.1+01:00" {place} {index}'
        records.append(f'{head} bts:Action="3D" bts:X="-5.1" bts:Y="4.9" bts:Z="0.0" bts:Ch="{number}">{name}')
    text = "".join(f"{record}</bts:MeasurementRecord>\n" for record in records)
    side(
        folder / "MeasurementData.mlf",
        f'<bts:MeasurementData bts:Version="1.0" {YOKOGAWA}>\n{text}</bts:MeasurementData>',
    )
    size = 'bts:HorizontalPixelDimension="0.325" bts:VerticalPixelDimension="0.325" bts:InputBitDepth="16"'
    details = "".join(f'<bts:MeasurementChannel bts:Ch="{number}" {size} />' for number in (1, 2, 3))
    head = f'bts:Version="1.0" bts:Title="{plate}" bts:ColumnCount="12" bts:RowCount="8" bts:TargetSystem="CV8000"'
    files = f'bts:Name="{plate}" bts:WellPlateFileName="{plate}.wpi"'
    sample = f'<bts:MeasurementSamplePlate {files} bts:WellPlateProductFileName="x.wpp" />'
    side(
        folder / "MeasurementDetail.mrf",
        f"<bts:MeasurementDetail {head} {YOKOGAWA}>{sample}{details}</bts:MeasurementDetail>",
    )
    told = "".join(
        f'<bts:Channel bts:Ch="{number}" bts:Target="{name}" bts:Magnification="20" bts:Acquisition="BP445/45">'
        "<bts:LightSourceName>405nm</bts:LightSourceName></bts:Channel>"
        for number, name in enumerate([*CHANNELS, "not taken"], 1)
    )
    channels = f"<bts:ChannelList>{told}</bts:ChannelList>"
    side(
        folder / "screen.mes",
        f'<bts:MeasurementSetting bts:Version="1.0" {YOKOGAWA}>{channels}</bts:MeasurementSetting>',
    )
    head = f'bts:Version="1.0" bts:Name="{plate}" bts:ProductID="1009680001" bts:Columns="12" bts:Rows="8"'
    side(
        folder / f"{plate}.wpi",
        f"<bts:WellPlate {head} {YOKOGAWA}><bts:Description>x</bts:Description></bts:WellPlate>",
    )
    write_plane(folder / "SC_BP445-45_20x v2_M01_CH01.tif", 1)
    return wanted


def write_phenix(folder: Path, version: str = "V5", plate: str = "P1", z: int = 1, times: int = 1) -> Planes:
    """Opera Phenix: an index, which from V6 on tells of a channel once, in ``Maps/Entry``. 0.65 µm a pixel."""
    images, wanted = [], dict(planes(plate, z, times))
    facts = {
        channel: f'<ChannelName>{channel}</ChannelName><ImageResolutionX Unit="m">6.5E-07</ImageResolutionX>'
        '<ImageResolutionY Unit="m">6.5E-07</ImageResolutionY><ImageSizeX>40</ImageSizeX><ImageSizeY>32</ImageSizeY>'
        for channel in CHANNELS
    }
    for (_, well, site, channel, at, time), value in wanted.items():
        (row, col), number = WELLS[well], CHANNELS.index(channel) + 1
        name = f"r{row:02d}c{col:02d}f{site:02d}p{at:02d}-ch{number}sk{time}fk1fl1.tiff"
        write_plane(folder / "Images" / name, value)
        place = f"<URL>{name}</URL><Row>{row}</Row><Col>{col}</Col><FieldID>{site}</FieldID><PlaneID>{at}</PlaneID>"
        index = f"<TimepointID>{time - 1}</TimepointID><ChannelID>{number}</ChannelID><FlimID>1</FlimID>"
        own = facts[channel] if version == "V5" else ""
        images.append(f'<Image Version="1"><id>x</id><State>Ok</State>{place}{index}{own}</Image>')
    flat = ["<FlatfieldProfile>{Background: {Character: Null}}</FlatfieldProfile>"] * 2
    maps = "".join(
        "<Map>" + "".join(f'<Entry ChannelID="{n}">{text}</Entry>' for n, text in enumerate(texts, 1)) + "</Map>"
        for texts in (flat, flat if version == "V5" else facts.values())
    )
    rows = "<PlateRows>8</PlateRows><PlateColumns>12</PlateColumns>" + "".join(
        f'<Well id="{row:02d}{col:02d}" />' for row, col in WELLS.values()
    )
    head = f"<Plates><Plate><PlateID>{plate}</PlateID><Name>{plate}</Name>{rows}</Plate></Plates><Maps>{maps}</Maps>"
    head = f'<EvaluationInputData Version="1" xmlns="{HARMONY[version]}"><User>x</User>{head}'
    text = f"{head}<Images>{''.join(images)}</Images>"
    name = "Index.idx.xml" if version == "V5" else "Index.xml"
    side(folder / "Images" / name, f"{text}</EvaluationInputData>")
    return {(*key, time - 1): value for (*key, time), value in wanted.items()}


def write_imagexpress(folder: Path, plate: str = "P1", z: int = 1, times: int = 1, htd: str = "") -> Planes:
    """ImageXpress: TimePoint and ZStep folders, thumbnails, and an .HTD in the folder ``htd`` of the plate."""
    wanted = dict(planes(plate, z, times))
    for (_, well, site, channel, at, time), value in wanted.items():
        below = folder / f"TimePoint_{time}" / (f"ZStep_{at}" if z > 1 else "")
        name = f"{plate}_{well}_s{site}_w{CHANNELS.index(channel) + 1}"
        write_plane(below / f"{name}{GUID.format(value)}.tif", value)
        write_plane(below / f"{name}_thumb{GUID.format(value + 5000)}.tif", 7)
    chosen = {row: ["TRUE" if (row, col) in WELLS.values() else "FALSE" for col in range(1, 13)] for row in range(1, 9)}
    lines = ['"HTSInfoFile", Version 1.0', f'"TimePoints", {times}', f'"ZSeries", {"TRUE" if z > 1 else "FALSE"}']
    lines += [f'"ZSteps", {z}', '"XWells", 12', '"YWells", 8']
    lines += [f'"WellsSelection{row}", {", ".join(own)}' for row, own in chosen.items()]
    lines += ['"Sites", TRUE', '"XSites", 2', '"YSites", 1', '"SiteSelection1", TRUE, TRUE', '"Waves", TRUE']
    lines += ['"NWavelengths", 3', *(f'"WaveName{n}", "{name}"' for n, name in enumerate([*CHANNELS, "unused"], 1))]
    lines += ['"WaveCollect1", 1', '"WaveCollect2", 1', '"WaveCollect3", 0', '"EndFile"']
    (folder / htd / f"{plate}.HTD").write_bytes("\r\n".join(lines).encode("latin-1"))
    return wanted


def write_incell(folder: Path, plate: str = "P1", z: int = 1, times: int = 1) -> Planes:
    """IN Cell 2000: names with filters, and an .xdce, which no reader needs."""
    images, wanted = [], dict(planes(plate, z, times))
    for (_, well, site, channel, at, time), value in wanted.items():
        place = f"{well[0]} - {int(well[1:])}"
        depth, when = f" z {at}" if z > 1 else "", f" time {time} - {time * 1000}ms" if times > 1 else ""
        name = f"{place}(fld {site} wv {channel} - {channel}{depth}{when}).tif"
        write_plane(folder / name, value)
        at_index = f'time_index="{time - 1}" wave_index="{CHANNELS.index(channel)}" z_index="{at - 1}"'
        images.append(f'<Image filename="{name}"><Identifier field_index="{site - 1}" {at_index}/></Image>')
    side(folder / f"{plate}.xdce", f"<ImageStack><Images>{''.join(images)}</Images></ImageStack>")
    return {(*key[:3], f"{key[3]} - {key[3]}", *key[4:]): value for key, value in wanted.items()}


def side(path: Path, xml: str) -> None:
    """Write a side file as the microscopes do: UTF-8 with a byte order mark."""
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{xml}\n', encoding="utf-8-sig")
