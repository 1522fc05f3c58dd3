import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import checkpoints
from helpers.checkpoints import Checkpoint


def checkpoint(step, value=0.0):
    tensors = {
        "learned.weight": torch.full((3, 2), value),
        "learned.count": torch.tensor(5),
        "best.none": torch.empty(0),
    }
    return Checkpoint({"epochs": 5, "seed": 7}, {"step": step, "history": [{"loss": 0.1 + 0.2}]}, tensors)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    written = checkpoint(12, 1.5)
    assert checkpoints.write(written, tmp_path, kept=3)
    read = checkpoints.newest(tmp_path)
    assert (read.settings, read.progress, read.step) == (written.settings, written.progress, 12)
    assert read.tensors.keys() == written.tensors.keys()
    assert all(torch.equal(read.tensors[name], each) for name, each in written.tensors.items())


def test_the_newest_are_kept(tmp_path):
    for half in (".checkpoint-000000007.safetensors.123.partial", ".tmpab12CD"):  # of a process that was killed
        (tmp_path / half).touch()
    for step in (8, 9, 10, 11):
        checkpoints.write(checkpoint(step), tmp_path, kept=2)
    assert [file.name for file in sorted(tmp_path.iterdir())] == [
        "checkpoint-000000010.safetensors",
        "checkpoint-000000011.safetensors",
    ]
    checkpoints.delete(tmp_path)
    assert not tmp_path.exists()


def test_later_ones_are_of_a_run_that_is_replaced(tmp_path):
    for step in (5000, 6000):
        checkpoints.write(checkpoint(step), tmp_path, kept=2)
    checkpoints.write(checkpoint(100), tmp_path, kept=2)
    assert checkpoints.newest(tmp_path).step == 100
    assert len(list(tmp_path.iterdir())) == 1


def test_there_may_be_none(tmp_path):
    assert checkpoints.newest(tmp_path / "nowhere") is None


@given(st.data())
@settings(max_examples=60)
def test_one_that_was_cut_or_changed_is_passed_over(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kept")
    checkpoints.write(checkpoint(1, 1.0), folder, kept=3)
    checkpoints.write(checkpoint(2, 2.0), folder, kept=3)
    file = folder / "checkpoint-000000002.safetensors"
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        file.write_bytes(whole[:place])
    else:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    read = checkpoints.newest(folder)
    # A changed byte of the metadata may leave all numbers as they were; nothing else passes.
    assert read.step == 1 or all(
        torch.equal(read.tensors[name], each) for name, each in checkpoint(2, 2.0).tensors.items()
    )


def test_passing_over_is_said(tmp_path, capsys):
    checkpoints.write(checkpoint(1), tmp_path, kept=3)
    (tmp_path / "checkpoint-000000002.safetensors").write_bytes(b"half")
    assert checkpoints.newest(tmp_path).step == 1
    said = capsys.readouterr().out
    assert "checkpoint-000000002.safetensors is damaged" in said
    assert "falling back to the one before" in said


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path):
    code = """
import resource, signal, sys
from pathlib import Path
from test_checkpoints import checkpoint
from helpers import checkpoints
folder = Path(sys.argv[1])
print(checkpoints.write(checkpoint(1), folder, 3))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))  # no file may grow beyond: writing fails as on a full disk
print(checkpoints.write(checkpoint(2), folder, 3))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("True", "False")
    assert "training goes on" in done.stdout
    assert "the newest checkpoint stays checkpoint-000000001.safetensors" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-000000001.safetensors"]


def test_differing_parameters_are_named():
    kept = checkpoint(3)
    assert checkpoints.differences(kept, {"epochs": 5, "seed": 7}) == []
    assert checkpoints.differences(kept, {"epochs": 9, "patience": 1}) == [
        "epochs was 5, is 9",
        "patience was None, is 1",
        "seed was 7, is None",
    ]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimiser_goes_on_bit_for_bit_whatever_the_layout_of_the_weights(tmp_path, kind):
    def built():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)).to(memory_format=torch.channels_last)
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return network, kind(network.parameters(), lr=0.01, fused=True, **options)

    def learn(network, optimizer, steps):
        for step in steps:
            torch.manual_seed(step)
            photos = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            network(photos).square().sum().backward()
            optimizer.step()

    uninterrupted = built()
    learn(*uninterrupted, range(6))
    network, optimizer = built()
    learn(network, optimizer, range(3))
    tensors = {f"learned.{name}": each for name, each in network.state_dict().items()}
    tensors |= {f"optimizer.{name}": each for name, each in checkpoints.optimizer_tensors(optimizer).items()}
    checkpoints.write(Checkpoint({}, {"step": 3}, tensors), tmp_path, kept=1)

    kept = checkpoints.newest(tmp_path).tensors
    network, optimizer = built()
    network.load_state_dict({name.removeprefix("learned."): kept[name] for name in kept if name.startswith("learned.")})
    state = {name.removeprefix("optimizer."): kept[name] for name in kept if name.startswith("optimizer.")}
    checkpoints.restore_optimizer(optimizer, state)
    learn(network, optimizer, range(3, 6))
    for ours, theirs in zip(network.parameters(), uninterrupted[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
