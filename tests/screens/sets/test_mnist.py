"""Downloads: the mirror first, a checksum always, one sentence when there is nothing."""

import hashlib

import pooch
import pytest
import requests

from milcnn.paths import ROOT
from milcnn.screens import download
from milcnn.screens.sets.mnist import load_mnist

CONTENT = b"twelve bytes"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
URL = "https://nowhere.invalid/a.bin"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()
    monkeypatch.setenv("MILCNN_MIRROR", str(tmp_path))
    monkeypatch.setattr(download, "ROOT", tmp_path / "root")
    return tmp_path / "source"


def test_a_file_of_the_mirror_is_used_in_place(mirror):
    (mirror / "a.bin").write_bytes(CONTENT)
    assert download.fetch("source", "a.bin", URL, SHA256) == mirror / "a.bin"


def test_a_wrong_file_in_the_mirror_is_refused(mirror):
    (mirror / "a.bin").write_bytes(CONTENT + b"!")
    with pytest.raises(ValueError, match=rf"a\.bin: its SHA-256 is not {SHA256}"):
        download.fetch("source", "a.bin", URL, SHA256)


def test_without_mirror_and_network_one_sentence_names_file_url_and_variable(mirror, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise requests.exceptions.ConnectionError

    monkeypatch.setattr(pooch, "retrieve", no_network)
    with pytest.raises(FileNotFoundError) as error:
        download.fetch("source", "a.bin", URL, SHA256)
    assert all(word in str(error.value) for word in ("a.bin", URL, "MILCNN_MIRROR"))


def test_mnist_from_the_mirror(monkeypatch):
    shared = ROOT.parent / "shared" / "data" / "mirror"
    if not (shared / "mnist").exists():
        pytest.skip("no mirror of MNIST on this machine")
    monkeypatch.setenv("MILCNN_MIRROR", str(shared))
    images, digits = load_mnist()
    assert images.shape == (70_000, 28, 28)
    # the class counts of the origin's 10,000 test images
    assert [int((digits[60_000:] == d).sum()) for d in range(10)] == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
