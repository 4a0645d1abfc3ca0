"""Downloads from a small server that breaks off, and from mirrors."""

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
    """Serves CONTENT as any name that holds 'file', by ranges; breaks off after ``limit`` bytes."""

    limit = None
    asked: list[str] = []  # noqa: RUF012
    ranges = True

    def do_GET(self):
        asked = self.headers.get("Range") if self.ranges else None
        type(self).asked.append(asked or "")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if "file" not in self.path or start >= len(CONTENT):
            self.send_error(404 if "file" not in self.path else 416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:][: self.limit])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ROOT", tmp_path)
    monkeypatch.delenv(download.MIRROR, raising=False)
    Server.limit, Server.asked, Server.ranges = None, [], True
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
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
    assert Server.asked == [""]
    with pytest.raises(ValueError, match="hash"):
        download.fetch("source", "b.bin", url + "file", "0" * 64)
    assert not raw(tmp_path, "b.bin").exists()


def test_the_first_sum_is_recorded_and_then_enforced(url, tmp_path):
    path = download.fetch("source", "a.bin", url + "file")
    assert json.loads(raw(tmp_path, "sha256.json").read_text()) == {"a.bin": SHA256}
    path.write_bytes(b"changed")
    assert download.fetch("source", "a.bin", url + "file").read_bytes() == CONTENT  # fetched again


def test_a_changed_origin_is_refused(url, tmp_path, monkeypatch):
    download.fetch("source", "a.bin", url + "file").unlink()
    monkeypatch.setitem(globals(), "CONTENT", b"another edition")
    with pytest.raises(ValueError, match="hash"):
        download.fetch("source", "a.bin", url + "file")
    assert not raw(tmp_path, "a.bin").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(url, tmp_path, ranges):
    Server.limit, Server.ranges = 200_000, ranges
    with pytest.raises(FileNotFoundError, match="a download goes on where it broke off"):
        download.fetch("source", "a.bin", url + "file")
    assert not raw(tmp_path, "a.bin").exists()
    have = raw(tmp_path, ".a.bin.part").stat().st_size
    assert 0 < have <= 200_000
    Server.limit = None
    assert download.fetch("source", "a.bin", url + "file").read_bytes() == CONTENT
    assert Server.asked == ["", f"bytes={have}-" if ranges else ""]
    assert not raw(tmp_path, ".a.bin.part").exists()


def test_a_part_that_is_too_long_is_begun_anew(url, tmp_path):
    raw(tmp_path, "").mkdir(parents=True)
    raw(tmp_path, ".a.bin.part").write_bytes(bytes(len(CONTENT) + 5))
    assert download.fetch("source", "a.bin", url + "file").read_bytes() == CONTENT


def test_the_mirror_comes_first(url, tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "a.bin").write_bytes(CONTENT)
    monkeypatch.setenv(download.MIRROR, str(folder))
    assert download.fetch("source", "a.bin", url + "file") == folder / "source" / "a.bin"
    assert Server.asked == []
    (folder / "source" / "a.bin").write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"a\.bin: its SHA-256 is not"):
        download.fetch("source", "a.bin", url + "file")
    monkeypatch.setenv(download.MIRROR, url + "files")
    assert download.fetch("source", "b.bin", url + "nothing").read_bytes() == CONTENT


def test_no_file_and_no_network_is_one_sentence(url):
    with pytest.raises(FileNotFoundError, match=r"a\.bin: neither in the folder or URL of MILCNN_MIRROR") as caught:
        download.fetch("source", "a.bin", url + "nothing")
    assert "404" in str(caught.value)


def test_half_a_zip_is_refused_and_its_sum_not_recorded(url, tmp_path, monkeypatch):
    path = tmp_path / "mirror" / "source" / "a.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.tif", bytes(5000))
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    monkeypatch.setenv(download.MIRROR, str(tmp_path / "mirror"))
    with pytest.raises(ValueError, match=r"a\.zip: not a whole zip, half downloaded perhaps; delete it"):
        download.fetch("source", "a.zip", url + "nothing")
    path.write_bytes(whole)
    assert download.fetch("source", "a.zip", url + "nothing") == path
