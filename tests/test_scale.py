import json
import shutil
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import scale, scale_costs, scale_lists, scale_page
from helpers import cells, data_lists, notebooks, paths

ROWS = 3_000
PAPER_STAGE = f"train {scale.PAPER_RECIPE}"


def parameters(**given):
    """Those of the notebook."""
    return SimpleNamespace(**{**notebooks.defaults("benchmarks/scale"), **given})


def costs(**given):
    """Plain numbers in place of measured ones."""
    known = {"original": 1e5, "tar header and index": 2e3, "raw square of 256 px": 2e5, "scenes, operations": 2e9}
    known |= {"request a photo": 5e-4, "pack": 1e-4, "view for training": 1e-3, "scenes": 0.1}
    known |= {"centre view": 1e-3, "five crops": 2e-3, "JPEG of 320 px": 5e4, "JPEG of 256 px": 3e4}
    known |= {"shrink to 320 px": 2e-3, "shrink to 256 px": 2e-3, "efficientnet_lite0: features of a photo": 5120.0}
    for name in ("efficientnet_lite0", "resnet50"):
        known |= {f"{name}: features": 0.05, f"{name}: features, operations": 8e9}
    for recipe in scale_costs.RECIPES:
        known |= {f"{recipe}: step": 0.15, f"{recipe}: step, operations": 24e9, f"{recipe}: gradients": 3e8}
    known |= {name.replace("_", " "): value for name, value in given.items()}
    table = pd.DataFrame({"value": pd.Series(known, dtype=float), "unit": "core seconds", "how": "made up"})
    return table.rename_axis("cost")


def simulations():
    """Lists of three lengths that take 500 bytes a row in memory, 30 part by part, and 10 µs."""
    found = []
    for rows in (1_000_000, 10_000_000, 100_000_000):
        for step in scale_lists.STEPS:
            whole = step == scale_lists.IN_MEMORY
            if whole and rows > scale.MOST_ROWS_IN_MEMORY:
                continue
            peak = 2e8 + rows * (500 if whole else 30)
            found.append({"rows": rows, "step": step, "peak_bytes": peak, "core_seconds": rows * 2.5e-6})
    about = {"seconds": 1.0, "bytes": 10.0, "date": "2026-01-01", "machine": "a machine", "code": "abc"}
    return pd.DataFrame(found).assign(**about)


def machine(**given):
    one = {"computers": 1, "cores": 10, "gpus": 1, "gpu_tflops": 100.0, "memory_gb": 100.0, "price_per_hour": 3.0}
    speeds = {"download_mb_per_second": 100.0, "disk_mb_per_second": 1000.0}
    return scale.Machine(**{"name": "one", **one, **speeds, **given})


# The model


def test_times_of_known_costs_are_known():
    p = parameters(epochs=10, utilisation_low=0.3, utilisation_high=0.3, batch_size_per_gpu=100)
    p.within_computer_gb_per_second = 100.0
    needed = scale.seconds(PAPER_STAGE, 1000, machine(gpus=2), costs()["value"], p, luck=1)
    assert needed == pytest.approx(
        {
            "disk": 1000 * 10 * 52e3 / 1e9,
            "cores": 1000 * 10 * 1e-3 / 10,
            "GPU": 1000 * 10 * 24e9 / (2 * 100e12 * 0.3),
            "all-reduce": 1000 * 10 / (2 * 100) * 3e8 * (2 * 1 / 2) / 100e9,  # steps, and a ring of two
        }
    )
    downloaded = scale.seconds("download and shrink", 1000, machine(computers=2), costs()["value"], p, luck=1)
    assert downloaded == pytest.approx(
        {"download": 1000 * 1e5 / 2e8, "cores": 1000 * 2.6e-3 / 20, "disk": 1000 * 52e3 / 2e9}
    )
    evaluated = scale.seconds("evaluate", 1000, machine(), costs()["value"], parameters(test_share=0.1), luck=1)
    assert evaluated["GPU"] == pytest.approx(100 * 5 * 8e9 / (100e12 * 0.45))


def test_features_of_a_frozen_backbone_are_computed_once():
    p, heads = parameters(epochs=10), "train efficientnet_lite0, heads"
    once = scale.seconds(heads, 100, machine(gpus=0), costs()["value"], p, luck=1)["cores"]
    assert once == pytest.approx(100 * (1e-3 + 0.05 + 10 * 0.15) / 10)
    assert scale.seconds(heads, 100, machine(), costs()["value"], p, 1)["cores"] == pytest.approx(100 * 1e-3 / 10)


