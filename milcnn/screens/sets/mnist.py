"""MNIST (LeCun, Cortes, Burges) from its four original IDX files."""

import gzip
from pathlib import Path

import numpy as np

from milcnn.screens.download import fetch

URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}


def load_mnist() -> tuple[np.ndarray, np.ndarray]:
    """Images (70000, 28, 28) uint8 and digits (70000,) uint8; the last 10,000 are the test set."""
    arrays = [read_idx(fetch("mnist", name, URL + name, sha256)) for name, sha256 in SHA256.items()]
    return np.concatenate(arrays[::2]), np.concatenate(arrays[1::2])


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file of bytes: 0, 0, 8, the number of axes, their lengths (big-endian), the data."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: not an IDX file of bytes; delete it and fetch it again.")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
