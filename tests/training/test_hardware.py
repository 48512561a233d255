import subprocess
from types import SimpleNamespace

import pytest
import torch

from scbert.files import read_json
from scbert.training import hardware as module
from scbert.training.hardware import gpu_memory, hardware, peak_of, peak_of_run

CPU = torch.device("cpu")
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 UTC 2023\n"
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\n"
    "GCC version:  gcc version 12.2.0\n"
)


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    """A machine with two H100, whose driver says nothing yet."""
    found = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=85_000_000_000)
    found.major, found.minor = 9, 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: found)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(module, "DRIVER", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_hardware_names_every_gpu_and_the_software_under_it(two_gpus):
    found = hardware(torch.device("cuda", 0))
    gpu = {"name": "NVIDIA H100 80GB HBM3", "memory_gb": 85.0, "compute_capability": "9.0"}
    assert found["gpus"] == [gpu, gpu]
    assert (found["device"], found["cuda"], found["cudnn"]) == ("cuda", "13.0", 91002)
    assert found["driver"] is None


def test_a_gpu_that_is_not_used_is_told_apart(two_gpus):
    found = hardware(CPU)
    assert found["device"] == "cpu"
    assert len(found["gpus"]) == 2


@pytest.mark.parametrize(
    ("text", "version"), [(CLOSED, "535.104.05"), (OPEN, "550.54.15"), ("nothing known", None)]
)
def test_the_driver_is_what_the_kernel_says(two_gpus, text, version):
    (two_gpus / "version").write_text(text)
    assert hardware(CPU)["driver"] == version


@pytest.mark.parametrize(
    ("script", "version"), [("echo 550.54.15; echo 550.54.15", "550.54.15"), ("exit 9", None)]
)
def test_without_the_kernels_file_the_drivers_program_is_asked(two_gpus, script, version):
    program = two_gpus / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert hardware(CPU)["driver"] == version


def test_a_program_that_hangs_is_not_waited_for(two_gpus, monkeypatch):
    def hang(command, **given):
        raise subprocess.TimeoutExpired(command, given["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    assert hardware(CPU)["driver"] is None


def test_without_cuda_only_the_processor_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "PROCESSORS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t: a\n")
    found = hardware(CPU)
    assert found == {
        "device": "cpu",
        "processes": 1,
        "processor": "AMD EPYC 9654",
        "threads": torch.get_num_threads(),
    }
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd40\n")  # ARM has no name
    assert hardware(CPU)["processor"]
    (tmp_path / "cpuinfo").unlink()
    assert hardware(CPU)["processor"]


def test_bundles_say_what_they_were_trained_on(toy_run):
    for bundle in (toy_run.pretrained, toy_run.model):
        provenance = read_json(bundle / "config.json")["provenance"]
        assert provenance["packages"]["torch"]
        assert provenance["hardware"]["threads"] == torch.get_num_threads()


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("Tesla V100-SXM2-32GB", 125e12),
        ("Tesla V100-PCIE-16GB", 112e12),
        ("Tesla T4", 65e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA A10G", None),  # half of an A10, and none of its data sheet
        ("Quadro RTX 4000", None),
    ],
)
def test_peaks_are_those_of_the_card_that_is_named(name, peak):
    assert peak_of(name, "bf16") == peak


def test_the_peak_of_float32_depends_on_whether_tensor_cores_may_be_used():
    try:
        assert peak_of("NVIDIA H100 80GB HBM3", "no") == 67e12
        torch.set_float32_matmul_precision("high")
        assert peak_of("NVIDIA H100 80GB HBM3", "no") == 494e12
        assert peak_of("Tesla T4", "no") == 8.1e12  # has no TensorFloat-32
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_peak_of_a_run_is_that_of_all_its_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    gpu = torch.device("cuda", 0)
    assert peak_of_run(gpu, "bf16") == 312e12
    assert peak_of_run(CPU, "bf16") is None
    monkeypatch.setattr(module, "sum_over_processes", lambda numbers: numbers + 989e12)
    assert peak_of_run(gpu, "bf16") == 1301e12
    assert peak_of_run(CPU, "bf16") is None  # one process has no GPU: no share of a peak


def test_gpu_memory_is_the_highest_so_far(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 12_345_678_901)
    assert gpu_memory(torch.device("cuda", 0)) == {"peak_memory_gb": 12.346}
    assert gpu_memory(CPU) == {}
