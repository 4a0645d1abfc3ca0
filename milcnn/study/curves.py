"""``milcnn curves``: the dose–response curves of a scored screen, of each compound with four doses or more.

    milcnn curves data/scores/STUDY

writes beside the scores ``wells.csv``, the responding fraction of each treated well; ``curves.csv``, see
``hill.curves``; ``dose_response_1.png`` …, 40 compounds each. The phenotype of a compound, in ``Metadata_Label``, is
the class that the networks pick for it over all plates. ``responding_fraction`` and ``hill`` have the equations.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from milcnn.columns import COMPOUND, CONCENTRATION, CONTROL, LABEL, PLATE
from milcnn.evaluate import hill
from milcnn.evaluate.responding_fraction import well_means, with_picked_fraction
from milcnn.figures.dose import dose_response
from milcnn.figures.style import save_figure, use_style
from milcnn.files import write_table
from milcnn.parameters import StageError
from milcnn.paths import in_root
from milcnn.prepare.prepared import load_prepared
from milcnn.roles import is_control
from milcnn.score import plan

LEAST_DOSES = len(hill.Hill._fields)  # as many as a curve has parameters
IN_FIGURE = 40  # compounds


def write_curves(scores: str) -> None:
    """The curves of the scores in the folder ``scores``. Raises StageError if these have none, and says why."""
    folder = in_root(scores)
    settings = plan.read_settings(folder)
    if settings is None or not list(folder.glob("*.parquet")):
        raise StageError(f"{folder}: no scores; give the folder that `milcnn score` wrote.")
    study = load_prepared(Path(settings.prepared))
    control = plan.control_class(study)
    if not control:
        raise StageError(f"{study.study}: its negative controls are no class, so there is no responding fraction.")
    k = plan.in_view(settings, study)
    wells = well_means(with_doses(with_picked_fraction(with_controls(read_scores(folder)), control, k)))
    curves = hill.curves(wells)
    write_table(wells.drop(columns=["method", "seed"]), folder / "wells.csv")
    write_table(curves.drop(columns=["method", "seed"]), folder / "curves.csv")
    draw(wells, curves, folder)
    print(f"{len(curves)} compounds, {curves['ec50'].notna().sum()} of them with an EC50; see {folder / 'curves.csv'}.")


def read_scores(folder: Path) -> pd.DataFrame:
    """The scored fields in ``folder``, with ``p_<class>``. Raises StageError without compounds, doses or controls."""
    fields = pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], ignore_index=True)
    for column in (COMPOUND, CONCENTRATION, CONTROL):
        if column not in fields:
            raise StageError(f"{folder}: the scores have no {column}; score the screen with a --platemap that has it.")
    return fields[fields["reason"] == ""].filter(regex="^Metadata_|^p_")


def with_controls(fields: pd.DataFrame) -> pd.DataFrame:
    """The fields of plates that have a negative control; says which plates have none."""
    bare = sorted(set(fields[PLATE]) - set(fields.loc[is_control(fields), PLATE]))
    if bare:
        print(f"Note: {len(bare)} plates have no negative control and are left out: {', '.join(bare[:5])}.")
    if len(bare) == fields[PLATE].nunique():
        raise StageError("No plate has a negative control; name them in Metadata_Control or as a compound, DMSO.")
    return fields[~fields[PLATE].isin(bare)].reset_index(drop=True)


def with_doses(fields: pd.DataFrame) -> pd.DataFrame:
    """The fields of compounds with ``LEAST_DOSES`` doses above 0; says how many have fewer."""
    fields = fields[fields[CONCENTRATION] > 0]
    doses = fields.groupby(COMPOUND)[CONCENTRATION].nunique()
    few = doses[doses < LEAST_DOSES]
    if len(few) == len(doses):
        raise StageError(f"No compound has {LEAST_DOSES} doses above 0, as a curve needs.")
    if len(few):
        print(f"Note: {len(few)} of {len(doses)} compounds have fewer than {LEAST_DOSES} doses and get no curve.")
    return fields[~fields[COMPOUND].isin(few.index)]


def draw(wells: pd.DataFrame, curves: pd.DataFrame, folder: Path) -> None:
    """``dose_response_1`` … of ``IN_FIGURE`` compounds each, by phenotype and EC50."""
    use_style()
    order = curves.sort_values([LABEL, "ec50"])
    for start in range(0, len(order), IN_FIGURE):
        shown = order[start : start + IN_FIGURE]
        own = wells[wells[COMPOUND].isin(shown[COMPOUND])]
        figure = dose_response(own, hill.curve_bands(own), shown)
        save_figure(figure, folder, f"dose_response_{start // IN_FIGURE + 1}")
        plt.close(figure)
