"""Dose–response curves: the Hill equation, fitted to wells, with intervals from resampled wells.

    f(d) = bottom + (top − bottom) / (1 + (EC50 / d)^h)          (Hill 1910)

d is a dose in µM, f an effect in [0, 1], as the responding fraction of ``responding_fraction``.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from milcnn.columns import COMPOUND, CONCENTRATION

BOTTOM, TOP, SLOPE = (0.0, 0.2), (0.0, 1.0), (0.5, 4.0)  # bounds of a fit; EC50 lies within the doses
LEAST_RISE = 0.1  # of the effect: a curve that rises less has no EC50
WELL_RESAMPLES = 100  # of the wells of a compound: enough for a 95 % interval to two digits
BY = ["method", "seed", COMPOUND]


class Hill(NamedTuple):
    """A curve: ``bottom`` and ``top`` in [0, 1], ``ec50`` in µM (NaN without response), ``slope`` h."""

    bottom: float
    top: float
    ec50: float
    slope: float


def hill(dose: np.ndarray, curve: Hill) -> np.ndarray:
    """f(d) of ``curve`` at ``dose`` (n,) in µM, above 0; flat at ``bottom`` where the curve has no EC50."""
    if np.isnan(curve.ec50):
        return np.full(np.shape(dose), curve.bottom)
    return curve.bottom + (curve.top - curve.bottom) / (1 + (curve.ec50 / dose) ** curve.slope)


def fit_hill(dose: np.ndarray, effect: np.ndarray) -> Hill:
    """The curve of least squares through wells: ``dose`` (n,) in µM, above 0, and ``effect`` (n,).

    log EC50 is what is fitted. A compound whose curve rises by less than ``LEAST_RISE``, or whose fit
    does not converge, has no EC50: its curve is flat at the mean effect.
    """
    x = np.log(dose)
    low, high = np.array([BOTTOM, TOP, (x.min(), x.max() + 1e-9), SLOPE]).T  # one dose alone still has room
    start = np.clip([effect.min(), effect.max(), x.mean(), 1.5], low + 1e-6, high - 1e-10)

    def rise(middle: float, slope: float) -> np.ndarray:
        return 1 / (1 + np.exp(slope * (middle - x)))

    def residuals(values: np.ndarray) -> np.ndarray:
        bottom, top, middle, slope = values
        return bottom + (top - bottom) * rise(middle, slope) - effect

    def slopes(values: np.ndarray) -> np.ndarray:
        bottom, top, middle, slope = values
        share = rise(middle, slope)
        steep = (top - bottom) * share * (1 - share)
        return np.stack([1 - share, share, -slope * steep, (x - middle) * steep], axis=1)

    found = least_squares(residuals, start, slopes, bounds=(low, high))
    bottom, top, middle, slope = found.x
    if not found.success or top - bottom < LEAST_RISE:
        return Hill(effect.mean(), effect.mean(), np.nan, np.nan)
    return Hill(bottom, top, float(np.exp(middle)), slope)


def resampled(dose: np.ndarray, effect: np.ndarray, resamples: int = WELL_RESAMPLES) -> list[Hill]:
    """Curves through ``resamples`` drawings, with replacement, of the n wells."""
    draws = np.random.default_rng(0).integers(0, len(dose), (resamples, len(dose)))
    return [fit_hill(dose[draw], effect[draw]) for draw in draws]


def curves(wells: pd.DataFrame, resamples: int = WELL_RESAMPLES) -> pd.DataFrame:
    """The curve of each method, seed and compound of ``wells`` (see ``responding_fraction.wells``).

    Columns: ``method``, ``seed``, ``Metadata_Compound``, ``Metadata_Label``; ``bottom``, ``top``, ``ec50``
    (µM), ``slope``; ``low``, ``high``, the 95 % percentile interval of EC50 over ``resamples`` drawings of the
    wells (those without a response left out; with 0 drawings EC50 itself); ``true_ec50`` (µM).
    """
    rows = []
    for key, members in wells.groupby(BY, sort=False):
        dose, effect = members[CONCENTRATION].to_numpy(), members["responding_fraction"].to_numpy()
        curve = fit_hill(dose, effect)
        low, high = np.nan, np.nan
        if not np.isnan(curve.ec50):
            drawn = [draw.ec50 for draw in resampled(dose, effect, resamples)]
            low, high = np.nanquantile([curve.ec50, *drawn], [0.025, 0.975])
        first = members.iloc[0]
        facts = {"Metadata_Label": first["Metadata_Label"], **curve._asdict(), "low": low, "high": high}
        rows.append(dict(zip(BY, key, strict=True)) | facts | {"true_ec50": first["ec50"]})
    return pd.DataFrame(rows)


def curve_bands(wells: pd.DataFrame, points: int = 60) -> pd.DataFrame:
    """What a figure draws of each compound of one run: the curve and its pointwise 95 % band.

    Columns: ``Metadata_Compound``, ``Metadata_Concentration`` (µM, ``points`` of them, evenly in log dose),
    ``value``, ``low``, ``high``; ``true``, the Hill curve through the true ``response``, which a study has as a whole.
    """
    grid = np.geomspace(wells[CONCENTRATION].min(), wells[CONCENTRATION].max(), points)
    tables = []
    for compound, members in wells.groupby(COMPOUND, sort=False):
        dose, effect = members[CONCENTRATION].to_numpy(), members["responding_fraction"].to_numpy()
        drawn = np.array([hill(grid, curve) for curve in resampled(dose, effect)])
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        value, true = (hill(grid, fit_hill(dose, values)) for values in (effect, members["response"].to_numpy()))
        facts = {COMPOUND: compound, CONCENTRATION: grid, "value": value, "low": low, "high": high, "true": true}
        tables.append(pd.DataFrame(facts))
    return pd.concat(tables, ignore_index=True)
