"""What a network takes is measured, or estimated from what is known, and nothing is made up."""

import finished_run
import pytest
import torch

from helpers import footprint, models, predict


@pytest.mark.parametrize(
    ("device", "processes", "watts"),
    [
        ("NVIDIA H100 80GB HBM3", 1, 700),
        ("NVIDIA H100 PCIe", 2, 700),
        ("NVIDIA A100-SXM4-80GB", 8, 3200),
        ("Tesla T4", 1, 70),
        ("NVIDIA L4", 4, 288),
        ("GeForce RTX 3090", 1, 350),
        ("cpu, 2 threads", 3, 90),
    ],
)
def test_power_is_that_of_all_boards_or_cores(device, processes, watts):
    assert footprint.power(device, processes).watts == watts


@pytest.mark.parametrize(
    "device",
    [
        "NVIDIA A10G",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA L40S",
        "mps, 8 threads",
    ],
)
def test_a_device_of_nearly_the_same_name_is_not_taken_for_another(device):
    power = footprint.power(device, 1)
    assert power.watts is None
    assert device in power.basis


def test_parameters_are_those_of_the_network(tmp_path):
    network = models.Geolocator("resnet18", {"coarse": 5}, weights="none")
    models.save(network, tmp_path / "model.safetensors", {"coarse": "of these classes"})
    size = footprint.size(tmp_path / "model.safetensors")
    assert size.parameters == sum(each.numel() for each in network.parameters())
    assert size.file_bytes == (tmp_path / "model.safetensors").stat().st_size


def test_speed_is_measured_for_each_network_with_its_device_and_number_format(root):
    folders = {"all": [finished_run.made("first"), finished_run.made("second")]}
    speeds = footprint.prediction_speeds(folders, predict.load(folders))
    assert list(speeds) == ["first", "second"]
    assert all(speed.photos_per_second > 0 for speed in speeds.values())
    assert f"{torch.get_num_threads()} threads" in str(speeds["first"]) or "cpu" not in str(speeds["first"])
    assert "float" in str(speeds["first"])


def test_a_slow_start_does_not_count(monkeypatch, root):
    run = predict.load({"all": [finished_run.made()]})["all"]
    times = iter([0.0, 9.0, 10.0, 10.5, 11.0, 11.5, 12.0, 20.0])  # 9 s to warm up, then 0.5, 0.5 and 8 s
    monkeypatch.setattr(footprint.time, "perf_counter", lambda: next(times))
    assert footprint.prediction_speed(run.networks[0], photos=2, repeats=3).photos_per_second == 4
