"""Evaluated runs get the paper's names, stand on the same photos, and what is missing is named with its remedy."""

import json

import numpy as np
import pandas as pd
import pytest

from helpers import manifests, metrics, notebooks, paper_rows, paths

MULTI = ["coarse", "middle", "fine", "f*"]
DATASET = "some-photos"
PHOTOS = 120


def photos(count=PHOTOS):
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "id": [f"photo-{number:04d}" for number in range(count)],
            "author": [f"author-{number % 30}" for number in range(count)],
            "latitude": rng.uniform(-60, 60, count).round(5),
            "longitude": rng.uniform(-170, 170, count).round(5),
        }
    )


def evaluate(run, partition, quality=1.0, rows=None, likely_cell="fine", **settings):
    """Leave what evaluation leaves of a run: its predictions, and the settings of its training."""
    rows = photos() if rows is None else rows
    easy = np.random.default_rng(4).lognormal(7, 2, len(rows))  # the same photos are hard for every run
    rng = np.random.default_rng(len(run))
    for read_out in MULTI if partition == "multi" else [partition]:
        rows[f"distance_km_{read_out}"] = np.minimum(easy * quality * rng.lognormal(0, 0.3, len(rows)), 20_000)
    rows["distance_km_random training photo"] = np.random.default_rng(5).uniform(0, 20_000, len(rows))
    rows["distance_km_most likely cell"] = np.random.default_rng(len(likely_cell)).uniform(0, 20_000, len(rows))
    folder = paths.results(run, DATASET)
    folder.mkdir(parents=True)
    rows.sample(frac=1, random_state=len(run)).to_parquet(folder / "predictions.parquet", index=False)
    (folder / "manifest.json").write_text(json.dumps({"inputs": {}}))
    trained = paths.run(run.partition("+")[0].replace("{scene}", "indoor"))
    trained.mkdir(parents=True, exist_ok=True)
    known = {"partition": partition, "scene": "all", "multitask": False, "objective": "cross_entropy"} | settings
    (trained / "config.json").write_text(json.dumps(known))


@pytest.mark.parametrize(
    ("read_out", "settings", "run", "name"),
    [
        ("coarse", {"partition": "coarse"}, "", "base(L, c)"),
        ("middle", {"partition": "middle"}, "", "base(L, m)"),
        ("fine", {"partition": "fine"}, "", "base(L, f)"),
        ("coarse", {"partition": "multi"}, "", "base(M, c)"),
        ("f*", {"partition": "multi", "scene": "all", "objective": "cross_entropy"}, "", "base(M, f*)"),
        ("f*", {"partition": "multi", "scene": "indoor"}, "mine-{scene}", "ISN(M, f*, S3)"),
        ("fine", {"partition": "fine", "scene": "indoor"}, "mine-{scene}", "ISN(L, f, S3)"),
        ("f*", {"partition": "multi", "scene": "urban"}, "mine-urban", "ISN(M, f*, urban only)"),
        ("middle", {"partition": "multi", "multitask": True}, "", "MTN(M, m)"),
        ("f*", {"partition": "multi"}, "a+b+c", "base(M, f*) (3 together)"),
        ("f*", {"partition": "multi", "scene": "indoor"}, "a-{scene}+b-{scene}", "ISN(M, f*, S3) (2 together)"),
        ("fine", {"partition": "fine", "objective": "haversine_smoothed"}, "", "base(L, f) (haversine smoothed)"),
        ("country", {"partition": "country", "objective": "cross_entropy"}, "", "country (cross entropy)"),
        ("country", {"partition": "country"}, "", "country"),
        ("region", {"partition": "region", "multitask": True}, "", "region (scene head)"),
        ("coordinates", {"partition": "coordinates", "objective": "degrees_mse"}, "", "coordinates (degrees MSE)"),
    ],
)
def test_rows_have_the_papers_names(read_out, settings, run, name):
    assert paper_rows.row_name(read_out, settings, run) == name


