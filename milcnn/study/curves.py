"""``milcnn curves``: the dose–response curves of a scored screen, of each compound with four doses or more.

    milcnn curves data/scores/STUDY

writes beside the scores ``wells.csv``, the responding fraction of each treated well; ``curves.csv``, see
``hill.curves``; ``dose_response_1.png`` …, 40 compounds each. The phenotype of a compound, in ``Metadata_Label``, is
the class that the networks pick for it over all plates. ``responding_fraction`` and ``hill`` have the equations.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pyarrow.parquet as pq

from milcnn.columns import COMPOUND, CONCENTRATION, CONTROL, LABEL, PLATE, WELL
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
from milcnn.study.score import SUMMARY_FILE, scored_plates

LEAST_DOSES = len(hill.Hill._fields)  # as many as a curve has parameters
IN_FIGURE = 40  # compounds


def write_curves(scores: str) -> None:
    """The curves of the scores in the folder ``scores``. Raises StageError if these have none, and says why."""
    folder = in_root(scores)
    settings = plan.read_settings(folder)
    if settings is None or not (folder / SUMMARY_FILE).exists():
        raise StageError(f"{folder}: no scores; give the folder that `milcnn score` wrote.")
    for name in ("wells.csv", "curves.csv", "dose_response_*"):  # of an earlier call
        for path in folder.glob(name):
            path.unlink()
    study = load_prepared(Path(settings.prepared))
    control = plan.control_class(study)
    if not control:
        reason = "its fields have several labels" if study.multilabel else "its negative controls are no class"
        raise StageError(f"{study.study}: {reason}, so there is no responding fraction.")
    if not settings.cells_per_field:
        print("Note: cells in a field are not known, so EC50 may be too low; call milcnn score with --cells-per-field.")
    fields = with_controls(read_scores(folder))
    wells = well_means(with_doses(with_picked_fraction(fields, control, plan.in_view(settings, study))))
    curves = hill.curves(wells)
    curves[LABEL] = curves[LABEL].where(curves["ec50"].notna(), "")  # without a response it shows no phenotype
    facts = {"wells": (WELL, "size"), "plates": (PLATE, "nunique")}
    facts |= {"lowest_dose": (CONCENTRATION, "min"), "highest_dose": (CONCENTRATION, "max")}
    curves = curves.merge(wells.groupby(COMPOUND).agg(**facts).reset_index(), on=COMPOUND)
    write_table(wells.drop(columns=["method", "seed"]), folder / "wells.csv")
    write_table(curves.drop(columns=["method", "seed"]), folder / "curves.csv")
    draw_pages(wells, curves, folder)
    print(f"{len(curves)} compounds, {curves['ec50'].notna().sum()} of them with an EC50; see {folder / 'curves.csv'}.")


def read_scores(folder: Path) -> pd.DataFrame:
    """The fields that the last call scored, with ``p_<class>``; treated wells without a compound are left out.

    Raises StageError if their compounds, doses or controls are not known.
    """
    tables = []
    for path in (folder / f"{plate}.parquet" for plate in scored_plates(folder)):
        names = [name for name in pq.read_schema(path).names if name.startswith(("Metadata_", "p_", "reason"))]
        tables.append(pd.read_parquet(path, columns=names))
    fields = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    for column in (COMPOUND, CONCENTRATION, CONTROL):
        if column not in fields:
            raise StageError(f"{folder}: the scores have no {column}; score the screen with a --platemap that has it.")
    named = fields[COMPOUND].fillna("") != ""
    return fields[(fields["reason"] == "") & (named | is_control(fields))].drop(columns="reason")


def with_controls(fields: pd.DataFrame) -> pd.DataFrame:
    """The fields of plates that have a negative control; says which plates have none."""
    bare = sorted(set(fields[PLATE]) - set(fields.loc[is_control(fields), PLATE]))
    if bare:
        print(f"Note: {len(bare)} plates have no negative control and are left out: {', '.join(bare[:5])}.")
    if len(bare) == fields[PLATE].nunique():
        raise StageError("No plate has a negative control; name them in Metadata_Control or as a compound, DMSO.")
    return fields[~fields[PLATE].isin(bare)].reset_index(drop=True)


def with_doses(fields: pd.DataFrame) -> pd.DataFrame:
    """The treated fields of compounds with ``LEAST_DOSES`` doses above 0; says what is left out."""
    dosed = fields[fields[CONCENTRATION] > 0]
    if without := len(fields) - len(dosed):
        print(f"Note: {without} of {len(fields)} treated fields have no dose above 0 and are left out.")
    doses = dosed.groupby(COMPOUND)[CONCENTRATION].nunique()
    few = doses[doses < LEAST_DOSES]
    if len(few) == len(doses):
        raise StageError(f"No compound has {LEAST_DOSES} doses above 0, as a curve needs.")
    if len(few):
        print(f"Note: {len(few)} of {len(doses)} compounds have fewer than {LEAST_DOSES} doses and get no curve.")
    return dosed[~dosed[COMPOUND].isin(few.index)]


def draw_pages(wells: pd.DataFrame, curves: pd.DataFrame, folder: Path) -> None:
    """``dose_response_1`` … of ``IN_FIGURE`` compounds each, by phenotype and EC50."""
    use_style()
    order = curves.sort_values([LABEL, "ec50"])[COMPOUND]
    for start in range(0, len(order), IN_FIGURE):
        own = wells[wells[COMPOUND].isin(order[start : start + IN_FIGURE])]
        figure = dose_response(own, hill.curve_bands(own), curves)
        save_figure(figure, folder, f"dose_response_{start // IN_FIGURE + 1}")
        plt.close(figure)
