"""Downloads from a small server that interrupts the transfer, and from mirrors."""

import hashlib
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from milcnn.screens import download

CONTENT = bytes(range(256)) * 1200
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT for each address with 'file' in it; stops after ``limit`` bytes; can serve ranges."""

    limit = None
    requested: list[str] = []  # noqa: RUF012
    ranges = True

    def do_GET(self):
        wanted = self.headers.get("Range") if self.ranges else None
        type(self).requested.append(wanted or "")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if "file" not in self.path or start >= len(CONTENT):
            self.send_error(404 if "file" not in self.path else 416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:][: self.limit])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ROOT", tmp_path)
    monkeypatch.delenv(download.MIRROR, raising=False)
    Server.limit, Server.requested, Server.ranges = None, [], True
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def raw(tmp_path, name):
    return tmp_path / "data" / "raw" / "source" / name


def test_a_download_is_verified_and_not_repeated(url, tmp_path):
    for _ in range(2):
        path = download.fetch("source", "a.bin", url + "file", SHA256)
        assert path == raw(tmp_path, "a.bin")
        assert path.read_bytes() == CONTENT
    assert Server.requested == [""]
    with pytest.raises(ValueError, match="hash"):
        download.fetch("source", "b.bin", url + "file", "0" * 64)
    assert not raw(tmp_path, "b.bin").exists()


def test_the_first_checksum_is_recorded_and_then_required(url, tmp_path):
    path = download.fetch("source", "a.bin", url + "file")
    assert json.loads(raw(tmp_path, "sha256.json").read_text()) == {"a.bin": SHA256}
    path.write_bytes(b"changed")
    assert download.fetch("source", "a.bin", url + "file").read_bytes() == CONTENT  # fetched again


def test_a_changed_original_is_refused(url, tmp_path, monkeypatch):
    download.fetch("source", "a.bin", url + "file").unlink()
    monkeypatch.setitem(globals(), "CONTENT", b"another edition")
    with pytest.raises(ValueError, match="hash"):
        download.fetch("source", "a.bin", url + "file")
    assert not raw(tmp_path, "a.bin").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_continues(url, tmp_path, ranges):
    Server.limit, Server.ranges = 200_000, ranges
    with pytest.raises(FileNotFoundError, match="an interrupted download continues"):
        download.fetch("source", "a.bin", url + "file")
    assert not raw(tmp_path, "a.bin").exists()
    have = raw(tmp_path, ".a.bin.part").stat().st_size
    assert 0 < have <= 200_000
    Server.limit = None
    assert download.fetch("source", "a.bin", url + "file").read_bytes() == CONTENT
    assert Server.requested == ["", f"bytes={have}-" if ranges else ""]
    assert not raw(tmp_path, ".a.bin.part").exists()


def test_a_partial_file_that_is_too_long_is_downloaded_again(url, tmp_path):
    raw(tmp_path, "").mkdir(parents=True)
    raw(tmp_path, ".a.bin.part").write_bytes(bytes(len(CONTENT) + 5))
    assert download.fetch("source", "a.bin", url + "file").read_bytes() == CONTENT


def test_the_mirror_comes_first(url, tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "a.bin").write_bytes(CONTENT)
    monkeypatch.setenv(download.MIRROR, str(folder))
    assert download.fetch("source", "a.bin", url + "file") == folder / "source" / "a.bin"
    assert Server.requested == []
    (folder / "source" / "a.bin").write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"a\.bin: its SHA-256 is not"):
        download.fetch("source", "a.bin", url + "file")
    monkeypatch.setenv(download.MIRROR, url + "files")
    assert download.fetch("source", "b.bin", url + "nothing").read_bytes() == CONTENT


def test_without_file_and_network_the_message_says_what_to_do(url):
    with pytest.raises(FileNotFoundError, match=r"a\.bin: cannot be downloaded from .*, and MILCNN_MIRROR") as caught:
        download.fetch("source", "a.bin", url + "nothing")
    assert "404" in str(caught.value)


def test_an_incomplete_zip_is_refused_and_its_checksum_not_recorded(url, tmp_path, monkeypatch):
    path = tmp_path / "mirror" / "source" / "a.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.tif", bytes(5000))
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    monkeypatch.setenv(download.MIRROR, str(tmp_path / "mirror"))
    with pytest.raises(ValueError, match=r"a\.zip: not a whole zip, perhaps a broken download; delete"):
        download.fetch("source", "a.zip", url + "nothing")
    path.write_bytes(whole)
    assert download.fetch("source", "a.zip", url + "nothing") == path
