"""Each situation in which a job can find itself, by what PyTorch and the environment would say."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from scbert.cli import app
from scbert.training import devices
from scbert.training.devices import (
    autocast,
    choose_device,
    given_gpu,
    make_accelerator,
    precision_on,
)

PACKAGE = Path(devices.__file__).parents[1]
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
VARIABLES = (*devices.COUNTS, *devices.LISTS, *devices.CONTAINER_VARIABLES)
RANKS = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")


@pytest.fixture
def here(monkeypatch):
    """A machine without GPU, driver, container or cluster, but with a PyTorch for CUDA."""
    for name in (*VARIABLES, *RANKS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "DRIVER", Path("/nowhere"))
    monkeypatch.setattr(devices, "CONTAINER_FILES", ())
    monkeypatch.setattr(devices, "_has_driver_library", lambda: False)
    return monkeypatch


@pytest.fixture
def two_gpus(here):
    """The same with two GPUs; what is set in PyTorch for them is noted."""
    done = {}
    here.setattr(torch.cuda, "is_available", lambda: True)
    here.setattr(torch.cuda, "device_count", lambda: 2)
    here.setattr(torch.cuda, "set_device", lambda device: done.update(device=device))
    here.setattr(torch, "set_float32_matmul_precision", lambda name: done.update(products=name))
    here.setattr(
        torch.backends.cuda, "enable_cudnn_sdp", lambda enabled: done.update(cudnn=enabled)
    )
    return done


def refusal(wanted="auto"):
    with pytest.raises(ValueError, match="PyTorch") as caught:
        choose_device(wanted)
    return str(caught.value)


def test_auto_without_a_gpu_is_the_cpu(here):
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU


def test_auto_with_a_gpu_is_cuda_prepared_for_it(two_gpus):
    assert choose_device("auto") == choose_device("cuda") == CUDA
    assert two_gpus == {"device": CUDA, "products": "high", "cudnn": False}
    two_gpus.clear()
    assert choose_device("cpu") == CPU
    assert two_gpus == {}


def test_each_process_takes_the_device_of_its_rank(two_gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert choose_device("auto") == torch.device("cuda", 1)
    assert two_gpus["device"] == torch.device("cuda", 1)


def test_more_processes_than_devices_are_refused(two_gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ValueError, match=r"4 processes .* only 2 GPU.*CUDA_VISIBLE_DEVICES=0,1"):
        choose_device("auto")


@pytest.mark.parametrize(
    ("name", "value", "given"),
    [
        ("SCBERT_GPUS", "1", True),
        ("SCBERT_GPUS", "0", False),
        ("SLURM_GPUS", "h100:2", True),
        ("SLURM_GPUS", "h100:0", False),
        ("SLURM_GPUS", "a100:0, h100:1", True),
        ("CUDA_VISIBLE_DEVICES", "-1,0", False),
        ("CUDA_VISIBLE_DEVICES", "none", False),
        ("SLURM_GPUS_ON_NODE", "4", True),
        ("SLURM_JOB_GPUS", "0", True),  # the first of the node
        ("SLURM_JOB_GPUS", "", False),
        ("GPU_DEVICE_ORDINAL", "0,1", True),
        ("GPU_DEVICE_ORDINAL", "NoDevFiles", False),
        ("CUDA_VISIBLE_DEVICES", "0", True),
        ("CUDA_VISIBLE_DEVICES", "", False),
        ("CUDA_VISIBLE_DEVICES", "-1", False),
        ("CUDA_VISIBLE_DEVICES", "NoDevFiles", False),
    ],
)
def test_a_job_with_a_gpu_that_cannot_be_used_stops(here, name, value, given):
    here.setenv(name, value)
    assert given_gpu() == (f"{name}={value}" if given else "")
    if not given:
        assert choose_device("auto") == CPU
        return
    said = refusal()
    assert f"the job was given a GPU ({name}={value})" in said
    assert "device: cpu in the configuration, --device cpu" in said
    assert choose_device("cpu") == CPU


def test_the_reason_is_a_build_for_cpus(here):
    here.setattr(torch.version, "cuda", None)
    said = refusal("cuda")
    assert said.startswith("device is cuda, but PyTorch")
    assert "a build for CPUs only" in said
    assert "pip install torch" in said


def test_a_build_for_amd_is_no_build_for_cpus(here):
    here.setattr(torch.version, "cuda", None)
    here.setattr(torch.version, "hip", "7.0", raising=False)
    assert "build for CPUs" not in refusal("cuda")


def test_the_reason_is_a_hidden_gpu(here):
    here.setenv("SLURM_JOB_GPUS", "0")
    here.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is '', which hides every GPU" in refusal()


def test_the_reason_is_a_machine_without_driver(here):
    assert "this machine has no NVIDIA driver" in refusal("cuda")


def test_the_reason_is_a_container_without_the_driver(here, tmp_path):
    here.setenv("APPTAINER_CONTAINER", "/images/scbert.sif")
    assert "apptainer exec --nv" in refusal("cuda")
    here.delenv("APPTAINER_CONTAINER")
    (tmp_path / "dockerenv").touch()
    here.setattr(devices, "CONTAINER_FILES", (tmp_path / "dockerenv",))
    assert "docker run --gpus all" in refusal("cuda")


def test_the_reason_is_an_old_driver_and_pytorch_is_quoted(here, tmp_path):
    def warn():
        import warnings  # noqa: PLC0415

        warnings.warn("driver is too old (found version 11040)", UserWarning, stacklevel=1)
        return False

    (tmp_path / "version").write_text("NVRM version: 470.82.01\nGCC version: 9\n")
    here.setattr(torch.cuda, "is_available", warn)
    here.setattr(devices, "DRIVER", tmp_path / "version")
    here.setattr(devices, "_has_driver_library", lambda: True)
    said = refusal("cuda")
    assert "built for CUDA 13.0, and the driver (NVRM version: 470.82.01) is too old" in said
    assert said.count("found version 11040") == 1


def test_mps_is_taken_only_when_asked_for_and_there(here):
    here.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == CPU
    assert choose_device("mps") == torch.device("mps")
    here.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="Start one process"):
        choose_device("mps")
    here.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "finds no Apple GPU here" in refusal("mps")


def test_an_unknown_device_is_refused(here):
    with pytest.raises(ValueError, match="device is 'gpu', but auto, cpu, cuda, mps are allowed"):
        choose_device("gpu")


@pytest.mark.parametrize(
    ("device", "native", "wanted", "expected"),
    [
        (CPU, True, "auto", "no"),
        (CUDA, True, "auto", "bf16"),
        (CUDA, False, "auto", "no"),  # emulated, it is slower than float32: V100, T4
        (torch.device("mps"), True, "auto", "no"),
        (CPU, False, "bf16", "bf16"),
        (CUDA, True, "no", "no"),
    ],
)
def test_precision_on_a_device(monkeypatch, device, native, wanted, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert precision_on(device, wanted) == expected


def test_autocast_of_products():
    x = torch.ones(2, 2)
    with autocast(CPU, "auto"):
        assert (x @ x).dtype == torch.float32
    with autocast(CPU, "bf16"):
        assert (x @ x).dtype == torch.bfloat16


@pytest.fixture
def mac(here):
    """A Mac with Apple silicon, in a process in which accelerate has not yet taken a device."""
    here.setattr(torch.backends.mps, "is_available", lambda: True)
    here.setattr(torch.backends.mps, "is_built", lambda: True)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(("wanted", "expected"), [("auto", "cpu"), ("cpu", "cpu"), ("mps", "mps")])
def test_make_accelerator_is_on_the_device_that_was_chosen(mac, wanted, expected):
    accelerator = make_accelerator(choose_device(wanted), "auto")
    assert (accelerator.device.type, accelerator.mixed_precision) == (expected, "no")


def test_accelerate_alone_would_take_mps(mac):
    """Why `make_accelerator` says where to compute, and nothing else makes an Accelerator."""
    assert Accelerator().device.type == "mps"
    made = [file.name for file in PACKAGE.rglob("*.py") if "Accelerator(" in file.read_text()]
    assert made == ["devices.py"]


@pytest.mark.parametrize("command", ["annotate", "embed"])
def test_commands_take_a_device_and_say_why_there_is_none(here, toy, toy_run, tmp_path, command):
    toy.draw_cells(3, seed=1).write_h5ad(tmp_path / "q.h5ad")
    words = [command, tmp_path / "q.h5ad", "--model", toy_run.model, "--out", tmp_path / "o.h5ad"]
    result = CliRunner().invoke(app, [*map(str, words), "--device", "cuda"])
    assert result.exit_code == 1
    assert "ERROR: device is cuda, but PyTorch" in result.stderr
    here.setenv("SLURM_JOB_GPUS", "0")
    assert "was given a GPU" in CliRunner().invoke(app, [*map(str, words)]).stderr
    assert CliRunner().invoke(app, [*map(str, words), "--device", "cpu"]).exit_code == 0


@pytest.mark.parametrize("command", ["annotate", "embed", "evaluate", "explain", "finetune"])
def test_mps_is_passed_on_by_every_command(here, toy, toy_run, tmp_path, command):
    """To where the device is chosen, which says that this machine has none."""
    here.setattr(torch.backends.mps, "is_available", lambda: False)
    query, out = tmp_path / "q.h5ad", tmp_path / "o.h5ad"
    toy.draw_cells(3, seed=1).write_h5ad(query)
    words = {
        "annotate": [query, "--model", toy_run.model, "--out", out],
        "embed": [query, "--model", toy_run.model, "--out", out],
        "evaluate": [toy_run.model, query, "--label-key", "cell_type"],
        "explain": [toy_run.model, query, "--out", out],
        "finetune": [query, "--label-key", "cell_type", "--out", out],
    }
    given = [command, *map(str, words[command]), "--device", "mps"]
    assert "ERROR: device is mps, but PyTorch" in CliRunner().invoke(app, given).stderr
