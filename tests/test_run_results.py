"""Results of several folders come together as they are, and what is not there is not made up."""

import finished_run
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import data_lists, metrics, paths, run_results
from helpers.run_results import Table


@pytest.fixture
def results(root):
    return finished_run.evaluated()


def test_figures_are_those_of_the_predictions(results):
    predictions = finished_run.predicted()
    share = (predictions["distance_km"] <= 750).mean()
    assert share == 0.25
    assert results.best["model"] == "f*"
    assert results.best["within_750km"] == share
    assert results.baselines == [metrics.RANDOM_TRAINING_PHOTO, metrics.NEAREST_NEIGHBOUR]
    told = run_results.summary(results)
    assert list(told) == ["accuracy", "baselines", "radii", "surest", "continents", "training"]
    assert (
        "Of 240 test photos of holidays by 24 authors, it places 0.0 % (0.0 to 0.0 %) within 25 km" in told["accuracy"]
    )
    assert "25.0 %" in told["accuracy"]
    assert f"more than {predictions['distance_km'].median():,.0f} km off" in told["accuracy"]
    assert f"{metrics.RANDOM_TRAINING_PHOTO}, puts 10.0 %" in told["baselines"]
    assert told["surest"] == "Of the quarter of the guesses that it is surest of, 100.0 % are within 750 km."
    assert told["training"].startswith("3 of the test photos are by authors of training photos, and none were taken")


def test_tables_have_what_the_files_have(results):
    accuracy = run_results.accuracy(results)
    assert [row[0] for row in accuracy.rows] == ["f*", metrics.RANDOM_TRAINING_PHOTO, metrics.NEAREST_NEIGHBOUR]
    assert accuracy.rows[0][1:4] == ("240", "0.0 [0.0, 0.0]", "0.0 [0.0, 0.0]")
    assert all(len(row) == len(accuracy.headings) for row in accuracy.rows)
    continents = run_results.by_factor(results, "continent")
    assert [row[:2] for row in continents.rows] == [("Europe", "160"), ("Asia", "80")]
    assert [row[0] for row in run_results.coverage(results).rows] == ["50 %", "90 %"]
    assert [row[0] for row in run_results.abstention(results).rows][-1] == "the surest 100 %"
    fitted = run_results.calibrations(results)
    assert fitted.rows == [("all", "f*", "mean", "150", "2.50", "12.5", "5.00", "4.00", "30.0", "2.0")]
    assert run_results.confused(results).rows[0] == (*finished_run.HOSTILE[:2], "9", "25.0")
    assert run_results.leakage(results).rows[0][:2] == ("all test photos", "240")
    assert len(run_results.similarity(results).rows) == 4


def test_a_country_that_is_called_na_is_not_missing(results):
    assert "NA" in [row[0] for row in run_results.by_factor(results, "country").rows]
    assert run_results.confused(results).rows[1][0] == "NA"


def test_groups_beyond_those_shown_are_counted(results):
    table = run_results.by_factor(results, "country", shown=1)
    rest = 240 - int(table.rows[0][1].replace(",", ""))
    assert len(table.rows) == 1
    assert f"Not shown: 3 more, with {rest} photos" in table.caption


def test_no_sentence_compares_continents_that_have_no_interval(results):
    few = results.tables["breakdown"]
    few.loc[few["group"] == "Asia", few.columns.str.endswith(("_low", "_high"))] = np.nan
    assert "continents" not in run_results.summary(results)
    assert "†" in run_results.by_factor(results, "continent").rows[1][1]


def test_a_run_that_was_not_evaluated_has_nothing_to_say(root):
    results = run_results.read("first", "holidays")
    assert results.best is None
    assert run_results.summary(results) == {}
    assert results.sources == {}
    tables = [run_results.accuracy, run_results.coverage, run_results.errors, run_results.abstention]
    tables += [run_results.leakage, run_results.similarity, run_results.calibrations, run_results.confused]
    assert [table(results).rows for table in tables] == [[]] * len(tables)
    assert results.command("breakdown") == (
        "papermill 05_evaluation/breakdown.ipynb out.ipynb -p run first -p dataset holidays"
    )


def test_a_folder_without_a_manifest_is_not_read(results):
    (paths.breakdown("first", "holidays") / "manifest.json").unlink()
    assert "breakdown" not in run_results.read("first", "holidays").tables


def test_a_run_on_coordinates_without_confidence_is_read(root):
    results = finished_run.evaluated(confident=False)
    assert results.best["model"] == "coordinates"
    assert run_results.errors(results).rows == run_results.calibrations(results).rows == []
    assert "surest" not in run_results.summary(results)
    assert run_results.summary(results)["radii"].endswith("how sure it may be: too few photos.")


def test_a_table_without_columns_has_no_rows(results):
    (paths.calibration("first") / "comparison.csv").write_text("\n")
    assert run_results.calibrations(run_results.read("first", "holidays")).rows == []


def test_no_figure_that_shows_photos_is_among_the_results(results):
    names = {path.name for path in results.figures.values()}
    assert len(names) > 8
    assert not names & {"best.png", "worst.png", "radii.png"}


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_name_breaks_out_of_its_cell(name, other):
    lines = Table(("name", "photos"), [(name, "1"), (other, "2")], "Two.").markdown().splitlines()
    assert len(lines) == 6
    unescaped = [line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines[2:4]]
    assert unescaped == [3, 3]


def test_photos_are_rendered_where_their_list_was_made_from_such(root, monkeypatch):
    paths.data_list("even").parent.mkdir()
    paths.data_list("even").touch()
    monkeypatch.setattr(data_lists, "has_rendered_photos", lambda dataset: dataset == "even")
    assert run_results.rendered("even")
    assert not run_results.rendered("not-here")
