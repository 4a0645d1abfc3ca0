"""Stages for studies whose doses and cells are known: ``label_noise.studies`` of params.yaml says which."""

from milcnn.parameters import read_study, read_yaml
from milcnn.paths import ROOT
from milcnn.study.stage import run_stage

KNOWN_DOSES = ("dose", "degrade")  # stages for these studies alone


def doses_known(study: str) -> bool:
    """Whether params.yaml lists ``study`` as one whose doses are known; says so where it does not.

    Raises StageError if there is no such study.
    """
    read_study(study)
    known = study in (read_yaml(ROOT / "params.yaml").get("label_noise") or {}).get("studies", [])
    if not known:
        advice = "add it there if it is drawn with doses; for other screens call milcnn score, then milcnn curves"
        print(f"{study}: not in label_noise.studies of params.yaml, so nothing to do; {advice}.")
    return known


def run_any_stage(stage: str, study: str, overrides: dict[str, list[str]]) -> None:
    """``run_stage``; but of ``dose`` and ``degrade``, without known doses, the output folders stay empty."""
    if stage in KNOWN_DOSES:
        known = doses_known(study)
        for kind in ("tables", "galleries"):
            (ROOT / "reports" / kind / study / stage).mkdir(parents=True, exist_ok=True)
        if not known:
            return
    run_stage(stage, study, overrides)


def run_condition(study: str, condition: str) -> None:
    """Train one network and all baselines under ``condition``; without known doses the folder stays empty."""
    known = doses_known(study)
    (ROOT / "models" / study / condition).mkdir(parents=True, exist_ok=True)
    if known:
        run_stage("train", study, {"pooling": ["noisy_and"], "seed": ["0"], "condition": [condition]})
        run_stage("baselines", study, {"condition": [condition]})