def test_the_paper_s_table_stands_in_the_order_of_the_runs_with_baselines_last(root):
    evaluate("a", "fine")
    evaluate("b", "multi")
    evaluate("c-{scene}", "multi", scene="indoor")
    evaluate("d", "multi", multitask=True)
    runs = paper_rows.names("a, b,c-{scene},d,")
    rows = paper_rows.rows([paper_rows.evaluated(run, DATASET) for run in runs])
    assert list(rows.distance_km) == [
        "base(L, f)",
        *[f"base(M, {letter})" for letter in ("c", "m", "f", "f*")],
        *[f"ISN(M, {letter}, S3)" for letter in ("c", "m", "f", "f*")],
        *[f"MTN(M, {letter})" for letter in ("c", "m", "f", "f*")],
        metrics.RANDOM_TRAINING_PHOTO,
        metrics.MOST_LIKELY_CELL,
    ]
    assert rows.baselines == [metrics.RANDOM_TRAINING_PHOTO, metrics.MOST_LIKELY_CELL]
    assert rows.drawn == ["base(L, f)", "base(M, f*)", "ISN(M, f*, S3)", "MTN(M, f*)", *rows.baselines]
    assert rows.reference == "base(M, f*)"
    source = rows.sources.set_index("model").loc["ISN(M, m, S3)"]
    assert source.tolist() == ["c-{scene}", "middle", "other"]
    # Whatever the order in which each run's photos lie, a row has the distances of the photos in the order of authors.
    stored = pd.read_parquet(paths.results("d", DATASET) / "predictions.parquet").sort_values("id")
    assert rows.distance_km["MTN(M, f)"].tolist() == stored["distance_km_fine"].tolist()
    assert rows.author.tolist() == stored["author"].tolist()


def test_the_figure_shows_answers_that_were_published_and_not_a_search(root):
    evaluate("a", "multi")
    evaluate("b", "country")
    for run in ("a", "b"):
        file = paths.results(run, DATASET) / "predictions.parquet"
        table = pd.read_parquet(file)
        table.assign(distance_km_search=1.0).to_parquet(file)
    rows = paper_rows.rows([paper_rows.evaluated(run, DATASET) for run in ("a", "b")])
    assert {"base(M, search)", "country (search, cross entropy)"} < set(rows.distance_km)
    assert rows.drawn[:2] == ["base(M, f*)", "country (cross entropy)"]
    best = rows.sources[rows.sources["kind"] == "best"]
    assert best["model"].tolist() == ["base(M, search)", "country (search, cross entropy)"]


def test_baselines_that_differ_and_rows_of_one_name_say_whose_they_are(root):
    evaluate("coarse-run", "coarse", likely_cell="coarse")
    evaluate("first", "multi")
    evaluate("second-seed", "multi", quality=0.9)
    rows = paper_rows.rows([paper_rows.evaluated(run, DATASET) for run in ("coarse-run", "first", "second-seed")])
    assert rows.baselines == [
        "random training photo", "most likely cell of coarse-run", "most likely cell of first",
    ]  # fmt: skip
    assert [name for name in rows.distance_km if "f*" in name] == ["base(M, f*) of first", "base(M, f*) of second-seed"]
    assert rows.reference == "base(M, f*) of first"
    assert rows.drawn[-2:] == ["random training photo", "most likely cell of coarse-run"]


def test_without_a_hierarchy_rows_are_compared_with_the_first(root):
    evaluate("places", "country")
    rows = paper_rows.rows([paper_rows.evaluated("places", DATASET)])
    assert rows.reference == "country (cross entropy)"


def test_settings_of_an_older_run_are_those_of_the_paper(root):
    evaluate("old", "multi")
    (paths.run("old") / "config.json").write_text('{"partition": "multi"}')
    rows = paper_rows.rows([paper_rows.evaluated("old", DATASET)])
    assert rows.reference in rows.distance_km
    assert rows.reference == "base(M, f*)"


