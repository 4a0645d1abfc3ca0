"""The yardstick of the benchmarks, and ``gpu_check`` on a CPU: its arithmetic by hand, and the whole script."""

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn import functional as F

from milcnn.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # at the end: its names hide no package
import gpu_agreement
import gpu_check
import gpu_speed
import throughput
import yardstick

CPU = torch.device("cpu")
XEON = {"vendor_id": "GenuineIntel", "cpu family": "6", "flags": "fma avx2 avx512f avx512_bf16"}
ZEN4 = {"vendor_id": "AuthenticAMD", "cpu family": "25", "flags": "fma avx2 avx512f avx512_bf16"}
BF16 = torch.bfloat16


# ------------------------------------------------------------------------------------------------ the yardstick


@pytest.mark.parametrize(
    ("facts", "dtype", "expected"),
    [
        (XEON, torch.float32, 64),  # 2 units × 16 lanes × multiply and add
        (ZEN4, torch.float32, 32),  # 512 bits in two halves
        (ZEN4 | {"cpu family": "26"}, torch.float32, 64),
        (XEON | {"flags": "fma avx2"}, torch.float32, 32),
        (XEON | {"flags": "avx2"}, torch.float32, None),
        ({}, torch.float32, None),
        (XEON, BF16, 128),
        (ZEN4, BF16, 64),
        (XEON | {"flags": "fma avx2 avx512f"}, BF16, None),
        (XEON | {"flags": "fma avx2 avx512f avx512_bf16 amx_bf16"}, BF16, 1024),  # 16 × 16 × 32 pairs in 16 cycles
    ],
)
def test_flop_of_a_cycle(facts, dtype, expected):
    assert yardstick.flop_per_cycle(facts, dtype) == expected


def limits(monkeypatch, seconds: float, clock: str = "process_time") -> dict:
    """Those of two kernels of 2 and 3 GFLOP in ``seconds``, on a Xeon that runs at 2 GHz."""
    monkeypatch.setattr(yardstick, "cpu_facts", lambda: XEON)
    times = {"a": seconds, "b": seconds, yardstick.CLOCK: yardstick.CYCLES / 2e9}
    return yardstick.limits({"a": 2.0, "b": 3.0}, times, torch.float32, clock)


def test_the_peak_is_the_best_rate_and_is_held_against_the_ceiling(monkeypatch):
    seen = limits(monkeypatch, 0.1)
    assert seen.pop("GFLOP/s") == pytest.approx({"a": 20, "b": 30})
    assert seen == pytest.approx({"peak GFLOP/s": 30, "by": "b", "ceiling GFLOP/s": 128})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert limits(monkeypatch, 0.1, "perf_counter")["ceiling GFLOP/s"] == pytest.approx(256)
    with pytest.raises(yardstick.YardstickError, match=r"^b, of what clock .*: a share of 1\.17 is above 1, so times"):
        limits(monkeypatch, 0.02)  # 150 of 128 GFLOP/s


def test_a_processor_that_is_not_known_has_no_ceiling(monkeypatch):
    monkeypatch.setattr(yardstick, "cpu_facts", dict)
    times = {"a": 1.0, yardstick.CLOCK: 1.0}
    assert yardstick.limits({"a": 2.0}, times, torch.float32, "process_time")["ceiling GFLOP/s"] is None


@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_kernels_have_the_flop_that_torch_counts(monkeypatch, dtype):
    monkeypatch.setitem(yardstick.PRODUCTS, "cpu", [32])
    monkeypatch.setitem(yardstick.CONVOLUTIONS, "cpu", [(1, 8, 1, 6), (3, 4, 2, 8)])
    work, gflop = yardstick.kernels(CPU, dtype)
    counted = {name: throughput.flops(do) for name, do in work.items()}
    by_torch = [name for name in gflop if not name.endswith(("oneDNN", "numpy"))]  # torch counts its own alone
    assert len(by_torch) == 3
    assert {name: counted[name] for name in by_torch} == pytest.approx({name: gflop[name] for name in by_torch})
    assert set(work) - set(gflop) <= {yardstick.CLOCK}
    assert set(gflop.values()) == {2 * 32**3 / 1e9, 2 * 8 * 8 * 36 / 1e9, 2 * 9 * 4 * 4 * 2 * 64 / 1e9}


def test_all_libraries_multiply():
    a, b = torch.randn(2, 16, 16).unbind()
    work = yardstick.products(a, b)
    torch.testing.assert_close(torch.from_numpy(work["numpy"]()), work["torch"]())
    torch.testing.assert_close(work["oneDNN"]().to_dense(), a @ b.T)


def test_a_share_above_one_ends_the_benchmark(monkeypatch, tmp_path):
    """Too many FLOP are counted: one sentence, a status that is not 0, and no file."""
    monkeypatch.setattr(throughput, "SIZES", {"small": (1, 144)})
    monkeypatch.setattr(throughput, "flops", lambda do: 1e9)
    monkeypatch.setattr(yardstick, "cpu_facts", dict)  # no ceiling: on a busy machine its clock may be wrong
    monkeypatch.setattr(throughput, "ProcessPoolExecutor", lambda n, mp_context: ThreadPoolExecutor(n))
    out = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["throughput", "--repeats", "1", "--device", "cpu", "--out", str(out)])
    with pytest.raises(
        SystemExit, match=r"^throughput: scoring of small, of .* is above 1, so .*\. Nothing is written\.$"
    ):
        throughput.main()
    assert not out.exists()


