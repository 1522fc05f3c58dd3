import time

import pytest

from helpers import progress


@pytest.fixture(autouse=True)
def headless(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)


def test_items_pass_through_in_order():
    assert list(progress.track(range(5), "counting")) == [0, 1, 2, 3, 4]


def test_a_short_task_says_nothing(capsys):
    list(progress.track(range(5), "counting"))
    assert capsys.readouterr() == ("", "")


def test_a_long_task_speaks_in_plain_lines_and_closes_with_the_total(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.05)
    for _ in progress.track(range(4), "rendering"):
        time.sleep(0.04)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("rendering: 2/4 photos (50 %)")
    assert lines[-1].startswith("rendering: 4/4 photos (100 %)")
    assert len(lines) == len(set(lines)) == 2


def test_a_task_of_unknown_length_counts_on(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    list(progress.track(iter("abc"), "reading", unit="rows"))
    assert capsys.readouterr().out.splitlines()[-1].startswith("reading: 3 rows, ")


def test_in_jupyterlab_a_bar_moves_instead(capsys, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "train.ipynb")
    assert list(progress.track(range(3), "rendering")) == [0, 1, 2]
    progress.show("epoch 1: 1/2 batches (50 %), 3/s, 1 s left")
    progress.show("epoch 1: 2/2 batches (100 %), 3/s, 1 s")
    progress.show("epoch 1/2: loss 3.2")
    shown = capsys.readouterr()
    assert "rendering" in shown.err
    assert "2/2" in shown.err
    assert shown.out == "epoch 1/2: loss 3.2\n"


def test_headless_a_childs_lines_are_printed_as_they_are(capsys):
    progress.show("epoch 1: 1/2 batches (50 %), 3/s, 1 s left")
    assert capsys.readouterr().out == "epoch 1: 1/2 batches (50 %), 3/s, 1 s left\n"
