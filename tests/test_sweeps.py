"""Sweeps on a tiny toy-earth: real trainings, real databases, and real processes where they meet."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
from conftest import descendants
from optuna.trial import TrialState

from helpers import data_lists, launch, notebooks, paths, predict, recipe, search_spaces, sweeps, training, trials

pytestmark = pytest.mark.alone

TINY = "toy-earth-tiny"  # of the fixture `tiny`
GRID = search_spaces.PRESETS["lost_and_found"].points()


@pytest.fixture
def begun(tiny, monkeypatch):
    """A call that gives a sweep on the tiny toy-earth."""
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tiny))
    monkeypatch.delenv(sweeps.STORAGE, raising=False)
    shutil.rmtree(tiny / "04_training" / "sweeps", ignore_errors=True)

    def sweep(**given):
        usual = {"dataset": TINY, "image_size": 64, "batch_size": 32, "epochs": 2, "sweep_name": "tried"}
        return sweeps.of({**notebooks.defaults("04_training/sweep"), **usual, **given})

    return sweep


@pytest.fixture
def here(monkeypatch):
    """Workers work in this process, and trainings end at once; the places of those that were trained are listed."""
    trained = []

    def train(job, watcher):
        trained.append(int(job.folder.name))
        rate = job.settings.learning_rate
        rows = [
            {"epoch": epoch, "within_750km": min(rate * epoch, 1.0), "validation_loss": 3.0, "best": True}
            for epoch in range(1, job.settings.epochs + 1)
        ]
        curves = pd.DataFrame(rows)
        curves.to_json(job.folder / "metrics.jsonl", orient="records", lines=True)
        for number in range(len(curves)):
            watcher(curves.head(number + 1), pd.DataFrame())
        return curves

    def workers(sweep, count, most):
        try:
            sweeps.work(sweep, most)
        except sweeps._DATABASE_ERRORS as error:
            return str(error)
        return ""

    monkeypatch.setattr(launch, "train", train)
    monkeypatch.setattr(sweeps, "_workers", workers)
    return trained


@pytest.fixture
def really(here, monkeypatch):
    """As `here`, but training takes place."""

    def train(job, watcher):
        here.append(int(job.folder.name))
        training.train_alone(job)
        return pd.read_json(job.folder / "metrics.jsonl", lines=True)

    monkeypatch.setattr(launch, "train", train)
    return here


@pytest.fixture
def small(monkeypatch):
    """Name of a grid of four points."""
    grid = search_spaces.SearchSpace({"learning_rate": (0.1, 0.01), "weight_decay": (0.1, 0.01)}, grid=True)
    monkeypatch.setitem(search_spaces.PRESETS, "small", grid)
    return "small"


def told(sweep):
    """States of the trials in the database, by place."""
    study = optuna.load_study(study_name=sweep.name, storage=sweep.url)
    states = {}
    for trial in study.trials:
        # One without a place was asked for when another worker had just taken the last.
        if "place" in trial.user_attrs or trial.state != TrialState.FAIL:
            states.setdefault(trial.user_attrs["place"], []).append(trial.state)
    return states


def finished(sweep, places, value=0.25):
    """What trials of the grid have left that were finished before."""
    for place in places:
        folder = trials.folder_of(sweep.trial_folder, place)
        folder.mkdir(parents=True)
        measured = {sweep.settings.best_by: value - place / 100, "validation_loss": 2.0}
        by_epoch = {1: 0.1, 2: value - place / 100}
        trials.Trial(place, trials.COMPLETE, sweep.points[place], by_epoch, measured, epoch=2, seconds=3.0).write(
            folder
        )


def test_the_grid_is_that_of_the_paper():
    assert len(GRID) == 15
    assert {point["learning_rate"] for point in GRID} == {1e-1, 1e-2, 1e-3, 1e-4, 1e-5}
    assert {point["weight_decay"] for point in GRID} == {1e-1, 1e-2, 1e-3}


def test_the_notebook_gives_trials_what_train_gives_a_run():
    train, sweep = (notebooks.defaults(f"04_training/{name}") for name in ("train", "sweep"))
    own = {"sweep_name", "preset", "trials", "pruning", "parallel_trials", "devices_per_trial", "storage"}
    assert {name: value for name, value in sweep.items() if name not in own} == {
        name: train[name] for name in sweep if name not in own
    }
    assert sweeps.of(sweep).settings.preset == "plain"
    varied = {name for space in search_spaces.PRESETS.values() for name in space.parameters}
    assert varied <= set(vars(recipe.of(train)[0]))


def test_a_grid_is_tried_once_and_its_best_trial_is_a_model(begun, really, small, capsys):
    sweep = begun(preset=small)
    table = sweeps.run(sweep)
    assert sorted(really) == [0, 1, 2, 3]
    assert set(table["state"]) == {"complete"}
    tried = sorted(map(tuple, table[["learning_rate", "weight_decay"]].to_numpy()))
    assert tried == [(0.01, 0.01), (0.01, 0.1), (0.1, 0.01), (0.1, 0.1)]
    assert table["within_750km"].is_monotonic_decreasing
    best = trials.folder_of(sweep.trial_folder, table["trial"][0])
    assert list(sweep.trial_folder.glob("*/model.safetensors")) == [best / "model.safetensors"]
    curves = pd.read_json(best / "metrics.jsonl", lines=True)
    assert table["within_750km"][0] == curves["within_750km"].max()
    assert list(predict.load({"all": [best]})) == ["all"]
    assert capsys.readouterr().out.count("within_750km") == 4
    assert f"-p learning_rate {table['learning_rate'][0]} " in sweeps.command(sweep, table)

    assert sweeps.run(sweep).equals(table)
    assert len(really) == 4
    importances = sweeps.importances(sweep)
    assert set(importances.index) == {"learning_rate", "weight_decay"}
    assert importances.sum() == pytest.approx(1)


def test_more_trials_add_to_a_sweep_and_the_same_seed_tries_the_same(begun, here):
    first = sweeps.run(begun(trials=2))
    again = sweeps.run(begun(trials=3))
    assert here == [0, 1, 2]
    other = sweeps.run(begun(trials=3, sweep_name="other"))
    names = ["trial", *search_spaces.PRESETS["quick"].parameters]
    for table in (again, other):
        kept = table[table["trial"] < 2].sort_values("trial")[names].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, first.sort_values("trial")[names].reset_index(drop=True))
    assert other[names].sort_values("trial").equals(again[names].sort_values("trial")) or set(other["trial"]) == {
        0,
        1,
        2,
    }
    different = sweeps.run(begun(trials=1, seed=8, sweep_name="seed"))
    assert different["learning_rate"][0] != first.sort_values("trial")["learning_rate"].iloc[0]


def test_a_trial_that_fails_is_recorded_and_tried_again_when_its_folder_is_deleted(begun, here, small, monkeypatch):
    train = launch.train

    def failing(job, watcher):
        if job.settings.learning_rate == 0.1:
            raise launch.TrainingFailed("FloatingPointError: lower the learning_rate")
        return train(job, watcher)

    monkeypatch.setattr(launch, "train", failing)
    sweep = begun(preset=small)
    table = sweeps.run(sweep)
    assert table["state"].tolist() == ["complete"] * 2 + ["failed"] * 2
    failed = table[table["state"] == "failed"]
    assert failed["learning_rate"].tolist() == [0.1] * 2
    assert set(failed["reason"]) == {"FloatingPointError: lower the learning_rate"}
    sweeps.run(sweep)
    assert len(here) == 2

    monkeypatch.setattr(launch, "train", train)
    shutil.rmtree(trials.folder_of(sweep.trial_folder, failed["trial"].iloc[0]))
    assert sweeps.run(sweep)["state"].tolist() == ["complete"] * 3 + ["failed"]
    assert len(here) == 3


def test_a_sweep_of_which_all_trials_fail_says_why(begun, here, monkeypatch):
    def failing(job, watcher):
        raise launch.TrainingFailed("MissingList: nowhere")

    monkeypatch.setattr(launch, "train", failing)
    with pytest.raises(sweeps.SweepFailed, match="none of the 2 trials of tried came to its end: MissingList: nowhere"):
        sweeps.run(begun(trials=2))


def test_bad_trials_are_pruned_and_are_not_the_best(begun, here, monkeypatch):
    def train(job, watcher):
        place = int(job.folder.name)
        here.append(place)
        rows = []
        for epoch in range(1, 9):
            # The last one begins badly, and would have ended best.
            value = 0.2 + 0.01 * place if place < 6 else 0.01 + 0.9 * (epoch == 8)
            rows.append({"epoch": epoch, "within_750km": value, "validation_loss": 1.0, "best": epoch == 1})
            pd.DataFrame(rows).to_json(job.folder / "metrics.jsonl", orient="records", lines=True)
            watcher(pd.DataFrame(rows), pd.DataFrame())
        return pd.DataFrame(rows)

    monkeypatch.setattr(launch, "train", train)
    table = sweeps.run(begun(trials=7, pruning="median", epochs=8))
    assert table["trial"].tolist() == [5, 4, 3, 2, 1, 0, 6]
    assert table["state"].tolist() == ["complete"] * 6 + ["pruned"]
    assert sweeps.run(begun(trials=7, pruning="median", epochs=8)).equals(table)
    assert len(here) == 7


def test_a_database_that_vanishes_midway_costs_no_trial(begun, here, small, monkeypatch):
    sweep, train = begun(preset=small), launch.train

    def vanishing(job, watcher):
        if len(here) == 2:
            (sweep.folder / "study.db").unlink()
        return train(job, watcher)

    monkeypatch.setattr(launch, "train", vanishing)
    table = sweeps.run(sweep)
    assert sorted(here) == [0, 1, 2, 3]
    assert len(table) == 4
    assert told(sweep) == {place: [TrialState.COMPLETE] for place in range(4)}


@pytest.mark.parametrize("spoil", [b"no database at all" * 99, b"", None])
def test_a_database_that_is_damaged_or_gone_is_made_anew(begun, here, small, capsys, spoil):
    sweep = begun(preset=small)
    finished(sweep, range(3))
    before = sweeps.run(sweep)
    database = sweep.folder / "study.db"
    database.unlink()
    if spoil is not None:
        database.write_bytes(spoil)
    assert sweeps.run(sweep).equals(before)
    assert here == [3]
    assert told(sweep) == {place: [TrialState.COMPLETE] for place in range(4)}
    assert ("set aside" in capsys.readouterr().out) == bool(spoil)


def test_the_result_of_a_trial_that_is_damaged_is_found_again(begun, here, small, capsys):
    sweep = begun(preset=small)
    finished(sweep, range(4))
    (trials.folder_of(sweep.trial_folder, 3) / "trial.json").write_text('{"place": 3, "stat')
    assert len(sweeps.run(sweep)) == 4
    assert here == [3]
    assert "0003/trial.json is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("storage", ["", "sqlite:///{root}/elsewhere.db"])
def test_a_trial_of_a_worker_that_ended_is_taken_up_again_with_its_parameters(begun, here, monkeypatch, tiny, storage):
    url = storage.format(root=tiny)
    (tiny / "elsewhere.db").unlink(missing_ok=True)
    monkeypatch.setattr(sweeps, "_SECONDS_TO_LOCK", 0.0)
    monkeypatch.setattr(sweeps, "_HEARTBEAT", 1)
    monkeypatch.setattr(sweeps, "_GRACE", 2)
    monkeypatch.setattr(sweeps, "_SECONDS_BETWEEN_LOOKS", 0.2)
    sweep = begun(trials=2, storage=url)
    sweep.folder.mkdir(parents=True)
    study = sweeps._study(sweep, begin=True)
    sweeps._arrange(study, sweep)
    taken = study.ask()  # by a worker that ends before it is done
    study._storage.record_heartbeat(taken._trial_id)
    folder = trials.folder_of(sweep.trial_folder, 0)
    folder.mkdir(parents=True)
    drawn = {"learning_rate": 0.0123, "weight_decay": 0.5, "batch_size": 64}
    trials.Trial(0, trials.RUNNING, drawn).write(folder)
    table = sweeps.run(sweep).set_index("trial")
    assert sorted(here) == [0, 1]
    assert table.loc[0, list(drawn)].to_dict() == drawn
    assert told(sweep) == {0: [TrialState.FAIL, TrialState.COMPLETE], 1: [TrialState.COMPLETE]}


def test_a_trial_that_another_process_works_on_is_waited_for(begun, here):
    sweep = begun(preset="lost_and_found")
    folder = trials.folder_of(sweep.trial_folder, 0)
    assert not trials.is_locked(folder)
    folder.mkdir(parents=True)
    code = (
        "import sys, time; from pathlib import Path; from helpers import trials\n"
        "with trials.locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "locked\n"
        assert trials.is_locked(folder)
    finally:
        other.kill()
        other.wait()
    assert not trials.is_locked(folder)


def test_other_settings_under_the_same_name_are_refused_and_named(begun, here):
    sweeps.run(begun(trials=1))
    for other, difference in [
        ({"epochs": 3}, "epochs was 2, is 3"),
        ({"preset": "lost_and_found"}, "preset was 'quick', is 'lost_and_found'"),
        ({"pruning": "median"}, "pruning was 'none', is 'median'"),
        ({"best_by": "median_km"}, "best_by was 'within_750km', is 'median_km'"),
    ]:
        with pytest.raises(ValueError, match=rf"begun with other settings: .*{difference}.*another sweep_name"):
            sweeps.run(begun(trials=1, **other))
    labels = paths.cells(TINY) / "labels.parquet"
    original = labels.read_bytes()
    try:
        pd.read_parquet(labels).assign(more=1).to_parquet(labels)
        with pytest.raises(ValueError, match="begun with other settings: the labels was"):
            sweeps.run(begun(trials=1))
    finally:
        labels.write_bytes(original)
    sweeps.run(begun(trials=1, photo_cache="raw"))  # which changes nothing of what is learned
    assert here == [0]


def test_a_study_of_something_else_in_the_database_is_left_alone(begun, here, tiny):
    url = f"sqlite:///{tiny}/shared.db"
    optuna.create_study(study_name="tried", storage=url).enqueue_trial({"x": 1})
    with pytest.raises(ValueError, match="has a study 'tried' of something else: choose another sweep_name"):
        sweeps.run(begun(storage=url))
    assert len(optuna.load_study(study_name="tried", storage=url).trials) == 1


def test_a_database_that_cannot_be_reached_is_named_and_nothing_is_lost(begun, here, small, monkeypatch, tmp_path):
    monkeypatch.setattr(sweeps, "_WAITS", (0.1,))
    sweep = begun(preset=small, storage=f"sqlite:///{tmp_path}/nowhere/study.db")
    finished(sweep, [0, 1])
    with pytest.raises(
        sweeps.SweepFailed, match=r"cannot be used \(unable to open database file\).*is kept in .*trials"
    ):
        sweeps.run(sweep)
    (tmp_path / "nowhere").mkdir()
    assert len(sweeps.run(sweep)) == 4
    assert sorted(here) == [2, 3]


def test_a_password_is_refused_where_it_would_be_kept_and_never_written(begun, monkeypatch):
    for url in ("postgresql://anna:hush@127.0.0.1/x", "mysql://anna@127.0.0.1/x?password=hush"):
        with pytest.raises(ValueError, match=sweeps.STORAGE) as refused:
            begun(storage=url)
        assert "hush" not in str(refused.value)
    with pytest.raises(ValueError, match="no URL of a database") as refused:
        begun(storage="anna:hush@")
    assert "hush" not in str(refused.value)
    monkeypatch.setenv(sweeps.STORAGE, "postgresql://anna:hush@127.0.0.1:1/x")
    sweep = begun()
    assert "hush" in sweep.url
    assert "hush" not in repr(sweep)
    sweep.folder.mkdir(parents=True)
    sweeps._remember(sweep)
    assert "hush" not in (sweep.folder / "sweep.json").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "all_layers"}, "varies what matters with train_layers 'all' alone"),
        ({"trials": 0}, "trials must be above 0, not 0"),
        ({"preset": "grid"}, "no preset 'grid': choose one of quick"),
        ({"pruning": "hyperband"}, "no pruning 'hyperband'"),
        ({"devices_per_trial": 99}, "devices_per_trial is 99, but this machine has"),
        ({"sweep_name": "../up"}, "cannot name"),
    ],
)
def test_what_does_not_go_together_is_refused_before_work(begun, given, message):
    with pytest.raises(ValueError, match=message):
        begun(**given)


def test_a_list_without_validation_photos_is_refused(begun):
    rows = data_lists.read(TINY)
    with pytest.raises(ValueError, match="no validation photos"):
        sweeps.prepared(begun(), rows[rows["split"] != "validation"])


def test_a_sweep_is_run_once_at_a_time(begun):
    sweep = begun()
    with (
        sweeps._running_alone(sweep),
        pytest.raises(sweeps.SweepFailed, match=r"is being run already; .*python -m helpers.sweeps tried"),
    ):
        sweeps.run(sweep)


def test_more_workers_than_gpus_share_them():
    shares = sweeps.environments(3, 1, ["4", "7"], cores=8)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4", "7", "4"]


def joined(name, *given):
    return subprocess.Popen(
        [sys.executable, "-m", "helpers.sweeps", name, *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_on_one_file_take_each_trial_once(begun):
    sweep = begun(preset="lost_and_found")
    sweep.folder.mkdir(parents=True)
    sweeps._remember(sweep)
    finished(sweep, range(15))
    sweeps._arrange(sweeps._study(sweep, begin=True), sweep)
    workers = [joined("tried") for _ in range(2)]
    assert [(worker.communicate()[0], worker.returncode) for worker in workers] == [("", 0)] * 2
    assert told(sweep) == {place: [TrialState.COMPLETE] for place in range(15)}
    with pytest.raises(ValueError, match=r"there is no sweep 'nobody' yet .*begin it with 04_training/sweep"):
        sweeps._remembered("nobody", "")


def test_two_workers_go_on_in_a_new_database_when_theirs_vanishes(begun, capsys):
    sweep = begun(trials=3, parallel_trials=2)
    folder = trials.folder_of(sweep.trial_folder, 0)
    folder.mkdir(parents=True)
    known = {"learning_rate": 0.01, "weight_decay": 0.1, "batch_size": 64}
    trials.Trial(0, trials.COMPLETE, known, {1: 0.1}, {"within_750km": 0.1}, epoch=1).write(folder)
    sweeps._arrange(sweeps._study(sweep, begin=True), sweep)
    sweeps.work(sweep, 1)

    def vanish():
        deadline = time.monotonic() + 120
        while not (sweep.trial_folder / "0001" / "trial.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with contextlib.suppress(FileNotFoundError):
            (sweep.folder / "study.db").unlink()

    thread = threading.Thread(target=vanish)
    thread.start()
    table = sweeps.run(sweep)
    thread.join()
    said = capsys.readouterr().out
    assert "the database of the sweep is lost" in said
    assert [said.count(f"trial {place} (") for place in range(3)] == [0, 1, 1]  # each was trained once
    assert sorted(table["trial"]) == [0, 1, 2]
    assert told(sweep) == {place: [TrialState.COMPLETE] for place in range(3)}


@pytest.mark.skipif(sys.platform != "linux", reason="children end with a killed parent on Linux only")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_sweep_which_goes_on_afterwards(begun, here, end, monkeypatch):
    sweep = begun(trials=2, epochs=10_000)
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import json, sys; from helpers import sweeps\n"
        "sweeps.run(sweeps.of(json.loads(sys.argv[1])))"
    )
    usual = {"dataset": TINY, "image_size": 64, "batch_size": 32, "epochs": 10_000, "sweep_name": "tried", "trials": 2}
    given = json.dumps({**notebooks.defaults("04_training/sweep"), **usual})
    parent = subprocess.Popen([sys.executable, "-c", code, given], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        metrics = sweep.trial_folder / "0000" / "metrics.jsonl"
        while not metrics.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        started = descendants(parent.pid)
        assert len(started) >= 3  # a worker, torchrun and its own worker
        parent.send_signal(end)
        parent.wait(60)
        while any(Path(f"/proc/{pid}").exists() for pid in started) and time.monotonic() < deadline + 60:
            time.sleep(0.1)
        assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    finally:
        parent.kill()
    before = trials.Trial.read(sweep.trial_folder / "0000")
    assert before.state == trials.RUNNING

    def train(job, watcher):
        here.append(int(job.folder.name))
        curves = pd.DataFrame([{"epoch": 1, "within_750km": 0.5, "validation_loss": 1.0, "best": True}])
        curves.to_json(job.folder / "metrics.jsonl", orient="records", lines=True)
        return curves

    monkeypatch.setattr(launch, "train", train)
    table = sweeps.run(sweep).set_index("trial")
    assert sorted(here) == [0, 1]
    assert table.loc[0, list(before.parameters)].to_dict() == before.parameters
    assert os.environ["PHOTO_GEOLOCATION_ROOT"] in str(sweep.folder)
