"""Downloads: the mirror first, checksums always."""

import json
import os
import shutil
import zipfile
from functools import partial
from pathlib import Path

import pooch
import requests
from tqdm.auto import tqdm

from milcnn.files import write_json
from milcnn.paths import ROOT

MIRROR = "MILCNN_MIRROR"


def fetch(source: str, name: str, url: str, sha256: str | None = None) -> Path:
    """The file ``name`` of ``source``: from the mirror's folder, data/raw, the mirror's URL, or ``url``.

    The mirror is the folder or URL in the environment variable ``MILCNN_MIRROR``; it holds the
    origin's files under their own names in one folder a source. A file in a mirror folder is used
    in place. Where the origin publishes no ``sha256``, that of the first copy is recorded in
    data/raw/<source>/sha256.json, and every later copy must have it. A download that breaks off
    goes on where it stopped. Raises ValueError when a file is not the one that the SHA-256 tells of
    or is half a zip, and FileNotFoundError when there is neither a file nor a network.
    """
    folder = ROOT / "data" / "raw" / source
    record = folder / "sha256.json"
    recorded = json.loads(record.read_text()) if record.exists() else {}
    known = sha256 or recorded.get(name)
    path = mirrored(source, name, known, url) or downloaded(folder, source, name, known, url)
    if known is None:
        if path.suffix == ".zip" and not zipfile.is_zipfile(path):
            raise ValueError(f"{path}: not a whole zip, half downloaded perhaps; delete it and fetch it again.")
        write_json({**recorded, name: pooch.file_hash(str(path))}, record)
    return path


def mirrored(source: str, name: str, known: str | None, url: str) -> Path | None:
    """The file in the mirror folder, if there is one and it holds the file."""
    mirror = os.environ.get(MIRROR, "")
    path = Path(mirror) / source / name
    if not mirror or "://" in mirror or not path.exists():
        return None
    if known and pooch.file_hash(str(path)) != known:
        raise ValueError(f"{path}: its SHA-256 is not {known}; replace it by {url}.")
    return path


def downloaded(folder: Path, source: str, name: str, known: str | None, url: str) -> Path:
    """The file in data/raw, fetched from the mirror's URL or the origin's when it is not there yet."""
    mirror = os.environ.get(MIRROR, "")
    urls = [f"{mirror}/{source}/{name}"] if "://" in mirror else []
    resume = partial(go_on, part=folder / f".{name}.part")
    problems = []
    for address in [*urls, url]:
        try:
            return Path(pooch.retrieve(address, known, name, folder, downloader=resume))
        except OSError as error:  # no such host, no route, 404: the next address may have it
            problems.append(f"{address}: {' '.join(str(error).split())[:160]}")
    raise FileNotFoundError(
        f"{name}: neither in the folder or URL of {MIRROR} ('{mirror}', under {source}/) nor to be had from {url}; "
        f"connect to the network and run again (a download goes on where it broke off), or set {MIRROR} to a folder "
        f"that holds it. ({'; '.join(problems)})"
    )


def go_on(url: str, output_file: str, _pooch: object, *, part: Path) -> None:
    """A downloader for pooch, whose own begins a file of 0.8 GB anew each time: bytes gather in ``part``."""
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    with requests.get(url, headers={"Range": f"bytes={have}-"} if have else {}, stream=True, timeout=30) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # longer than the file of today: begin anew
            return go_on(url, output_file, _pooch, part=part)
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        have = have if goes_on else 0
        total = have + int(answer.headers.get("Content-Length", 0)) or None
        with (
            part.open("ab" if goes_on else "wb") as handle,
            tqdm(total=total, initial=have, desc=part.name.strip("."), unit="B", unit_scale=True) as bar,
        ):
            for chunk in answer.iter_content(1 << 16):
                handle.write(chunk)
                bar.update(len(chunk))
    if total and part.stat().st_size != total:
        raise OSError(f"broke off after {part.stat().st_size} of {total} bytes")
    shutil.move(part, output_file)
