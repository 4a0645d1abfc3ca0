"""BBBC016v1: the plate of the worked example, docs/own-screen.md.

24 wells × 3 fields of U2OS cells with β-arrestin-GFP (Transfluor), 512 × 512 px, 8 bit; provided by Ilya Ravkin to the
Broad Bioimage Benchmark Collection, CC BY 3.0. Only the GFP images are used. The study reads them like any plate of
your own, through ``data/bbbc016/fields.csv``. The labels in it were given by eye, well by well.
"""

from pathlib import Path, PurePosixPath

from milcnn.files import read_table, written_whole
from milcnn.paths import ROOT
from milcnn.screens.download import fetch
from milcnn.screens.opening import open_zip

NAME = "BBBC016_v1_images.zip"
URL = f"https://data.broadinstitute.org/bbbc/BBBC016/{NAME}"
TABLE = ROOT / "data" / "bbbc016" / "fields.csv"


def fetch_plate() -> Path:
    """Download the zip, and copy the images that the table names into data/raw/bbbc016, which is returned.

    The images may be in any folder of the zip; those of the DNA channel stay in it. An image that is there is kept.
    Raises ValueError if the zip lacks an image, and the errors of ``fetch``.
    """
    folder = ROOT / "data" / "raw" / "bbbc016"
    archive = open_zip(fetch("bbbc016", NAME, URL))
    inside = {PurePosixPath(member).name: member for member in archive.namelist()}
    names = read_table(TABLE)["Path_GFP"]
    if missing := sorted(set(names) - set(inside)):
        raise ValueError(f"{NAME}: has no {missing[0]}, and lacks {len(missing)} of {len(names)} images; get it anew.")
    for name in names:
        if not (folder / name).exists():
            with written_whole(folder / name) as temporary:
                temporary.write_bytes(archive.read(inside[name]))
    return folder
