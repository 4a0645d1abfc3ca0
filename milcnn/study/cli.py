"""The command ``milcnn``: what DVC, make and a user call."""

import argparse
import os
import sys
import traceback
from importlib import import_module
from typing import Any

from milcnn.parameters import StageError
from milcnn.paths import ROOT

OF_NOTEBOOKS = ("run", "rotation")  # commands that take parameters of a notebook, --KEY VALUE


class Commands:
    """The commands that ``parser`` knows."""

    def __init__(self, top: argparse.ArgumentParser) -> None:
        self.parsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(self, name: str, calls: str, about: str, **more: Any) -> argparse.ArgumentParser:
        """A command that calls ``calls``, ``module:function`` of milcnn, with its arguments by their names.

        The module is imported when it is called: the libraries of all of them take seconds.
        """
        command = self.parsers.add_parser(name, help=about, **more)
        command.set_defaults(calls=calls)
        return command


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="milcnn", description="From a label on a whole field to what its cells do.")
    commands = Commands(top)
    add_commands_of_a_user(commands)
    add_score(commands)
    add_curves(commands)
    add_commands_of_a_study(commands)
    return top


def add_commands_of_a_user(commands: Commands) -> None:
    commands.add("demo", "study.demo:demo", "run one small study from end to end, in a few minutes, in build/demo")
    whole = commands.add("study", "study.parallel:run_study", "bring every stage of dvc.yaml up to date")
    whole.add_argument("--jobs", type=int, default=2, help="stages at once")
    about = "set up a study of your own screen, from a table or a microscope's folder"
    new = commands.add("new", "study.new:new_study", about)
    new.add_argument("study", metavar="NAME", help="letters, digits, - and _")
    new.add_argument("--table", help="CSV, Excel or Parquet, one row a field; without it, plates in --images are found")
    new.add_argument("--images", help="folder in which the table's paths start, or that a microscope has left")
    new.add_argument("--platemap", help="table, grid or Broad's barcode_platemap.csv: label, compound … by well")
    new.add_argument("--pattern", help="without a table: a regular expression of the files' names, see COVERAGE.md")
    new.add_argument("--z", type=number_or_word, help="of several z planes: max, middle, sharpest or a number")
    new.add_argument("--time", type=int, help="of several time points: the number of one")
    about = "set up fields built from a study's cells, a known share of them treated"
    built = commands.add("composite", "study.composites:composite_study", about)
    built.add_argument("study", help="prepared, with controls; the new one is called STUDY-composite")
    built.add_argument("--positive", metavar="LABEL", help="the treated class; without it, that on the most plates")
    commands.add("example", "study.cli:example", "download the plate of docs/own-screen.md to data/raw/bbbc016")
    about = "write a trained network for other tools: ONNX, profiles, model card"
    exported = commands.add("export", "study.exports:export_study", about)
    exported.add_argument("study")
    exported.add_argument("--run", default="noisy_and-0", help="a folder of models/STUDY; default noisy_and-0")
    exported.add_argument("--output", help="folder to write; default build/export/STUDY/RUN")
    exported.add_argument("--labels", action="store_true", help="also cells and maps of test fields, in their OME-Zarr")


def add_score(commands: Commands) -> None:
    about = "score any screen, labelled or not, by the trained networks of a study"
    scored = commands.add("score", "study.score:score_as_told", about)
    scored.add_argument("study", help="prepared and trained")
    scored.add_argument("--run", default="noisy_and", help="noisy_and-0, or noisy_and for all its seeds together")
    scored.add_argument("--table", help="of the fields to score; without it and --images the study's own screen")
    scored.add_argument("--images", help="folder in which the table's paths start, or that a microscope has left")
    scored.add_argument("--platemap", help="compound, controls … by well; not needed")
    scored.add_argument("--pattern", help="as of `milcnn new`")
    scored.add_argument("--where", help="which fields, a query of pandas: \"Metadata_Plate == 'P1'\"")
    scored.add_argument("--output", help="folder; without it data/scores/STUDY")
    scored.add_argument("--cells-per-field", type=float, help="mean number; without it what 03_baselines found")
    scored.add_argument("--precision", choices=["float32", "bfloat16", "int8"], help="by OpenVINO; else PyTorch")
    scored.add_argument("--masks", action="store_true", default=None, help="write cells and class maps as OME-TIFF")
    scored.add_argument("--strict", action="store_true", default=None, help="stop at an image that cannot be read")
    scored.add_argument("--estimate", action="store_true", help="score 20 fields, say what all would cost, and end")
    scored.add_argument("--engine", default="loop", choices=["loop", "dask", "slurm", "local"])
    scored.add_argument("--workers", type=int, default=1, help="plates at once, on dask, slurm and local")
    scored.add_argument("--scheduler", default="", help="address of a running Dask scheduler")


def add_curves(commands: Commands) -> None:
    about = "dose–response curves of the compounds of a scored screen"
    curves = commands.add("curves", "study.curves:write_curves", about)
    curves.add_argument("scores", metavar="FOLDER", help="that milcnn score wrote, such as data/scores/STUDY")


def add_commands_of_a_study(commands: Commands) -> None:
    """What DVC and make call, and a user who wants one stage alone."""
    usage = "milcnn run STAGE STUDY [--KEY VALUE ...]"
    run = commands.add("run", "study.conditions:run_any_stage", "run one stage of a study", usage=usage)
    run.add_argument("stage", help="prepare, train, baselines, compare, localise, figures, explore, dose or degrade")
    run.add_argument("study", help="a file of params/, without .yaml")
    about, usage = "run a study in turns, so that every field tests once", "%(prog)s STUDY [--KEY VALUE ...]"
    turns = commands.add("rotation", "study.rotation:rotation", about, usage=usage)
    turns.add_argument("study", help="with a section rotation in its file of params/")
    about = "train network and baselines on worse labels or fewer fields"
    condition = commands.add("condition", "study.conditions:run_condition", about)
    condition.add_argument("study")
    condition.add_argument("condition", help="such as noise20 or share25")
    inventory = commands.add("inventory", "study.inventory:write_inventory", "note what the inputs of a study are")
    inventory.add_argument("study")
    commands.add("clean", "study.clean:clean_notebooks", "copy the notebooks without outputs to build/notebooks")
    about = "what each pooling function can learn: reports/tables/mil_unit_tests.csv"
    commands.add("unit-tests", "network.mil_unit_tests:write_unit_tests", about)
    about = "draw the network from the model itself: docs/architecture.png"
    commands.add("architecture", "study.architecture:architecture", about)
    commands.add("report", "study.report:report", "write reports/html/index.html and reports/tables/summary.csv")
    about = "bring the numbers of README.md and docs/results.md up to the last run"
    commands.add("readme", "study.readme:readme", about)
    commands.add("sample", "study.sample:write_sample", "cut data/sample from the last run")


def number_or_word(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def example() -> None:
    from milcnn.screens.sets.bbbc016 import fetch_plate

    print(f"The images are in {fetch_plate()}.")


def run_command(arguments: argparse.Namespace, rest: list[str]) -> None:
    """Call what the command line asks for; ``rest`` are parameters of a notebook."""
    given = {key: value for key, value in vars(arguments).items() if key not in ("command", "calls")}
    if arguments.command in OF_NOTEBOOKS:
        from milcnn.study.stage import parse_overrides

        given["overrides"] = parse_overrides(rest)
    module, function = arguments.calls.split(":")
    getattr(import_module(f"milcnn.{module}"), function)(**given)


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
    if rest and arguments.command not in OF_NOTEBOOKS:
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
