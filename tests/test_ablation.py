import numpy as np
import pandas as pd

from benchmarks import ablation
from helpers import metrics


def guessed(row, training, distance_km, **more):
    ids = [f"{number:03d}" for number in range(len(distance_km))]
    return pd.DataFrame(
        {"row": row, "id": ids, "author": ids, "distance_km": distance_km, "training": training, **more}
    )


def test_every_row_of_the_table_is_made():
    assert {ablation.BEST, ablation.PLAIN, ablation.UNSEEING, ablation.PUBLISHED} < set(ablation.ROWS)
    assert len(set(ablation.ROWS)) == len(ablation.ROWS)


def test_rows_are_compared_on_the_same_photos_in_the_order_of_the_table():
    table = pd.concat(
        [
            guessed(ablation.BEST, 10, [0.5, 30.0, 900.0]).iloc[::-1],
            guessed(ablation.UNSEEING, 10, [5.0, 6.0, 7.0]),
            guessed("no row of the table", 10, [1.0, 1.0, 1.0]),
        ]
    )
    distance_km, author = ablation._by_row(table)
    assert list(distance_km) == [ablation.UNSEEING, ablation.BEST]
    assert distance_km[ablation.BEST].tolist() == [0.5, 30.0, 900.0]
    assert author.tolist() == ["000", "001", "002"]


def test_folds_of_about_the_same_size_are_one_point_of_the_curve():
    table = pd.concat(
        [
            guessed(ablation.BEST, 90, [0.5, 30.0], step=0.1),
            guessed(ablation.BEST, 110, [30.0, 30.0], step=0.1),
            guessed(ablation.BEST, 1000, [0.5, 0.5], step=1.0),
        ]
    )
    curve = ablation._curve(table)
    assert curve["training_photos"].tolist() == [100, 1000]
    assert curve["within_1km"].tolist() == [25.0, 100.0]


def test_the_line_through_the_curve_is_drawn_on(monkeypatch):
    monkeypatch.setattr(ablation, "AT", 800)
    sizes = [100, 200, 400]
    curve = pd.DataFrame(
        {"row": ablation.BEST, "training_photos": size, **dict.fromkeys(metrics.SHARES, 10.0 + 2 * number)}
        for number, size in enumerate(sizes)
    )
    shown = ablation._extrapolated(curve).set_index("training photos")
    assert shown.loc["each doubling", "750 km"] == "+2.0"
    assert shown.loc["800", "750 km"] == "(16.0)"
    assert shown.loc["400", "750 km"] == "14.0"


def test_rendered_scenes_of_an_author_are_in_one_split(monkeypatch, tmp_path):
    monkeypatch.setattr(ablation, "SIZES", (50,))
    monkeypatch.setattr(ablation, "HELD_OUT", 20)
    truth = ablation._rendered(tmp_path / "photos")
    assert truth.groupby("author")["split"].nunique().max() == 1
    counts = truth["split"].value_counts()
    assert counts["test"] >= 20
    assert counts["validation"] >= 20
    assert len(truth) == 110
    assert all((tmp_path / "photos" / path).stat().st_size for path in truth["path"])
    before = {path: (tmp_path / "photos" / path).stat().st_mtime_ns for path in truth["path"]}
    again = ablation._rendered(tmp_path / "photos")
    pd.testing.assert_frame_equal(truth, again)
    assert before == {path: (tmp_path / "photos" / path).stat().st_mtime_ns for path in again["path"]}
    assert np.isfinite(truth[["latitude", "longitude"]].to_numpy()).all()
