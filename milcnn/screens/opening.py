"""Opens an image file, on disk or inside a zip. Any error becomes one sentence that names the file.

The path of a file inside a zip is the path of the zip, a slash and the name in the zip.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import IO

from milcnn.screens.metadata import Fault

_OPENING = Lock()


class ImageError(ValueError):
    """One sentence about a file that cannot be read: 'file: what is wrong (what differs between files); advice.'."""


@contextmanager
def in_one_sentence(path: str) -> Iterator[None]:
    """Any error inside becomes one ImageError that names ``path``."""
    try:
        yield
    except ImageError:
        raise
    except Fault as fault:
        raise ImageError(f"{path}: {fault}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(f"{path}: no such file; copy it there, or correct the table or 'images'.") from None
    except (PermissionError, IsADirectoryError) as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror}); correct its permissions or path.") from None
    except Exception as error:  # a broken file can make a decoder raise any error
        detail = " ".join(str(error).split())[:120]
        raise ImageError(f"{path}: truncated or not an image ({detail}); copy or export it again.") from error


@contextmanager
def opened(path: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file on disk or in a zip; gives the open file and its size in bytes.

    Any error while it is read becomes one ImageError that names the file.
    """
    container, member = split_zip(path)
    with in_one_sentence(path):
        if member is None:
            with open(path, "rb") as handle:
                yield handle, filled(os.fstat(handle.fileno()).st_size)
            return
        archive = open_zip(container)
        if member not in archive.NameToInfo:
            raise ImageError(f"{container}: has no such file ('{member}'); correct the path in the table.")
        with archive.open(member) as handle:
            yield handle, filled(archive.getinfo(member).file_size)


def split_zip(path: str) -> tuple[str, str | None]:
    """The path of the zip and the name in it; for a file outside a zip, ``path`` and None."""
    at = path.lower().find(".zip/")
    return (path, None) if at < 0 else (path[: at + 4], path[at + 5 :])


def open_zip(path: str | Path) -> zipfile.ZipFile:
    """A zip, opened once in each process. Its files are read in place, never unpacked to disk.

    Raises ImageError if the zip is incomplete or if a name in it points outside its folder.
    """
    status = os.stat(path)
    with _OPENING:  # all threads share one handle
        return _open_zip(str(path), status.st_size, status.st_mtime_ns, os.getpid())


# each process needs its own handle: a forked process would move the file position of its parent
@lru_cache(maxsize=128)
def _open_zip(path: str, size: int, modified: int, process: int) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ImageError(f"{path}: not a whole zip, perhaps a broken download; delete and download it again.") from None
    for name in archive.namelist():
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in name:
            archive.close()
            raise ImageError(f"{path}: its file '{name}' points outside the zip's folder; do not use this zip.")
    return archive


def filled(size: int) -> int:
    if size == 0:
        raise Fault("is empty (0 bytes); copy or export it again.")
    return size
