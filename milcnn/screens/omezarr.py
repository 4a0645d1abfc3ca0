"""The fields of an OME-Zarr plate, NGFF 0.4 or 0.5: an image a field, or as Fractal has it, a mosaic a well."""

import re
from pathlib import Path

from milcnn.screens.metadata import Fault
from milcnn.screens.opening import ImageError, in_one_sentence
from milcnn.screens.plate_files import PlaneRow
from milcnn.screens.problems import ScreenError, first_few
from milcnn.screens.zarr_image import ZarrImage, kind_of, mosaic_fields, ome_attributes, validated, zarr_image


def plate_rows(plate: Path, folder: Path) -> list[PlaneRow]:
    """A row for each channel of each field, see ``folders``; paths start in ``folder``, '' for what is not there.

    The first image that can be read tells the channels of all, and a well that is not there has the images of the
    others. Raises ScreenError if this is no plate, if no image can be read, or if it has several acquisitions.
    """
    try:
        with in_one_sentence(str(plate)):
            wells, name = plate_wells(plate)
            every = sorted({image for own in wells.values() for image in own}, key=lambda image: (len(image), image))
            first, told = first_image(plate, [f"{well}/{image}" for well, own in wells.items() for image in own])
            rows, numbers, channels = [], numbered(every), channels_of(told)
            for well, image in [(well, image) for well, own in wells.items() for image in own or every]:
                there = bool(wells[well]) and (plate / well / image).is_dir()
                fields = fields_in(plate / well / image if there else first) or {"": numbers[image]}
                path = (plate / well / image).relative_to(folder).as_posix()
                place = {"plate": name, "well": well.replace("/", ""), "pixel_size": told.pixel_size}
                for field, site in fields.items():
                    own = place | {"site": site, "path": f"{path}{field}" if there else ""}
                    rows += [own | channel for channel in channels]
            return rows
    except ImageError as error:
        raise ScreenError([str(error)]) from None


def first_image(plate: Path, images: list[str]) -> tuple[Path, ZarrImage]:
    """The first of ``images`` that can be read; the check tells of the others, with all that is wrong."""
    fault = "copy it again."
    for image in images:
        try:
            with in_one_sentence(str(plate / image)):
                return plate / image, zarr_image(str(plate / image))
        except ImageError as error:
            fault = fault if fault.startswith(str(plate)) else str(error)
    raise Fault(f"none of its {len(images)} images can be read; {fault}")


def channels_of(image: ZarrImage) -> list[PlaneRow]:
    """Name and ``page`` of each channel. The page is None where the name tells it, or where z or time have a rule."""
    times, channels, depth = image.counts
    if len(set(image.names)) == channels:
        return [{"channel": name, "page": None} for name in image.names]
    return [{"channel": f"Channel {c}", "page": c if times == depth == 1 else None} for c in range(channels)]


def fields_in(folder: Path) -> dict[str, int]:
    """The fields of a mosaic, as '#FOV_1', with their numbers; none in an image of one field."""
    with in_one_sentence(str(folder)):
        table = mosaic_fields(str(folder))
    names = [] if table is None else table.index.tolist()
    return {f"#{name}": number for name, number in numbered(names).items()}


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


def numbered(names: list[str]) -> dict[str, int]:
    """The numbers in names such as 7 and FOV_1, from 1 also where they start at 0; without numbers, counted."""
    numbers = [int(match[1]) for name in names if (match := re.fullmatch(r"\D*(\d+)", name))]
    if len(set(numbers)) < len(names):
        numbers = list(range(1, len(names) + 1))
    return {name: number + (0 in numbers) for name, number in zip(names, numbers, strict=True)}
