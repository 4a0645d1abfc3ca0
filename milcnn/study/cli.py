"""The command ``milcnn``: what DVC, make and a user call."""

import argparse
import os
import sys
import traceback
from typing import Any

from milcnn.paths import ROOT
from milcnn.study.parameters import StageError


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="milcnn", description="From a label on a whole field to what its cells do.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("demo", help="run one small study from end to end, in a few minutes, in build/demo")
    whole = commands.add_parser("study", help="bring every stage of dvc.yaml up to date, several at once")
    whole.add_argument("--jobs", type=int, default=2, help="stages at once")
    new = commands.add_parser("new", help="set up a study of your own screen, from a table or a microscope's folder")
    new.add_argument("study", metavar="NAME", help="letters, digits, - and _")
    new.add_argument("--table", help="CSV, Excel or Parquet, one row a field; without it, plates in --images are found")
    new.add_argument("--images", help="folder in which the table's paths start, or that a microscope has left")
    new.add_argument("--platemap", help="table, grid or Broad's barcode_platemap.csv: label, compound … by well")
    new.add_argument("--pattern", help="without a table: a regular expression of the files' names, see COVERAGE.md")
    new.add_argument("--z", type=number_or_word, help="of several z planes: max, middle, sharpest or a number")
    new.add_argument("--time", type=int, help="of several time points: the number of one")

    built = commands.add_parser(
        "composite", help="set up fields built from a study's cells, a known share of them treated"
    )
    built.add_argument("study", help="prepared, with controls; the new one is called STUDY-composite")
    built.add_argument("--positive", metavar="LABEL", help="the treated class; without it, that on the most plates")

    commands.add_parser("example", help="download the plate of docs/own-screen.md to data/raw/bbbc016")
    run = commands.add_parser("run", help="run one stage of a study", usage="milcnn run STAGE STUDY [--KEY VALUE ...]")
    run.add_argument("stage", help="prepare, train, baselines, compare, localise, figures, explore, dose or degrade")
    run.add_argument("study", help="a file of params/, without .yaml")

    condition = commands.add_parser("condition", help="train network and baselines on worse labels or fewer fields")
    condition.add_argument("study")
    condition.add_argument("condition", help="such as noise20 or share25")
    inventory = commands.add_parser("inventory", help="note what the inputs of a study are, for DVC")
    inventory.add_argument("study")
    commands.add_parser("clean", help="copy the notebooks without outputs to build/notebooks")
    commands.add_parser("unit-tests", help="what each pooling function can learn: reports/tables/mil_unit_tests.csv")
    turns = commands.add_parser(
        "rotation",
        help="run a study in turns, so that every field tests once",
        usage="%(prog)s STUDY [--KEY VALUE ...]",
    )
    turns.add_argument("study", help="with a section rotation in its file of params/")
    exported = commands.add_parser("export", help="write a trained network for other tools: ONNX, profiles, model card")
    exported.add_argument("study")
    exported.add_argument("--run", default="noisy_and-0", help="a folder of models/STUDY; default noisy_and-0")
    exported.add_argument("--output", help="folder to write; default build/export/STUDY/RUN")
    exported.add_argument("--labels", action="store_true", help="also cells and maps of test fields, in their OME-Zarr")
    add_score(commands)
    commands.add_parser("architecture", help="draw the network from the model itself: docs/architecture.png")
    commands.add_parser("report", help="write reports/html/index.html and reports/tables/summary.csv")
    commands.add_parser("readme", help="bring the numbers of README.md and docs/results.md up to the last run")
    commands.add_parser("sample", help="cut data/sample from the last run")
    return top