@pytest.mark.parametrize("fewer", ["one", "two"])
def test_runs_on_other_photos_are_refused_by_name(root, fewer):
    for run in ("one", "two"):
        evaluate(run, "multi", rows=photos()[5:].copy() if run == fewer else None)
    with pytest.raises(ValueError, match=rf"run '{fewer}' has no prediction for 5 of the 120 photos .*'photo-0000'"):
        paper_rows.rows([paper_rows.evaluated(run, DATASET) for run in ("one", "two")])


def test_runs_on_another_truth_are_refused_by_name(root):
    moved = photos()
    moved.loc[7, "latitude"] += 0.5
    evaluate("one", "multi")
    evaluate("two", "multi", rows=moved)
    with pytest.raises(ValueError, match=r"'one' and 'two' .* 1 photos at different true places \('photo-0007'\)"):
        paper_rows.rows([paper_rows.evaluated(run, DATASET) for run in ("one", "two")])


def test_a_run_that_was_not_evaluated_names_the_command(root):
    with pytest.raises(
        notebooks.MissingInput,
        match=r"papermill 05_evaluation/evaluate\.ipynb out\.ipynb -p run b -p dataset some-photos",
    ):
        paper_rows.evaluated("b", DATASET)


def test_predictions_without_a_column_are_refused(root):
    evaluate("one", "fine")
    file = paths.results("one", DATASET) / "predictions.parquet"
    pd.read_parquet(file).drop(columns="author").to_parquet(file)
    with pytest.raises(ValueError, match=r"predictions\.parquet has no column author: evaluate 'one' again"):
        paper_rows.evaluated("one", DATASET)
    photos().to_parquet(file)
    with pytest.raises(ValueError, match=r"has no column distance_km_<model>"):
        paper_rows.evaluated("one", DATASET)


@pytest.mark.parametrize(
    ("runs", "message"), [("", "runs is empty"), (" , ", "is empty"), ("a,b,a", "names 'a' twice")]
)
def test_names_of_runs_are_checked(runs, message):
    with pytest.raises(notebooks.ParameterError, match=message):
        paper_rows.names(runs)


def test_the_notebook_prints_and_writes_the_table(root, capfd):
    evaluate("b", "multi")
    evaluate("c-{scene}", "multi", quality=0.5, scene="indoor")
    made = notebooks.run("05_evaluation/paper_table", {"runs": "b,c-{scene}", "dataset": DATASET, "resamples": 20})
    assert made == paths.paper_table(DATASET)
    table = pd.read_csv(made / "accuracy.csv")
    assert table.columns.tolist() == ["model", "photos", *metrics.FIGURES]
    assert "ISN(M, f*, S3)" in capfd.readouterr().out
    assert "| ISN(M, f*, S3) | base(M, f*) | 120 |" in (made / "paired.md").read_text()
    assert "| base(M, f*) | 120 |" in (made / "accuracy.md").read_text()
    paired = pd.read_csv(made / "paired.csv")
    assert set(paired["other"]) == {"base(M, f*)"}
    assert (paired.query("model == 'ISN(M, f*, S3)' and figure == 'mean_km'")["high"] < 0).all()
    assert {"accuracy.png", "differences.png"} < {file.name for file in made.iterdir()}
    inputs = manifests.read(made)["inputs"]
    assert set(inputs) == {"predictions of b", "settings of b", "predictions of c-{scene}", "settings of c-{scene}"}
    manifests.check(made)
    rows = photos()
    evaluate("b2", "multi", rows=rows)
    (paths.results("b2", DATASET) / "predictions.parquet").replace(paths.results("b", DATASET) / "predictions.parquet")
    with pytest.raises(manifests.StaleOutput, match="predictions of b"):
        manifests.check(made)
