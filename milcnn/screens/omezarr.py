"""The planes of an OME-Zarr plate, NGFF 0.4 or 0.5: an image a field, or as Fractal has it, a mosaic a well."""

import re
from collections.abc import Iterator
from pathlib import Path

from milcnn.screens.metadata import Fault
from milcnn.screens.opening import ImageError, in_one_sentence
from milcnn.screens.problems import ScreenError, first_few
from milcnn.screens.zarr_image import field_table, kind_of, ome_attributes, validated, zarr_image

Plane = dict[str, object]


def plate_rows(plate: Path, folder: Path) -> Iterator[Plane]:
    """Planes as in ``folders``; paths start in ``folder``, '' for what the plate promises and that is not there.

    An image that is missing has the planes of the first that is whole, a missing well the images of the first well.
    ``page`` is the number of a plane, None where the name of the channel tells it. Raises ScreenError if this is no
    plate, or if it has several acquisitions.
    """
    try:
        with in_one_sentence(str(plate)):
            wells, name = plate_wells(plate)
    except ImageError as error:
        raise ScreenError([str(error)]) from None
    usual = next((images for images in wells.values() if images), [])
    images = [(well, image) for well, own in wells.items() for image in own or usual]
    planes: dict[tuple[str, str], list[Plane]] = {}
    faults = []
    for well, image in images:
        try:
            planes[well, image] = image_planes(plate / well / image) if wells[well] else []
        except ImageError as error:  # the check tells it, with all others
            faults.append(str(error))
    names = sorted({image for _, image in images}, key=lambda image: (len(image), image))
    numbers = dict(zip(names, field_numbers(names), strict=True))
    pattern = next(filter(None, planes.values()), None)
    if pattern is None:
        why = f"none of its {len(images) or len(wells)} images can be read"
        raise ScreenError([f"{plate}: {why}: {faults[0]}" if faults else f"{plate}: {why}; copy it again."])
    for well, image in images:
        path = plate.relative_to(folder) / well / image
        there = bool(wells[well]) and (folder / path).is_dir()
        for plane in planes.get((well, image)) or pattern:
            own = f"{path.as_posix()}{plane['field']}" if there else ""
            place = {"plate": name, "well": well.replace("/", ""), "path": own}
            site = plane["site"] if plane["field"] else numbers[image]
            yield {key: value for key, value in plane.items() if key != "field"} | place | {"site": site}


def plate_wells(plate: Path) -> tuple[dict[str, list[str]], str]:
    """The images of each well, none for a well that is not there, and the name of the plate."""
    models, ome = ome_attributes(str(plate))
    if "plate" not in ome:
        advice = "give a folder of plates, or write a table that names its images"
        raise Fault(f"an OME-Zarr that is no plate ({kind_of(ome)}); {advice}.")
    told = validated(models.PlateDef, ome["plate"])
    wells, acquisitions = {}, set()
    for well in told.wells:
        with in_one_sentence(str(plate / well.path)):
            there = any((plate / well.path / name).exists() for name in (".zgroup", "zarr.json"))
            ome = ome_attributes(str(plate / well.path))[1] if there else {}
            images = validated(models.WellDef, ome["well"]).images if "well" in ome else []
        wells[well.path] = [image.path for image in images]
        acquisitions |= {image.acquisition or 0 for image in images}
    if len(acquisitions) > 1:
        which = f"{len(acquisitions)}: {first_few(sorted(acquisitions))}"
        raise Fault(f"more than one acquisition of a plate ({which}); make a plate of each, or write a table of one.")
    return wells, told.name or re.sub(r"(\.ome)?\.zarr$", "", plate.name, flags=re.IGNORECASE)


def image_planes(folder: Path) -> list[Plane]:
    """The planes of an image, without plate and well. Raises ImageError if it cannot be read."""
    with in_one_sentence(str(folder)):
        told, fields = zarr_image(str(folder)), field_table(str(folder))
    names = [] if fields is None else fields.index.tolist()
    sites = dict(zip([f"#{name}" for name in names], field_numbers(names), strict=True)) or {"": 0}
    times, channels, depth = told.counts
    unique = len(set(told.names)) == channels
    names = told.names if unique else [f"Channel {number}" for number in range(channels)]
    return [
        {
            "field": field,
            "site": site,
            "time": time,
            "channel": names[channel],
            "z": z,
            "page": None if unique and times == depth == 1 else (time * channels + channel) * depth + z,
            "pixel_size": told.pixel_size,
        }
        for field, site in sites.items()
        for time in range(times)
        for channel in range(channels)
        for z in range(depth)
    ]


def field_numbers(names: list[str]) -> list[int]:
    """The numbers of fields such as 7 and FOV_1, from 1 also where they start at 0; without numbers, counted."""
    numbers = [int(match[1]) for name in names if (match := re.fullmatch(r"\D*(\d+)", name))]
    if len(set(numbers)) < len(names):
        return list(range(1, len(names) + 1))
    return [number + (0 in numbers) for number in numbers]