def add_score(commands: Any) -> None:
    scored = commands.add_parser("score", help="score any screen, labelled or not, by the trained networks of a study")
    scored.add_argument("study", help="prepared and trained")
    scored.add_argument("--run", default="noisy_and", help="noisy_and-0, or noisy_and for all its seeds together")
    scored.add_argument("--table", help="of the fields to score; without it and --images the study's own screen")
    scored.add_argument("--images", help="folder in which the table's paths start, or that a microscope has left")
    scored.add_argument("--platemap", help="compound, controls … by well; not needed")
    scored.add_argument("--pattern", help="as of `milcnn new`")
    scored.add_argument("--where", help="which fields, a query of pandas: \"Metadata_Plate == 'P1'\"")
    scored.add_argument("--output", help="folder; without it data/scores/STUDY")
    scored.add_argument("--cells-per-field", type=float, help="mean number, for the responding fraction")
    scored.add_argument("--precision", choices=["float32", "bfloat16", "int8"], help="by OpenVINO; else PyTorch")
    scored.add_argument("--masks", action="store_true", default=None, help="write cells and class maps as OME-TIFF")
    scored.add_argument("--strict", action="store_true", default=None, help="stop at an image that cannot be read")
    scored.add_argument("--estimate", action="store_true", help="score 20 fields, say what all would cost, and end")
    scored.add_argument("--engine", default="loop", choices=["loop", "dask", "slurm", "local"])
    scored.add_argument("--workers", type=int, default=1, help="plates at once, on dask, slurm and local")
    scored.add_argument("--scheduler", default="", help="address of a running Dask scheduler")


def number_or_word(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def run_command(arguments: argparse.Namespace, rest: list[str]) -> None:
    """Call what the command line asks for. Each command imports what it needs: the others' libraries take seconds."""
    match arguments.command:
        case "run":
            from milcnn.study import conditions, stage

            run = conditions.run_dose_stage if arguments.stage in conditions.KNOWN_DOSES else stage.run_stage
            run(arguments.stage, arguments.study, stage.parse_overrides(rest))
        case "condition":
            from milcnn.study.conditions import run_condition

            run_condition(arguments.study, arguments.condition)
        case "demo":
            from milcnn.study.demo import demo

            demo()
        case "study":
            from milcnn.study.parallel import run_study

            run_study(arguments.jobs)
        case "new":
            from milcnn.study.new import new_study

            given = {key: value for key, value in vars(arguments).items() if key not in ("command", "study")}
            new_study(arguments.study, **given)
        case "composite":
            from milcnn.study.composites import composite_study

            composite_study(arguments.study, arguments.positive)
        case "example":
            from milcnn.screens.sets.bbbc016 import fetch_plate

            print(f"The images are in {fetch_plate()}.")
        case "inventory":
            from milcnn.study.inventory import write_inventory

            write_inventory(arguments.study)
        case "clean":
            from milcnn.study.clean import clean_notebooks

            clean_notebooks()
        case "unit-tests":
            from milcnn.network.mil_unit_tests import write_unit_tests

            write_unit_tests()
        case "rotation":
            from milcnn.study.rotation import rotation
            from milcnn.study.stage import parse_overrides

            rotation(arguments.study, parse_overrides(rest))
        case "export":
            from milcnn.study.exports import export_study

            export_study(arguments.study, arguments.run, arguments.output, arguments.labels)
        case "score":
            from milcnn.score.engines import EngineSettings
            from milcnn.study.score import score

            given = {key: value for key, value in vars(arguments).items() if key not in ("command", "study", "run")}
            engine = {key: given.pop(key) for key in ("workers", "scheduler")} | {"kind": given.pop("engine")}
            where = EngineSettings.model_validate(engine)
            score(arguments.study, arguments.run, where, given.pop("estimate"), **given)
        case "architecture":
            from milcnn.study.architecture import architecture

            architecture()
        case "report":
            from milcnn.study.report import report

            report()
        case "readme":
            from milcnn.study.readme import readme

            readme()
        case "sample":
            from milcnn.study.sample import write_sample

            write_sample()


def sentence(error: Exception) -> str:
    """What the user reads of ``error``. An error of the system names its file; any other is a fault of milcnn."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, (StageError, ValueError, OSError, ImportError, FloatingPointError)):
        return str(error)
    details = ROOT / "build" / "failed" / "traceback.txt"
    details.parent.mkdir(parents=True, exist_ok=True)
    details.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{what}. This is a fault of milcnn; please report it with {details}."


def main() -> None:
    os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts, whatever the locale
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # µ on a terminal without it is "?"
    top = parser()
    arguments, rest = top.parse_known_args()
    if rest and arguments.command not in ("run", "rotation"):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        run_command(arguments, rest)
        if os.environ.get("DVC_STAGE"):
            from milcnn.study.costs import note_cost

            note_cost(getattr(arguments, "study", ""))
    except KeyboardInterrupt:
        print("error: stopped by Ctrl-C; what was not finished was not written.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sys.exit(f"error: {sentence(error)}")
