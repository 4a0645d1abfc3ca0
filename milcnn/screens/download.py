"""Downloads files, from a mirror if there is one, and checks their SHA-256."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pooch
import requests
from tqdm.auto import tqdm

from milcnn.files import write_json
from milcnn.paths import ROOT
from milcnn.screens.opening import open_zip

MIRROR = "MILCNN_MIRROR"


def fetch(source: str, name: str, url: str, sha256: str | None = None) -> Path:
    """The file ``name`` of ``source``, from the first place that has it.

    The places are, in order: the mirror's folder, data/raw, the mirror's URL, ``url``. The environment variable
    ``MILCNN_MIRROR`` is the folder or URL of the mirror; it has one folder for each source, and the files in it have
    their original names. A file in a mirror folder is not copied. If no ``sha256`` is given, that of the first copy
    is written to data/raw/<source>/sha256.json, and every later copy must match it. An interrupted download
    continues at the next call. Raises ValueError if the SHA-256 differs or a zip is incomplete, and
    FileNotFoundError if the file is in none of these places.
    """
    folder = ROOT / "data" / "raw" / source
    record = folder / "sha256.json"
    recorded = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    expected = sha256 or recorded.get(name)
    path = mirrored(source, name, expected, url) or downloaded(folder, source, name, expected, url)
    if expected is None:
        if path.suffix == ".zip":
            open_zip(path)  # an incomplete zip is an error
        write_json({**recorded, name: pooch.file_hash(str(path))}, record)
    return path


def mirrored(source: str, name: str, expected: str | None, url: str) -> Path | None:
    """The file in the mirror folder; None if it is not there or the mirror is a URL."""
    mirror = os.environ.get(MIRROR, "")
    path = Path(mirror) / source / name
    if not mirror or "://" in mirror or not path.exists():
        return None
    if expected and pooch.file_hash(str(path)) != expected:
        raise ValueError(f"{path}: its SHA-256 is not {expected}; download it again from {url}.")
    return path


def downloaded(folder: Path, source: str, name: str, expected: str | None, url: str) -> Path:
    """The file in data/raw; it is first downloaded from the mirror's URL or from ``url`` if it is not there."""
    mirror = os.environ.get(MIRROR, "")
    urls = [f"{mirror}/{source}/{name}"] if "://" in mirror else []
    downloader = partial(download_or_resume, part=folder / f".{name}.part")
    problems = []
    for address in [*urls, url]:
        try:
            return Path(pooch.retrieve(address, expected, name, folder, downloader=downloader))
        except OSError as error:  # no such host, no route, 404: the next address may have it
            problems.append(f"{address}: {' '.join(str(error).split())[:160]}")
    raise FileNotFoundError(
        f"{name}: cannot be downloaded from {url}, and {MIRROR} ('{mirror}') has no {source}/{name}; connect to the "
        f"network and run again (an interrupted download continues), or set {MIRROR} to a folder that has "
        f"{source}/{name}. ({'; '.join(problems)})"
    )


def download_or_resume(url: str, output_file: str, _pooch: object, *, part: Path) -> None:
    """A downloader for pooch that can resume: it collects the bytes in ``part``. Some files have 0.8 GB."""
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    with requests.get(url, headers={"Range": f"bytes={have}-"} if have else {}, stream=True, timeout=30) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # longer than the file at ``url``: start again
            return download_or_resume(url, output_file, _pooch, part=part)
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        have = have if resumed else 0
        total = have + int(answer.headers.get("Content-Length", 0)) or None
        with (
            part.open("ab" if resumed else "wb") as handle,
            tqdm(total=total, initial=have, desc=part.name.strip("."), unit="B", unit_scale=True) as bar,
        ):
            for chunk in answer.iter_content(1 << 16):
                handle.write(chunk)
                bar.update(len(chunk))
    if total and part.stat().st_size != total:
        raise OSError(f"interrupted after {part.stat().st_size} of {total} bytes")
    shutil.move(part, output_file)
