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
    images = [(well, image, bool(own)) for well, own in wells.items() for image in own or usual]
    planes = {(well, image): image_planes(plate / well / image) for well, image, whole in images if whole}
    pattern = next((own for own in planes.values() if own), None)
    if pattern is None:
        raise ScreenError([f"{plate}: none of its {len(images) or len(wells)} images can be read; copy it again."])
    for well, image, _ in images:
        path = plate.relative_to(folder) / well / image
        for plane in planes.get((well, image)) or pattern:
            there = (folder / path).is_dir() and (well, image) in planes
            own = f"{path.as_posix()}{plane['field']}" if there else ""
            place = {"plate": name, "well": well.replace("/", ""), "path": own}
            site = plane["site"] if plane["field"] else image
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
        try:
            models, ome = ome_attributes(str(plate / well.path))
        except FileNotFoundError:
            ome = {}
        images = validated(models.WellDef, ome["well"]).images if "well" in ome else []
        wells[well.path] = [image.path for image in images]
        acquisitions |= {image.acquisition or 0 for image in images}
    if len(acquisitions) > 1:
        which = f"{len(acquisitions)}: {first_few(sorted(acquisitions))}"
        raise Fault(f"more than one acquisition of a plate ({which}); make a plate of each, or write a table of one.")
    return wells, told.name or re.sub(r"(\.ome)?\.zarr$", "", plate.name, flags=re.IGNORECASE)


def image_planes(folder: Path) -> list[Plane]:
    """The planes of an image, without plate and well; none if it cannot be read, which the check tells."""
    try:
        with in_one_sentence(str(folder)):
            told, fields = zarr_image(str(folder)), field_table(str(folder))
    except ImageError:
        return []
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
    """The numbers of fields such as FOV_1; else they are counted from 1."""
    numbers = [int(match[1]) for name in names if (match := re.fullmatch(r"\D*(\d+)", name))]
    return numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))
