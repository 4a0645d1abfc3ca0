"""Downloads: the mirror first, checksums always."""

import os
from pathlib import Path

import pooch

from milcnn.paths import ROOT

MIRROR = "MILCNN_MIRROR"


def fetch(source: str, name: str, url: str, sha256: str) -> Path:
    """The file ``name`` of ``source``, from data/raw, the mirror, or ``url``, in this order.

    The mirror is the folder or URL in the environment variable ``MILCNN_MIRROR``; it holds the
    origin's files under their own names in one folder a source. A file in a mirror folder is used
    in place. Raises ValueError when a file is not the one that ``sha256`` tells of, and
    FileNotFoundError when there is neither a file nor a network.
    """
    mirror = os.environ.get(MIRROR, "")
    if mirror and "://" not in mirror:
        local = Path(mirror) / source / name
        if local.exists():
            if pooch.file_hash(str(local)) != sha256:
                raise ValueError(f"{local}: its SHA-256 is not {sha256}; replace it by {url}.")
            return local
    urls = [f"{mirror}/{source}/{name}"] if "://" in mirror else []
    for address in [*urls, url]:
        try:
            folder = ROOT / "data" / "raw" / source
            return Path(pooch.retrieve(address, sha256, name, folder, progressbar=True))
        except OSError:  # no such host, no route, 404: the next address may have it
            continue
    raise FileNotFoundError(
        f"{name}: neither in the folder or URL of {MIRROR} ('{mirror}', under {source}/) nor to be "
        f"had from {url}; connect to the network, or set {MIRROR} to a folder that holds it."
    )