def test_one_gpu_reduces_nothing_and_between_computers_it_takes_longer():
    p = parameters()
    one, eight, many = (
        scale.seconds(PAPER_STAGE, 1000, machine(computers=computers, gpus=gpus), costs()["value"], p, 1)["all-reduce"]
        for computers, gpus in ((1, 1), (1, 8), (8, 1))
    )
    assert one == 0
    assert many / eight == pytest.approx(p.within_computer_gb_per_second / p.between_computers_gb_per_second)


@pytest.mark.parametrize(
    ("limit", "of_machine", "of_photo"),
    [
        ("GPU", {}, {}),
        ("cores", {"gpu_tflops": 10_000.0}, {}),
        ("cores", {"cores": 1}, {}),
        ("disk", {"disk_mb_per_second": 1.0}, {}),
        ("all-reduce", {"gpus": 8}, {f"{scale.PAPER_RECIPE}: gradients": 1e12}),
    ],
)
def test_the_bottleneck_moves_to_what_is_slow(limit, of_machine, of_photo):
    needed = scale.seconds(PAPER_STAGE, 1000, machine(**of_machine), costs(**of_photo)["value"], parameters(), 0)
    assert max(needed, key=needed.__getitem__) == limit


@given(
    st.sampled_from(scale.STAGES),
    st.sampled_from(["computers", "cores", "gpu_tflops", "download_mb_per_second", "disk_mb_per_second"]),
    st.integers(2, 9),
    st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_more_of_anything_is_never_slower_and_more_photos_take_as_much_longer(stage, what, times, luck):
    p, cost = parameters(between_computers_gb_per_second=200.0), {**costs()["value"], "list row": 1e-5}
    one = scale.seconds(stage, 1000, machine(gpus=2), cost, p, luck)
    more = scale.seconds(stage, 1000, machine(gpus=2, **{what: getattr(machine(), what) * times}), cost, p, luck)
    # More computers also make fewer steps of an epoch, so that less is reduced in all.
    assert all(more[name] <= one[name] * (1 + 1e-9) for name in one)
    assert scale.seconds(stage, 1000 * times, machine(gpus=2), cost, p, luck) == pytest.approx(
        {name: times * value for name, value in one.items()}
    )
    worst = scale.seconds(stage, 1000, machine(gpus=2), cost, p, 0)
    assert all(one[name] <= worst[name] * (1 + 1e-9) for name in one)


def test_every_stage_is_estimated_on_every_machine_with_price_and_memory():
    p = parameters(utilisation_low=0.1, utilisation_high=0.4)
    found = scale.estimates(costs(), simulations(), p)
    assert len(found) == len(scale.PHOTOS) * 5 * len(scale.STAGES)
    assert (found["hours_low"] <= found["hours_high"]).all()
    assert set(found["limit_low"]) | set(found["limit_high"]) <= set(scale.LIMITS)
    rows = found.set_index(["photos", "machine", "stage"])
    eight = rows.loc[100_000_000, f"8 x {p.gpu}", PAPER_STAGE]
    assert eight["price_high"] == pytest.approx(eight["hours_high"] * 8 * p.price_per_gpu_hour)
    alone = rows.loc[100_000_000, f"64 x {p.gpu}", "a given list: cells, labels"]
    assert alone["hours_low"] == pytest.approx(100_000_000 * 1e-5 / 3600)
    assert alone["price_low"] == pytest.approx(alone["hours_low"] * 8 * p.price_per_gpu_hour)  # one computer of eight
    assert alone["fits"]
    assert not rows.loc[100_000_000, "Colab T4", PAPER_STAGE]["fits"]
    assert rows.loc[4_700_000, "Colab T4", PAPER_STAGE]["fits"]


def test_every_process_of_a_computer_holds_the_list():
    found = [
        scale.estimates(costs(), simulations(), parameters(memory_gb_per_gpu=memory)).set_index(
            ["photos", "machine", "stage"]
        )["fits"]
        for memory in (50.0, 51.0)  # 0.2 GB and 500 bytes a row
    ]
    for name in ("1 x A100", "8 x A100", "64 x A100"):
        assert [fits.loc[100_000_000, name, PAPER_STAGE] for fits in found] == [False, True]
    assert found[0].loc[100_000_000, "8 x A100", "scenes"]  # one process alone


def test_the_line_of_lists_in_memory_is_the_one_that_was_measured():
    assert scale.bytes_in_memory(simulations()) == pytest.approx((2e8, 500))
    assert scale.list_row_seconds(simulations()) == pytest.approx(1e-5)
    with pytest.raises(ValueError, match="lists of two lengths"):
        scale.bytes_in_memory(simulations()[lambda table: table["rows"] != 10_000_000])


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.0001, 0.0002, "under 1 s"),
        (0.01, 0.01, "36 s"),
        (1.5, 2.75, "90 to 165 min"),
        (30, 30.2, "30 h"),
        (5000, 9000, "208 to 375 days"),
        (87_660, 87_660, "10 years"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_suits_it(low, high, words):
    assert scale.duration(low, high) == words
    with pytest.raises(ValueError, match="a speed of 0"):
        scale.duration(1, float("inf"))


# Costs


def test_the_cost_of_a_request_is_that_of_the_table(tmp_path, monkeypatch):
    table = tmp_path / "README.md"
    monkeypatch.setattr(scale_costs, "TABLE", table)
    row = "| download, as they come, all cores | 12000 photos, 59 KiB each | 4,000 | 9,780 | photos/s | 0.41 | |\n"
    table.write_text(f"Measured on 2026-11-20, 2 cores (a processor), Python 3.\n\n{row}")
    seconds, _, how = scale_costs._downloading()["request a photo"]
    assert seconds == 2 / 4000
    assert "2026-11-20" in how
    table.write_text("nothing of the kind")
    with pytest.raises(ValueError, match="make bench"):
        scale_costs._downloading()


def test_the_committed_table_of_benchmarks_has_that_cost():
    assert 0 < scale_costs._downloading()["request a photo"][0] < 1


def test_operations_are_counted_as_two_for_a_multiply_add():
    layer = torch.nn.Linear(30, 7)
    assert scale_costs._operations(lambda: layer(torch.zeros(5, 30))) == 2 * 5 * 30 * 7


# Lists


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(scale_lists, "_ROWS_PER_PART", 1_000)
    monkeypatch.setattr(data_lists, "_BYTES_PER_PART", 50_000)


def test_a_made_up_list_is_one_and_always_the_same(small_parts):
    rows = pd.concat(scale_lists.made_up(ROWS, seed=7), ignore_index=True)
    again = pd.concat(scale_lists.made_up(ROWS, seed=7), ignore_index=True)
    pd.testing.assert_frame_equal(rows, again)
    assert rows["id"].is_monotonic_increasing
    assert not rows[["id", "path", "sha256"]].apply(lambda column: column.duplicated().any()).any()
    assert data_lists.build(rows, seed=0, validation_share=0, test_share=0)["id"].tolist() == rows["id"].tolist()
    assert (rows.groupby("author")["split"].nunique() == 1).all()
    assert not pd.concat(scale_lists.made_up(ROWS, seed=8))["sha256"].isin(rows["sha256"]).any()


def test_one_in_fifty_authors_is_not_for_training():
    splits = scale_lists._splits(np.arange(100_000), seed=7)
    assert np.bincount(splits) / 100_000 == pytest.approx([0.98, 0.01, 0.01], abs=0.002)


def test_thresholds_grow_with_the_photos_and_are_the_papers_for_its_own():
    assert scale_lists.thresholds(scale_lists.PAPER_PHOTOS) == (50, cells.PAPER_MAX_PHOTOS)
    assert scale_lists.thresholds(10 * scale_lists.PAPER_PHOTOS)[1]["fine"] == 10_000
    assert scale_lists.thresholds(1) == (1, {"coarse": 2, "middle": 2, "fine": 2})


def test_part_by_part_gives_what_memory_gives_and_a_difference_is_noticed(tmp_path, small_parts):
    for step in scale_lists.STEPS.values():
        step(tmp_path, ROWS, 7)
    assert len(list(data_lists.parts(tmp_path / "made-up.csv"))) > 5
    scale_lists._compare(tmp_path)
    labels = pd.read_parquet(tmp_path / "labels.parquet")
    assert len(labels) == ROWS
    labels.loc[17, "fine"] = pd.NA if pd.notna(labels.loc[17, "fine"]) else 0
    labels.to_parquet(tmp_path / "labels.parquet", index=False)
    with pytest.raises(RuntimeError, match="other labels were found than in memory"):
        scale_lists._compare(tmp_path)
    (tmp_path / "fine.csv").write_text("another")
    with pytest.raises(RuntimeError, match=r"fine\.csv is another one than in memory"):
        scale_lists._compare(tmp_path)


def test_a_simulation_measures_every_step_and_leaves_nothing(tmp_path):
    measured = scale.simulate(ROWS, 7, str(tmp_path))
    assert list(measured["steps"]) == list(scale_lists.STEPS)
    assert measured["rows"] == ROWS
    assert set(measured["cells"]) == set(cells.PARTITIONS)
    for step in measured["steps"].values():
        assert step["peak_bytes"] > 20e6
        assert 0 < step["core_seconds"] < 60
    assert list(tmp_path.iterdir()) == []
    assert json.loads(json.dumps(measured)) == measured


def test_a_step_that_fails_is_named(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="the step 'label every photo' of 5 made-up rows failed, see above"):
        scale_lists._in_child("label every photo", tmp_path, 5, 7)
    assert "partition 'coarse' is not at" in capfd.readouterr().err


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=19e9))
    with pytest.raises(ValueError, match=r"100,000,000 rows needs 20\.0 GB .* 19\.0 GB are free: give another folder"):
        scale.simulate(100_000_000, 7, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_is_simulated_now_replaces_one_of_its_length(tmp_path, monkeypatch):
    step = {"seconds": 1.0, "core_seconds": 1.0, "peak_bytes": 5, "bytes": 0}
    about = {"date": "2026-01-01", "machine": "a machine", "code": "abc"}
    kept = [{"rows": rows, "steps": {"write the list": step}, **about} for rows in (10, 1)]
    (tmp_path / "scale.json").write_text(json.dumps(kept))
    monkeypatch.setattr(scale, "SIMULATIONS", tmp_path / "scale.json")
    assert scale.read_simulations()["rows"].tolist() == [1, 10]
    now = scale.read_simulations({"rows": 1, "steps": {"write the list": {**step, "peak_bytes": 7}}, **about})
    assert now[["rows", "peak_bytes"]].to_numpy().tolist() == [[1, 7], [10, 5]]


def test_a_hundred_million_rows_stayed_below_six_gib():
    found = scale.read_simulations()
    longest = found[found["rows"] == 100_000_000]
    assert set(longest["step"]) == set(scale_lists.STEPS) - {scale_lists.IN_MEMORY}
    assert longest["peak_bytes"].max() < 6 * 2**30


# The page


def test_the_page_has_every_table_and_says_what_is_assumed(tmp_path):
    p, found = parameters(gpu="H200"), simulations()
    written = scale_page.write_page(tmp_path / "new", costs(), found, scale.estimates(costs(), found, p), p)
    assert sorted(file.name for file in written.parent.iterdir()) == sorted(scale_page.FILES)
    text = written.read_text(encoding="utf-8")
    assert "No GPU was at hand" in text
    for name in (*scale.PHOTOS, *scale.STAGES, *vars(p), *costs().index, "8 x H200", "Colab T4", *scale_lists.STEPS):
        assert f"| {name} |" in text or f"### {name} photos" in text or f" {name} " in text
    assert "500 bytes a row" in text
    assert text.count("| 8 x H200 (assumed) |") == len(scale.PHOTOS) + 2
    assert "| gpu | H200 | name of the GPU that is rented |" in text
    assert max(map(len, text.splitlines())) < 400
    assert all(text.count(f"]({name})") == 1 for name in scale_page.FILES[1:])
    rows = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert min(rows) > 2


def test_figures_show_a_line_for_each_machine_and_a_mark_for_each_step():
    p = parameters()
    hours, rates = scale_page.hours_figure(costs(), simulations(), p).axes
    names = {machine.name for machine in scale.machines(p)}
    assert names <= {text.get_text() for text in hours.texts}
    assert {line.get_gid() for line in hours.lines} - {None} <= set(scale.LIMITS)
    assert {text.get_text() for text in rates.get_legend().get_texts()} == {"disk", "cores", "GPU", "all-reduce"}
    (memory,) = scale_page.memory_figure(simulations()).axes
    assert len([line for line in memory.lines if line.get_marker() != "None"]) == len(scale_lists.STEPS)


def test_the_notebook_is_committed_without_outputs_and_checks_its_parameters():
    notebook = nbformat.read(paths.notebook("benchmarks/scale"), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert 'notebooks.parameters("benchmarks/scale", globals()' in code[1].source
    assert notebook.cells[0].source.startswith("# ")
    assert notebook.cells[-1].source.startswith("## Next")
    assert [machine.computers * machine.gpus for machine in scale.machines(parameters())] == [0, 1, 1, 8, 64]
