"""MNIST: its IDX files are read as specified, and the published files have the published counts."""

import gzip
import struct

import numpy as np
import pytest

from milcnn.paths import ROOT
from milcnn.screens.sets.mnist import load_mnist, read_idx


def test_idx_files_are_read_as_specified(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = struct.pack(">HBBIII", 0, 8, 3, 2, 3, 4) + values.tobytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    assert np.array_equal(read_idx(tmp_path / "a.gz"), values)
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"\x00\x00\x0d" + content[3:]))
    with pytest.raises(ValueError, match=r"b\.gz: not an IDX file of bytes"):
        read_idx(tmp_path / "b.gz")


def test_mnist_from_the_mirror(monkeypatch):
    shared = ROOT.parent / "shared" / "data" / "mirror"
    if not (shared / "mnist").exists():
        pytest.skip("no mirror of MNIST on this machine")
    monkeypatch.setenv("MILCNN_MIRROR", str(shared))
    images, digits = load_mnist()
    assert images.shape == (70_000, 28, 28)
    # the class counts of the origin's 10,000 test images
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(digits[60_000:]), counts)
