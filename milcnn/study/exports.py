"""``milcnn export``: a run of a study for other tools, by the names of the study and of the run."""

from pathlib import Path

from milcnn.baselines.segment import SegmentSettings
from milcnn.export.labels import label_plates
from milcnn.export.run_folder import export_run
from milcnn.parameters import StageError, parameter_file, read_study
from milcnn.paths import ROOT, in_root

NAME_IN_IMAGES = "milcnn"  # the name of labels and maps in an OME-Zarr image


def export_study(study: str, run: str, output: str | None = None, labels: bool = False) -> None:
    """Export the run ``run``, such as noisy_and-0, to ``output``, by default build/export/<study>/<run>.

    With ``labels`` the test fields get cells and class maps in the OME-Zarr images that they came from. Raises
    StageError for a bad name, and what ``export_run`` and ``label_plates`` raise.
    """
    sections = read_study(study)
    if Path(run).name != run:
        raise StageError(f"run '{run}': name a folder of {ROOT / 'models' / study}, such as noisy_and-0.")
    folder = Path(output) if output else ROOT / "build" / "export" / study / run
    exported = export_run(ROOT / "models" / study / run, ROOT / "data" / "prepared" / study, folder)
    print(f"The export is in {folder}; start with its README.md.")
    if labels:
        segmentation = SegmentSettings(**sections.get("baselines", {}).get("segmentation", {}))
        settings = sections.get("prepare", {}).get("screen_settings", {})
        if "table" not in settings:
            raise StageError(f"{parameter_file(study)}: its images are drawn, not files; there is no plate to label.")
        images = in_root(settings.get("images") or Path(settings["table"]).parent)
        told = label_plates(exported, exported.prepared.of("test"), segmentation, images, NAME_IN_IMAGES)
        print(f"{len(told)} images have labels/{NAME_IN_IMAGES} and maps/{NAME_IN_IMAGES}, such as {told[0]}.")
