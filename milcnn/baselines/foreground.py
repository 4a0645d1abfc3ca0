"""Which pixels of a field show cells, and whether any do. Maps and baselines share this foreground."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_li, threshold_otsu

MAD_TO_SD = 1.4826  # of a normal distribution
REACH = 3.0  # standard deviations after which a Gaussian is cut
RIM = 0.5  # px, sigma of the image in which cells end: a stronger blur makes them too large
# A field is blank if it varies no more between blocks of COARSE px than noise would that varies as it does between
# blocks of FINE px. White noise of any kind has a ratio near 1, at most 1.5; fields that hold cells are above 1.9.
FINE, COARSE, SIGNAL = 2, 8, 1.8
FLOOR = 4.0  # standard deviations of the noise by which cells exceed the background
CALM = 4.0  # less contrast, in root mean squares of the darker half of the dark pixels: no pixel is background
SOFT = 1.5  # px, sigma of the image in which this contrast is measured


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """``image`` (H, W) after a Gaussian filter, float32."""
    return ndimage.gaussian_filter(image.astype(np.float32), sigma, truncate=REACH)


def has_signal(image: np.ndarray) -> bool:
    """Does an image (H, W) show more than noise and uneven light? False means blank. See ``SIGNAL``.

    Noise of a camera, of photons too, does not know its neighbours: means of blocks of n px a side have 1 / n of its
    standard deviation. Cells are larger than a block, so their means keep it. A polynomial takes the uneven light out.
    """
    if min(image.shape) < 3 * COARSE:
        return bool(np.ptp(image) > 0)  # too small to tell
    noise = roughness(block_means(image, FINE))
    coarse = without_trend(block_means(image, COARSE), min(4, min(image.shape) // 16))
    return bool(noise > 0 and roughness(coarse) * COARSE / FINE > SIGNAL * noise)


def block_means(image: np.ndarray, side: int) -> np.ndarray:
    """Means of the whole blocks of ``side`` px of an image (H, W), (H // side, W // side) float32."""
    rows, columns = (length // side for length in image.shape)
    cut = image[: rows * side, : columns * side].astype(np.float32)
    return cut.reshape(rows, side, columns, side).mean(axis=(1, 3))


def second_differences(image: np.ndarray) -> np.ndarray:
    """a − 2 b + c of all neighbours a, b, c in a row or a column of an image (H, W), flat."""
    return np.concatenate([np.diff(image, 2, axis).ravel() for axis in (0, 1)])


def roughness(image: np.ndarray) -> float:
    """Root mean square of the second differences of an image (H, W)."""
    return float(np.sqrt(np.mean(second_differences(image) ** 2)))


def without_trend(image: np.ndarray, degree: int) -> np.ndarray:
    """An image (H, W) minus the polynomial of ``degree`` in x and y that fits it best."""
    y, x = (np.linspace(-1, 1, length) for length in image.shape)
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    basis, _ = np.linalg.qr(np.stack([np.outer(y**i, x**j).ravel() for i, j in powers], axis=1))
    return image - (basis @ (basis.T @ image.ravel())).reshape(image.shape)


def noise_of(image: np.ndarray) -> float:
    """Standard deviation of the noise of an image (H, W), from the median of its second differences."""
    return float(np.median(np.abs(second_differences(image)))) * MAD_TO_SD / 6**0.5


def foreground(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Where an image (H, W) shows cells, bool, and the value that it exceeds there after a blur by ``RIM``.

    This is the one foreground of maps and baselines. The level is the threshold of minimum cross-entropy (Li and Tam
    1998), which keeps the dim rim that Otsu's cuts off. Its search starts at Otsu's: from the mean it ends in the noise
    where few pixels are bright. It is at least ``FLOOR`` above the noise. Infinite for a blank field; minus infinity
    where cells cover all, so that nothing is dark and calm.
    """
    nothing = np.zeros(image.shape, bool), np.inf
    if not has_signal(image):
        return nothing
    smooth, soft = gaussian(image, RIM), gaussian(image, SOFT)
    level = float(threshold_li(smooth, initial_guess=threshold_otsu(smooth)))
    level = max(level, float(np.median(smooth[smooth <= level])) + FLOOR * noise_of(smooth))
    mask = smooth > level
    if not mask.any():
        return nothing
    dark = soft[~mask]
    middle = np.median(dark)
    calm = np.sqrt(np.mean((dark[dark <= middle] - middle) ** 2))
    stands_out = soft[mask].mean() - middle > CALM * calm
    return (mask, level) if stands_out else (np.ones(image.shape, bool), -np.inf)
