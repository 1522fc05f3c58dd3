import os
import re
import threading
import time

import pandas as pd
import pytest

from helpers import cluster, packing, photos, progress, shards, toy_earth

pytestmark = pytest.mark.alone


def squared(number):
    for _ in range(number):
        cluster.done()
    return number, number**2, os.getpid()


def failing_at_three(number):
    if number == 3:
        raise ValueError("three is no good")
    return number


def dying_once(task):
    number, flag = task
    if number == 2 and not flag.exists():
        flag.touch()
        os._exit(9)
    return number


def always_dying(number):
    os._exit(9)


def test_a_single_task_stays_in_this_process():
    ((number, result),) = cluster.mapped(squared, [5], "squaring", 5)
    assert (number, result) == (0, (5, 25, os.getpid()))


def test_no_tasks_are_no_work():
    assert list(cluster.mapped(squared, [], "squaring", 0)) == []


def test_tasks_run_in_other_processes_and_their_progress_is_told(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    results = dict(cluster.mapped(squared, range(1, 21), "squaring", 210, unit="steps"))
    assert {number: result[:2] for number, result in results.items()} == {n - 1: (n, n**2) for n in range(1, 21)}
    assert os.getpid() not in {result[2] for result in results.values()}
    told = re.findall(r"squaring: (\d+)/210 steps", capsys.readouterr().out)
    assert told == sorted(told, key=int)
    assert 0 < int(told[-1]) <= 210


def test_this_process_stays_as_it_was(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    before = dict(os.environ)
    list(cluster.mapped(squared, [1, 2], "squaring", 3))
    assert dict(os.environ) == before


def test_an_error_of_a_task_is_raised_here():
    with pytest.raises(ValueError, match="three is no good"):
        list(cluster.mapped(failing_at_three, range(8), "failing", 8))


def test_a_task_whose_worker_dies_is_run_again(tmp_path):
    flag = tmp_path / "died"
    results = dict(cluster.mapped(dying_once, [(number, flag) for number in range(6)], "dying", 6))
    assert results == {number: number for number in range(6)}
    assert flag.exists()


def test_a_task_that_kills_every_worker_is_an_error():
    with pytest.raises(RuntimeError, match=r"workers died .* times over task \d of 2"):
        list(cluster.mapped(always_dying, range(2), "dying", 2))


def test_outside_a_task_nothing_is_told(capsys):
    cluster.done(100)
    assert capsys.readouterr().out == ""


def test_an_absent_scheduler_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "_SECONDS_FOR_WORKERS", 1)
    monkeypatch.setenv(cluster.SCHEDULER, "tcp://127.0.0.1:9")
    with pytest.raises(RuntimeError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9, which DASK_SCHEDULER_ADDRESS"):
        list(cluster.mapped(squared, [1], "squaring", 1))


def test_a_scheduler_without_workers_is_named(scheduler, monkeypatch):
    monkeypatch.setattr(cluster, "_SECONDS_FOR_WORKERS", 1)
    with pytest.raises(RuntimeError, match=r"has no workers: start some with `dask worker tcp://127"):
        list(cluster.mapped(squared, [1], "squaring", 1))


def test_the_environment_names_a_scheduler(scheduler):
    workers = [scheduler(), scheduler()]
    results = dict(cluster.mapped(squared, range(12), "squaring", 66))
    assert {number: result[1] for number, result in results.items()} == {number: number**2 for number in range(12)}
    assert {result[2] for result in results.values()} <= {worker.pid for worker in workers}
    assert cluster.cores() in (1, 2)


def test_packing_loses_nothing_when_a_worker_is_killed_midway(scheduler, tmp_path):
    photo_root, folder = tmp_path / "photos", tmp_path / "shards"
    photo_root.mkdir()
    scenes = [toy_earth.render_jpeg(f"scene-{number}", 48.9, 2.3) for number in range(8)]
    rows = pd.DataFrame({"id": [f"photo-{number:04d}" for number in range(2000)]})
    rows = rows.assign(path=rows["id"] + ".jpg", latitude=48.9, longitude=2.3, author="")
    for number, path in enumerate(rows["path"]):
        (photo_root / path).write_bytes(scenes[number % len(scenes)])
    doomed, _ = scheduler(), scheduler()

    def kill_midway():
        while len(list(folder.glob("shard-*.parquet"))) < 10:
            time.sleep(0.002)
        doomed.kill()

    killer = threading.Thread(target=kill_midway)
    killer.start()
    packed = packing.pack(rows, photo_root, folder, short_side=64, photos_per_shard=20)
    killer.join()
    assert doomed.wait() == -9
    assert (packed.photos, packed.left_out) == (2000, {})
    store = shards.Shards(folder)
    store.check()
    assert store.names() == rows["path"].tolist()
    expected = [photos.prepare(scene, "scene", 64).data for scene in scenes]
    assert all(store.read(path) == expected[number % len(scenes)] for number, path in enumerate(rows["path"]))
    assert not list(folder.glob("*.partial"))


def test_each_keeps_the_order_of_its_items(monkeypatch):
    assert cluster.each(squared, [3, 1, 2], "squaring")[1][:2] == (1, 1)
    monkeypatch.setattr(cluster, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(cluster, "_ITEMS_PER_TASK", 3)
    results = cluster.each(squared, range(10), "squaring")
    assert [result[:2] for result in results] == [(number, number**2) for number in range(10)]
    assert os.getpid() not in {result[2] for result in results}
    assert cluster.each(squared, [], "squaring") == []