# ------------------------------------------------------------------------------------------------- gpu_check


def test_bytes_of_a_convolution_by_hand():
    x, weight, bias = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3, requires_grad=True), torch.rand(3)
    forward = 4 * (50 + 54 + 3 + 27)  # field, weight, bias, and 3 × 3 × 3 outputs
    with torch.inference_mode():
        assert gpu_speed.gigabytes(lambda: F.relu(F.conv2d(x, weight, bias))) == forward / 1e9
    backward = 4 * (27 + 50 + 54 + 54)  # gradient of the outputs, field, weight, and gradient of the weight
    assert gpu_speed.gigabytes(lambda: F.conv2d(x, weight, bias).sum().backward()) == (forward + backward) / 1e9


def test_the_share_is_that_of_the_larger_floor():
    limit = {"peak GFLOP/s": 100.0, "GB/s": 10.0}
    seen = gpu_speed.share_of_floor(0.4, gflop=20, gbytes=3, limit=limit)  # 0.2 s to compute, 0.3 s to move
    assert seen == pytest.approx({"FLOP floor s": 0.2, "bytes floor s": 0.3, "floor": "bytes", "share of floor": 0.75})
    with pytest.raises(yardstick.YardstickError, match=r"floor by FLOP: a share of 2\.00"):
        gpu_speed.share_of_floor(0.1, gflop=20, gbytes=1, limit=limit)


def test_the_least_accuracy_by_hand():
    assert gpu_agreement.least_accuracy(0.8, 100) == pytest.approx(0.8 - 2 * math.sqrt(0.0032))


@pytest.mark.parametrize("wrong", ["class maps", "gradient"])
def test_a_wrong_value_is_found(monkeypatch, wrong):
    plain = gpu_agreement.outcome

    def faulty(net, fields, targets):
        values = plain(net, fields, targets)
        if next(net.parameters()).dtype == torch.float32:
            values[wrong] = values[wrong] * 1.01
        return values

    assert gpu_agreement.float64_agreement(CPU, 160, 4)["passed"]
    monkeypatch.setattr(gpu_agreement, "outcome", faulty)
    facts = gpu_agreement.float64_agreement(CPU, 160, 4)
    assert not facts["passed"]
    assert facts["errors"]["float32"][wrong] == pytest.approx(1e-2, rel=0.1)


def test_what_is_lacking_is_named():
    needed, least = ["numpy", "pandas", "torch", "no-such-package"], {"torch": (99, 1), "pandas": (1, 5)}
    assert gpu_check.lacking(needed, least) == [
        f"torch 99.1 or later (there is {torch.__version__})", "no-such-package",
    ]  # fmt: skip


ALONE = """
import runpy, sys
from importlib import metadata
from packaging.requirements import Requirement
def brought(names):
    needs = [need for name in names for need in map(Requirement, metadata.requires(name) or [])]
    more = {tidy(need.name) for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})}
    return names if more <= names else brought(names | more)
def tidy(name):
    return name.lower().replace("_", "-")
sys.path.insert(0, "benchmarks")
import gpu_check, yardstick
yardstick.NOISE = float("inf")  # times of a busy machine are not judged here
kept = brought(set(gpu_check.NEEDED))
others = {module for module, owners in metadata.packages_distributions().items() if not {*map(tidy, owners)} & kept}
others -= {"milcnn"}
assert {"pooch", "imagecodecs", "zarr", "dvc"} <= others
class Without:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        return None if name.split(".")[0] in others else self.finder.find_spec(name, *rest)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv = ["benchmarks/gpu_check.py", "--device", "cpu", "--out", sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_whole_script_on_a_cpu_with_no_other_package(tmp_path):
    out = tmp_path / "check.json"
    before = sorted((ROOT / "benchmarks" / "results").iterdir())
    done = subprocess.run([sys.executable, "-c", ALONE, out], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted((ROOT / "benchmarks" / "results").iterdir()) == before
    result = json.loads(out.read_text())
    assert result["machine"]["gpu"] is None
    passed = {check["name"]: check["passed"] for check in result["checks"]}
    assert passed == dict.fromkeys(["forward, loss, gradient", "same bits", "bf16 accuracy", "two processes"], True)
    assert [row["name"] for row in result["speed"]] == [
        f"{phase}, {size}" for size in ("160 × 160 × 3", "144 × 144 × 1") for phase in ("scoring", "training")
    ]  # fmt: skip
    assert all(row["share of floor"] > 0 for row in result["speed"])
    differences = [row["relative difference of y"] for row in result["options"] if row["phase"] == "scoring"]
    assert len(differences) == 2
    assert max(differences) < 1e-5
