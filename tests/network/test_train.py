"""Training: the loss, the batches, learning, exact repeats, resuming, and refused input."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState

from milcnn.columns import LABEL
from milcnn.files import write_json
from milcnn.network import batches, checkpoint, model, predict, train
from milcnn.network.augment import Jitter
from milcnn.network.model import ModelSettings, Output
from milcnn.network.train import TrainSettings
from milcnn.prepare import fields
from milcnn.prepare.prepared import Prepared
from milcnn.screens.screen import Screen
from milcnn.settings import SettingsError

CLASSES = ["dark", "left", "right"]


def blob_screen(per_class: int = 6, size: int = 72) -> Screen:
    """Noisy fields; of class left or right when something bright is on that side."""
    rows = [
        {"Metadata_Plate": "P1", "Metadata_Well": f"{split}-{label}", "Metadata_Site": site, LABEL: label,
         "Metadata_Split": split}
        for split in ("train", "validation", "test") for label in CLASSES for site in range(per_class)
    ]  # fmt: skip

    def read(row: pd.Series) -> np.ndarray:
        rng = np.random.default_rng([row["Metadata_Site"], CLASSES.index(row[LABEL]), len(row["Metadata_Split"])])
        field = rng.integers(900, 1100, (1, size, size)).astype(np.uint16)
        if row[LABEL] != "dark":
            y, x = rng.integers(0, size - 20), rng.integers(0, size // 2 - 20)
            x += size // 2 * (row[LABEL] == "right")
            field[0, y : y + 20, x : x + 20] += np.uint16(4000)
        return field

    return Screen(fields=pd.DataFrame(rows), channels=["a"], classes=CLASSES, read=read)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Prepared:
    return fields.prepare(blob_screen(), "blobs", tmp_path_factory.mktemp("prepared"))


def network(**changes) -> ModelSettings:
    start = {"study": "blobs", "channels": ["a"], "classes": CLASSES, "width": 0.06, "padding": "same"}
    return ModelSettings(**(start | {"normalisation": "group", "dropout": 0.1, "dropout_dense": 0.1} | changes))


def settings(**changes) -> TrainSettings:
    start = {"epochs": 3, "batch_size": 6, "learning_rate": 0.01, "augment": "none", "device": "cpu"}
    return TrainSettings(**(start | changes))


# ------------------------------------------------------------------------------------------------ loss


def output_of(bag_probabilities: list[float], logits: list[float]) -> Output:
    maps = torch.zeros(1, len(logits), 1, 1)
    P = torch.tensor([bag_probabilities])
    return Output(maps, maps, P.logit(), P, torch.tensor([logits]), torch.zeros(1, 1))


def test_loss_of_one_label_by_hand():
    output = output_of([0.7, 0.2, 0.1], [1.0, 2.0, 0.0])
    pooled = -(math.log(0.7) + math.log(0.8) + math.log(0.9))
    joint = -math.log(math.exp(1) / (math.exp(1) + math.exp(2) + 1))
    assert train.two_headed_loss(output, torch.tensor([0])).tolist() == pytest.approx([pooled + joint])


def test_loss_of_several_labels_by_hand():
    output = output_of([0.7, 0.2, 0.1], [1.0, 2.0, 0.0])
    pooled = -(math.log(0.7) + math.log(0.2) + math.log(0.9))
    joint = -(math.log(1 / (1 + math.exp(-1))) + math.log(1 / (1 + math.exp(-2))) + math.log(0.5))
    targets = torch.tensor([[1.0, 1.0, 0.0]])
    assert train.two_headed_loss(output, targets).tolist() == pytest.approx([pooled + joint])


def test_the_loss_is_a_sum_over_known_classes():
    """By hand for one class known, and 0 for none."""
    output = output_of([0.7, 0.2, 0.1], [1.0, 2.0, 0.0])
    nan = math.nan
    losses = [train.two_headed_loss(output, torch.tensor([row])).item() for row in ([nan, 1.0, nan], [nan] * 3)]
    assert losses == pytest.approx([-math.log(0.2) - math.log(1 / (1 + math.exp(-2))), 0])


def test_an_unknown_class_has_no_gradient_and_the_others_keep_theirs():
    """Also where its score is too large for exp. A loss of two classes alone gives the same, bit for bit."""
    targets = torch.tensor([[1.0, math.nan, 0.0], [math.nan, 0.0, 1.0]])
    scores = torch.tensor([[0.3, 900.0, -2.0], [-900.0, 0.4, 5.0]])
    known = ~targets.isnan()

    def outcome(scores: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = scores.clone().requires_grad_()
        loss = train.two_headed_loss(Output(leaf, leaf, leaf, leaf.sigmoid(), leaf, leaf), targets)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return loss.detach(), gradient

    loss, gradient = outcome(scores, targets)
    assert gradient[~known].tolist() == [0, 0]
    alone, of_known = outcome(scores[known].view(2, 2), targets[known].view(2, 2))
    assert torch.equal(loss, alone)
    assert torch.equal(gradient[known].view(2, 2), of_known)


def test_where_all_classes_are_known_the_loss_is_that_of_torch_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    scores, logits = torch.randn(2, 32, 10, generator=generator) * 20
    targets = (torch.rand(32, 10, generator=generator) < 0.3).float()
    output = Output(scores, scores, scores, scores.sigmoid(), logits, logits)
    plain = torch.nn.functional.binary_cross_entropy_with_logits
    expected = sum(plain(x, targets, reduction="none").sum(dim=1) for x in (scores, logits))
    assert torch.equal(train.two_headed_loss(output, targets), expected)


def test_the_loss_of_nan_is_nan():
    for targets in (torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]])):
        output = output_of([math.nan, 0.2, 0.1], [math.nan] * 3)
        assert train.two_headed_loss(output, targets).isnan().all()


def test_no_thread_computes_with_denormals():
    """torch flushes them only in threads that it starts after it is told to: a new process, and two threads."""
    words = (
        "import milcnn.network.batches, milcnn.network.train as train, torch; torch.set_num_threads(2); "
        "torch.ones(4_000_000) * 2; train.set_determinism(0); "
        "print(int((torch.full((4_000_000,), 2e-38) * 0.1).view(torch.int32).count_nonzero()))"  # their bits
    )
    seen = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "0"


# ------------------------------------------------------------------------------------- what a step sees


def order(targets: torch.Tensor, n: int, balanced: bool = True, seed: int = 0) -> torch.Tensor:
    return batches.epoch_order(targets, n, balanced, torch.Generator().manual_seed(seed))


def test_equal_classes_are_one_plain_pass():
    targets = torch.arange(4).repeat(5)
    assert sorted(order(targets, 20).tolist()) == list(range(20))
    assert order(targets, 20).tolist() != order(targets, 20, seed=1).tolist()


def test_rare_classes_are_seen_as_often_as_frequent_ones():
    targets = torch.tensor([0] * 90 + [1] * 9 + [2])
    drawn = order(targets, 100)
    counts = torch.bincount(targets[drawn]).tolist()
    assert sum(counts) == 100
    assert max(counts) - min(counts) <= 1
    assert drawn[targets[drawn] == 0].unique().numel() == counts[0]  # no field twice before all were drawn
    assert sorted(order(targets, 100, balanced=False).tolist()) == list(range(100))
    again = order(targets, 100, seed=1)
    assert set(again[targets[again] == 0].tolist()) != set(drawn[targets[drawn] == 0].tolist())  # not always the first


def test_classes_of_several_labels_are_balanced():
    targets = torch.zeros(50, 3)
    targets[:40, 0] = 1
    targets[30:35, 1] = 1  # class 2 has no field, and the last ten have no label
    drawn = order(targets, 30)
    assert (drawn >= 40).sum() == 10
    assert (targets[drawn, 1] > 0).sum() >= 10


def test_an_unknown_class_is_no_reason_to_draw_a_field():
    targets = torch.full((50, 2), math.nan)
    targets[:5, 0] = 1
    targets[5:10, 1] = 1
    targets[10:20, 1] = 0  # known to lack it; of the last thirty nothing is known
    drawn = order(targets, 30)
    assert [int(((drawn >= low) & (drawn < high)).sum()) for low, high in ((0, 5), (5, 10), (10, 50))] == [10, 10, 10]


@pytest.mark.parametrize("jitter", [None, Jitter(torch.full((1, 1, 1), 1000.0), torch.ones(1, 1, 1), 0.2, 0.1)])
@pytest.mark.parametrize("data", ["device", "stream"])
def test_processes_share_a_batch(prepared, data, jitter):
    """Two shares are the whole batch, and streamed fields are the resident ones, bit by bit."""
    wanted = settings(augment="dihedral", crop=64)
    averaged = model.MILCNN(network()).averaged
    cpu = torch.device("cpu")
    open_as = [
        replace(batches.open_batches(prepared, "train", False, cpu, kind, averaged), jitter=jitter)
        for kind in ("device", data)
    ]
    whole = list(train.epoch_batches(open_as[0], wanted, epoch=1))
    shares = [list(train.epoch_batches(open_as[1], wanted, 1, process, 2)) for process in (0, 1)]
    assert len(whole) == 3
    for (rows, pixels, targets), *parts in zip(whole, *shares, strict=True):
        for process, part in enumerate(parts):
            assert part[0].tolist() == rows[process::2].tolist()
            assert torch.equal(part[1], pixels[process::2])
            assert torch.equal(part[2], targets[process::2])


def test_an_epoch_of_two_passes_sees_every_field_twice(prepared):
    opened = batches.open_batches(prepared, "train", False, torch.device("cpu"), "device", torch.nn.Identity())
    seen_batches = list(train.epoch_batches(opened, settings(passes=2), epoch=1))
    seen = torch.cat([rows for rows, _, _ in seen_batches])
    assert seen.bincount().tolist() == [2] * len(opened)
    assert len(seen_batches) == 2 * len(list(train.epoch_batches(opened, settings(), epoch=1)))


def test_targets_of_several_labels(prepared):
    rows = prepared.of("train").iloc[:4].assign(**{LABEL: ["left|right", "dark", "", "right"]})
    targets = batches.targets_of(prepared, rows, multilabel=True)
    assert targets.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    unknown = rows.assign(Metadata_Unknown=["dark", None, "dark|left|right", "left|dark"])
    targets = batches.targets_of(prepared, unknown, multilabel=True)
    np.testing.assert_array_equal(targets, [[np.nan, 1, 1], [1, 0, 0], [np.nan] * 3, [np.nan, np.nan, 1]])
    with pytest.raises(ValueError, match="Metadata_Unknown: no such class: up"):
        batches.targets_of(prepared, rows.assign(Metadata_Unknown="up"), multilabel=True)
    with pytest.raises(ValueError, match="no such class: up"):
        batches.targets_of(prepared, rows.assign(**{LABEL: "up|left"}), multilabel=True)
    with pytest.raises(ValueError, match="no such class: up"):
        batches.targets_of(prepared, rows.assign(**{LABEL: "up"}), multilabel=False)


# ---------------------------------------------------------------------------------------------- learning


def test_validation_counts_decisions_on_known_classes(prepared):
    """Loss and accuracy are those of the known decisions of y, from the predictions."""
    rows = prepared.of("validation")
    unknown = np.array(["dark", "left|right", ""], object)[np.arange(len(rows)) % 3]
    some = prepared.with_fields(rows.assign(**{LABEL: "right", "Metadata_Unknown": unknown}))
    net = model.MILCNN(network(multilabel=True), prepared.mean, prepared.std)
    torch.nn.init.constant_(net.head.bias, -9.0)  # y is no everywhere, as the number in place of NaN would be
    held = batches.open_batches(some, "validation", True, torch.device("cpu"), "device", net.averaged)
    _, accuracy = train.validate(net, held, 4, train.open_accelerator(settings()))
    y = predict.predict_fields(net, some, rows)[0].filter(regex="^y_").to_numpy()
    targets = held.targets.numpy()
    known = ~np.isnan(targets)
    assert known.sum() == 3 * len(rows) - 3 * len(rows) // 3
    assert accuracy == pytest.approx(((y > 0.5) == (targets > 0.5))[known].mean())


@pytest.mark.parametrize("changes", [{}, {"schedule": "cosine"}, {"ema": 0.8}], ids=["one-cycle", "cosine", "ema"])
def test_overfits_a_handful_of_fields(prepared, tmp_path, changes):
    history = train.train(
        prepared,
        network(pooling="mean", dropout=0.0, dropout_dense=0.0, width=0.1),
        settings(epochs=14, learning_rate=0.02, **changes),
        tmp_path,
    )
    assert history["loss"].iloc[-1] < 0.35 * history["loss"].iloc[0]
    best = model.load_model(tmp_path / "model.safetensors", "blobs")
    predicted, _ = predict.predict_fields(best, prepared, prepared.of("train"))
    assert (predicted["predicted"] == predicted[LABEL]).mean() > 0.9


def test_the_lowest_validation_loss_is_kept(prepared, tmp_path):
    history = train.train(prepared, network(), settings(epochs=6, learning_rate=0.05), tmp_path)
    kept = model.load_model(tmp_path / "model.safetensors")
    held = batches.open_batches(prepared, "validation", False, torch.device("cpu"), "auto", kept.averaged)
    loss, accuracy = train.validate(kept, held, 6, train.open_accelerator(settings()))
    row = history.loc[history["validation_loss"].idxmin()]
    assert loss == pytest.approx(row["validation_loss"], rel=1e-6)
    assert accuracy == row["validation_accuracy"]


def test_the_weights_of_the_best_epoch_are_kept_not_the_last(prepared, tmp_path, monkeypatch):
    losses, seen = iter([3.0, 1.0, 2.0]), []

    def scripted(network, held, *_):
        seen.append({name: weight.clone() for name, weight in network.state_dict().items()})
        return next(losses), 0.5

    monkeypatch.setattr(train, "validate", scripted)
    train.train(prepared, network(), settings(), tmp_path, tmp_path / "run.ckpt")
    kept = model.load_model(tmp_path / "model.safetensors").state_dict()
    assert all(torch.equal(kept[name], weight) for name, weight in seen[1].items())
    assert not all(torch.equal(seen[1][name], weight) for name, weight in seen[2].items())
    losses = iter([3.0, 1.0, 2.0])
    start, training = opened(prepared, settings())
    held = SimpleNamespace(rows=prepared.of("validation"))
    list(train.fit(start, training, held, settings(), train.open_accelerator(settings()), {"history": [], "best": {}}))
    assert all(torch.equal(start.network.state_dict()[name], weight) for name, weight in seen[4].items())


def opened(prepared: Prepared, how: TrainSettings) -> tuple[train.Run, batches.FieldBatches]:
    net = model.MILCNN(network())
    training = batches.open_batches(prepared, "train", False, torch.device("cpu"), "device", net.averaged)
    return train.open_run(net, how, len(training), train.open_accelerator(how)), training


def test_gradients_are_clipped(prepared):
    for clip in (1e-3, 1e6):
        how = settings(gradient_clip=clip)
        start, training = opened(prepared, how)
        train.train_epoch(start, training, how, train.open_accelerator(how), 1)
        gradients = [weight.grad.flatten() for weight in start.network.parameters() if weight.grad is not None]
        norm = torch.cat(gradients).norm().item()  # of the last step
        assert norm == pytest.approx(1e-3, rel=1e-3) if clip < 1 else norm > 1e-2


def test_weights_without_a_gradient_decay(prepared):
    """AdamW: w ← w (1 − rate · decay) at every step."""
    assert TrainSettings().weight_decay > 0
    start, _ = opened(prepared, settings(schedule="constant", learning_rate=0.1, weight_decay=0.5))
    weight = start.network.scores.weight
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    start.optimiser.step()
    torch.testing.assert_close(weight.detach(), before * (1 - 0.1 * 0.5))


def test_multilabel_from_fields_to_predictions(tmp_path):
    screen = blob_screen()
    both = screen.fields[LABEL].replace({"dark": "", "left": "left|right"})
    prepared = fields.prepare(screen, "blobs", tmp_path / "prepared")
    table = prepared.fields.assign(**{LABEL: both})
    prepared.__dict__["fields"] = table
    history = train.train(prepared, network(multilabel=True, pooling="mean"), settings(epochs=8), tmp_path)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    kept = model.load_model(tmp_path / "model.safetensors")
    predicted, _ = predict.predict_fields(kept, prepared, prepared.of("test"))
    y = predicted.filter(like="y_").to_numpy()
    assert not np.allclose(y.sum(axis=1), 1)  # a sigmoid each
    names = ["|".join(np.array(CLASSES)[row > 0.5]) for row in y]
    assert predicted["predicted"].tolist() == names


def test_predictions_and_profiles_are_those_of_each_field_alone(prepared, tmp_path):
    net = model.MILCNN(network(), prepared.mean, prepared.std).eval()
    rows = prepared.of("test").iloc[[3, 1]]
    table, profiles = predict.predict_fields(net, prepared, rows)
    assert table[LABEL].tolist() == rows[LABEL].tolist()
    for place, (_, row) in enumerate(rows.iterrows()):
        field = torch.from_numpy(prepared.pixels(row.to_frame().T))
        with torch.inference_mode():
            output = net(field)
            features = net.trunk((field.float() - net.mean) / net.std)[0]
        by_hand = {"P": output.bags[0], "y": output.logits[0].softmax(0), "p": output.instances[0].mean(dim=(1, 2))}
        for mark, values in by_hand.items():
            ours = table.loc[place, [f"{mark}_{name}" for name in CLASSES]].to_numpy(float)
            np.testing.assert_allclose(ours, values.numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(profiles.filter(like="feature_").iloc[place], features.mean(dim=(1, 2)), atol=1e-5)


# ------------------------------------------------------------------------------- exactness and resuming


def run_bytes(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("model.safetensors", "history.csv", "metrics.json")}


def run(prepared: Prepared, folder: Path, resume: Path | None = None, **changes) -> dict[str, bytes]:
    """All files of a run, with the metrics that the notebook writes."""
    train.train(prepared, network(normalisation="batch"), settings(ema=0.5, **changes), folder, resume)
    kept = model.load_model(folder / "model.safetensors")
    predicted, _ = predict.predict_fields(kept, prepared, prepared.of("test"))
    write_json({"accuracy": float((predicted["predicted"] == predicted[LABEL]).mean())}, folder / "metrics.json")
    return run_bytes(folder)


def test_one_seed_gives_the_same_bytes(prepared, tmp_path):
    first = run(prepared, tmp_path / "a")
    torch.rand(3)  # earlier draws of the session must not matter
    assert run(prepared, tmp_path / "b") == first
    assert run(prepared, tmp_path / "c", seed=1) != first


SCRIPT = """
import json, sys
from pathlib import Path
from milcnn.prepare.prepared import load_prepared
from milcnn.network import train
from milcnn.network.model import ModelSettings
folder, network, settings = json.loads(sys.argv[1])
prepared = load_prepared(Path(folder[0]))
resume = Path(folder[2]) if folder[2] else None
train.train(prepared, ModelSettings(**network), train.TrainSettings(**settings), Path(folder[1]), resume)
"""


def start(prepared, out: Path, resume: Path | None, net, how, **environment: str) -> subprocess.Popen:
    folders = [str(prepared.folder), str(out), str(resume) if resume else ""]
    words = json.dumps([folders, net.model_dump(), how.model_dump()])
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, words], env=os.environ | environment, stderr=subprocess.PIPE, text=True
    )


KILLED = {"epochs": 16, "ema": 0.5, "augment": "dihedral", "crop": 64}


@pytest.fixture(scope="module")
def never_killed(prepared, tmp_path_factory) -> tuple[pd.DataFrame, Path]:
    """The history and the folder of a whole run."""
    folder = tmp_path_factory.mktemp("whole")
    return train.train(prepared, network(normalisation="batch"), settings(**KILLED), folder), folder


@pytest.mark.parametrize("after", [0.0, 0.35])  # s after the first checkpoint: during its rename, and between others
def test_killed_and_started_again_is_as_if_never_killed(prepared, never_killed, tmp_path, after):
    """SIGKILL after the first checkpoint. The folder is emptied too, as DVC does before it runs a stage."""
    net, how = network(normalisation="batch"), settings(**KILLED)
    out, resume = tmp_path / "run", tmp_path / "run.ckpt"
    process = start(prepared, out, resume, net, how)
    deadline = time.monotonic() + 120
    while not resume.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    done = torch.load(resume, weights_only=True)["progress"]["history"]
    assert 1 <= len(done) < 16
    for file in out.iterdir():
        file.unlink()
    resumed = train.train(prepared, net, how, out, resume)
    whole, folder = never_killed
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    for name in ("model.safetensors", "history.csv"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert not resume.exists()


def test_a_checkpoint_of_other_settings_is_not_used(prepared, tmp_path):
    parts = {"layer": torch.nn.Linear(2, 2)}
    path = tmp_path / "run.ckpt"
    checkpoint.save_checkpoint(path, checkpoint.run_fingerprint(prepared, settings()), {"history": [1]}, parts)
    assert checkpoint.restore_checkpoint(path, checkpoint.run_fingerprint(prepared, settings()), parts) == {
        "history": [1]
    }
    assert checkpoint.restore_checkpoint(path, checkpoint.run_fingerprint(prepared, settings(seed=1)), parts) is None
    path.write_bytes(b"half a checkpoint")
    with pytest.raises(ValueError, match=r"run\.ckpt: not a checkpoint of a run .*; delete it"):
        checkpoint.restore_checkpoint(path, "", parts)


def test_two_processes_give_what_one_gives(prepared, tmp_path, monkeypatch):
    """The same global batch on two gloo processes. Without dropout, whose masks are drawn by each process, and
    with group normalisation: batch normalisation sees each process's share alone on a CPU."""
    net = network(dropout=0.0, dropout_dense=0.0, pooling="noisy_and")
    how = settings(epochs=4, augment="dihedral", ema=0.5)
    one = train.train(prepared, net, how, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    world["OMP_NUM_THREADS"] = "1"  # else accelerate warns that it chooses
    second = start(prepared, tmp_path / "two", None, net, how, **world, RANK="1", LOCAL_RANK="1")
    for name, value in (world | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    try:
        train.train(prepared, net, how, tmp_path / "two")
        assert torch.distributed.get_world_size() == 2
        errors = second.communicate(timeout=120)[1]
        assert second.returncode == 0, errors
    finally:
        second.kill()
        second.communicate()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
    two = pd.read_csv(tmp_path / "two" / "history.csv")
    pd.testing.assert_frame_equal(two, one, rtol=1e-3)
    weights = [model.load_model(tmp_path / name / "model.safetensors").state_dict() for name in ("one", "two")]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-2, atol=1e-4)


# ------------------------------------------------------------------------------------------------ refusals


def test_a_nan_loss_names_step_and_field_and_keeps_the_checkpoint(prepared, tmp_path, monkeypatch):
    resume = tmp_path / "run.ckpt"
    real = batches.FieldBatches.batches

    def poisoned(self, indices):
        """From the second epoch on (steps 4 to 6) one field is NaN."""
        epoch = 1 + resume.exists()
        for batch, (pixels, targets) in zip(indices, real(self, indices), strict=True):
            bad = (batch == 7) & (epoch > 1 and len(self.rows) == 18 and torch.is_grad_enabled())
            yield torch.where(bad[:, None, None, None], torch.nan, pixels.float()), targets

    monkeypatch.setattr(batches.FieldBatches, "batches", poisoned)
    with pytest.raises(FloatingPointError, match=r"^step [456]: .*\(plate/well/site\) P1/train-left/1; look at"):
        train.train(prepared, network(), settings(), tmp_path / "run", resume)
    assert len(torch.load(resume, weights_only=True)["progress"]["history"]) == 1
    assert model.load_model(tmp_path / "run" / "model.safetensors")
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 1


def test_a_nan_gradient_names_its_own_step(prepared, tmp_path, monkeypatch):
    """Its loss is finite. The next loss is not, but belongs to other fields."""
    real = train.two_headed_loss

    def steep(output, targets):
        loss = real(output, targets)
        return loss + (output.logits.sum(1) * 0).clamp(min=0).sqrt() if torch.is_grad_enabled() else loss

    monkeypatch.setattr(train, "two_headed_loss", steep)
    with pytest.raises(FloatingPointError, match=r"^step 1: the loss or its gradient is not finite"):
        train.train(prepared, network(), settings(), tmp_path / "run")


@pytest.mark.parametrize("epochs", [1, 2, 4, 5, 6])
def test_a_schedule_of_few_steps(prepared, tmp_path, epochs):
    history = train.train(prepared, network(), settings(epochs=epochs, batch_size=18), tmp_path)
    assert len(history) == epochs


def test_batch_normalisation_in_several_cpu_processes_is_refused(prepared):
    several = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    net = model.MILCNN(network(normalisation="batch"))
    with pytest.raises(ValueError, match="normalisation: 'batch' sees one process alone on CPUs"):
        train.open_run(net, settings(), 18, several)


def test_a_network_of_other_classes_is_refused(prepared):
    with pytest.raises(ValueError, match=r"classes \['dark', 'left', 'right'\] are not those of the network"):
        next(predict.outputs(model.MILCNN(network(classes=["a", "b"])), prepared, prepared.of("test")))


def test_a_nan_validation_loss_stops_the_run(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "validate", lambda *_: (math.nan, 0.5))
    with pytest.raises(FloatingPointError, match="epoch 1: the loss of the validation fields"):
        train.train(prepared, network(), settings(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rat": 0.1}, "TrainSettings: 'learning_rat' is unknown; perhaps 'learning_rate' is meant"),
        ({"epochs": 0}, "'epochs' = 0: Input should be greater"),
        ({"schedule": "warm"}, "'schedule' = 'warm': Input should be 'one_cycle', 'cosine' or 'constant'"),
        ({"ema": 1}, "'ema' = 1: Input should be less than 1"),
    ],
)
def test_unknown_settings_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        settings(**changes)


def test_an_empty_split_is_refused(prepared):
    with pytest.raises(ValueError, match=r"fields\.csv: no field in split 'held'"):
        batches.open_batches(prepared, "held", False, torch.device("cpu"), "auto", torch.nn.Identity())


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert train.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device: 'cuda' is not on this machine"):
        train.choose_device("cuda")
