"""Runs and published predictions stand side by side on the same photos, and what differs is tested with care."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_paper_rows import DATASET, PHOTOS, evaluate, photos

from helpers import bootstrap, comparison, manifests, metrics, notebooks, paper_rows, paths, plots, published


def publish(folder, name, rows=None, off_degrees=1.0, ids="{}.jpg"):
    """Write predictions of a model in the published form for photos of a list."""
    rows = photos() if rows is None else rows
    rng = np.random.default_rng(len(name))
    guess = rows["latitude"] + off_degrees * rng.exponential(1, len(rows)).clip(0, 20)
    place = [rows["latitude"], rows["longitude"], guess, rows["longitude"]]
    table = pd.DataFrame(
        {
            "img_id": [ids.format(photo) for photo in rows["id"]],
            "gt_lat": rows["latitude"],
            "predicted_lat": guess,
            "gt_long": rows["longitude"],
            "predicted_long": rows["longitude"],
            "great_circle_distance": metrics.great_circle_km(*place),
        }
    )
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / f"{name}.csv", index=False)
    return folder / f"{name}.csv"


def of(distance_km, author=None):
    """Models compared, from their distances."""
    table = pd.DataFrame(distance_km)
    names = [f"author {photo % 20}" for photo in range(len(table))] if author is None else author
    models = pd.DataFrame({"model": list(table), "kind": "run", "source": list(table), "answer": "f*"})
    return comparison.Compared(table, pd.Series(names, table.index), models, {}, {})


def several(count, number_of_photos=100):
    """Models of which each is a little worse than the one before it."""
    rng = np.random.default_rng(count)
    easy = rng.lognormal(6, 2.5, number_of_photos)
    return {
        f"model {number}": np.minimum(easy * 1.3**number * rng.lognormal(0, 0.3, number_of_photos), 20_000)
        for number in range(count)
    }


def test_published_models_differ_by_what_the_readme_says(shared):
    compared = comparison.gathered("", str(shared / "published" / "results" / "im2gps"), "im2gps")
    assert compared.counts["photos that every model has"] == 237
    other = comparison.reference(compared, "base_M-fstar")
    table = comparison.differences(compared, other, seed=7)
    found = table[(table["model"] == "ISNs_M-fstar-S3") & table["figure"].isin(metrics.SHARES)]
    rounded = (100 * found[["difference", "low", "high"]]).round(1).to_numpy().tolist()
    assert rounded == [[1.7, -0.8, 4.3], [2.1, -0.8, 5.1], [0.4, -3.4, 4.2], [1.3, -2.1, 4.7], [1.7, -2.1, 5.6]]
    assert not found["significant"].any()
    # The older network with the smaller backbone is worse beyond doubt, whatever else it is compared beside.
    assert table.loc[table["model"] == "base-vgg_L-m", "significant"].all()


def test_runs_stand_by_their_best_answer_under_the_papers_names(root):
    evaluate("a", "fine")
    evaluate("b", "multi")
    evaluate("c-{scene}", "multi", scene="indoor")
    evaluate("b+d", "multi")
    compared = comparison.gathered("a, b,c-{scene},b+d", "", DATASET)
    assert compared.models["model"].tolist() == [
        "base(L, f)", "base(M, f*)", "ISN(M, f*, S3)", "base(M, f*) (2 together)",
    ]  # fmt: skip
    assert compared.models["source"].tolist() == ["a", "b", "c-{scene}", "b+d"]
    assert compared.models["answer"].tolist() == ["fine", "f*", "f*", "f*"]
    assert list(compared.distance_km) == compared.models["model"].tolist()
    stored = pd.read_parquet(paths.results("b", DATASET) / "predictions.parquet").set_index("id")
    expected = stored.loc[compared.distance_km.index]
    assert compared.distance_km["base(M, f*)"].tolist() == expected["distance_km_f*"].tolist()
    assert compared.author.tolist() == expected["author"].tolist()
    assert compared.counts == {
        "models": 4, "photos": 120, "photos that every model has": 120, "photos of unknown author": 0,
    }  # fmt: skip


@pytest.mark.parametrize("ids", ["{}", "{}.jpg", "{}.JPEG", "test/set/{}.png", "C:\\photos\\{}.jpg"])
def test_published_predictions_are_of_the_same_photos_however_these_are_named(root, tmp_path, capsys, ids):
    evaluate("b", "multi")
    file = publish(tmp_path / "published", "theirs", ids=ids)
    compared = comparison.gathered("b", str(file), DATASET)
    assert compared.models["model"].tolist() == ["base(M, f*)", "theirs"]
    assert compared.models["photos"].tolist() == [PHOTOS, PHOTOS]
    assert compared.files["published theirs"] == file
    expected = pd.read_csv(file)["great_circle_distance"]  # in the order of the list, as are sorted ids
    np.testing.assert_allclose(compared.distance_km["theirs"], expected)
    assert capsys.readouterr().out == ""


def test_models_are_compared_on_the_photos_that_both_have_and_others_are_counted(root, tmp_path, capsys):
    evaluate("b", "multi")
    more = photos(PHOTOS + 10)
    more["id"] = more["id"].replace("photo-0003", "another")
    more[["latitude", "longitude"]] = photos()[["latitude", "longitude"]].reindex(more.index).fillna(1)
    publish(tmp_path / "published", "some", more[:50])
    publish(tmp_path / "published", "others", more[40:])
    compared = comparison.gathered("b", str(tmp_path / "published"), DATASET)
    assert compared.models.set_index("model")["photos"].to_dict() == {"base(M, f*)": 120, "others": 80, "some": 49}
    counts = compared.counts
    assert counts["photos that every model has"] == 10
    assert counts["published photos left out, as the runs were not evaluated on them"] == 11
    assert counts["photos of the runs without a published prediction"] == 1
    printed = capsys.readouterr().out
    assert "published photos left out, as the runs were not evaluated on them: 11\n" in printed
    assert "photos of the runs without a published prediction: 1\n" in printed
    assert comparison.intervals(compared, 20, seed=7)["photos"].tolist() == [120, 80, 49]
    table = comparison.differences(compared, "some", 20, seed=7)
    assert table.groupby("model")["photos"].first().to_dict() == {"base(M, f*)": 49, "others": 10}


def test_authors_are_those_of_the_list_and_else_those_that_ids_end_in(root, tmp_path):
    rows = photos()
    rows["id"] = [f"{photo}_{number % 7}@N00" for number, photo in enumerate(rows["id"])]
    rows["author"] = ["ann" if number % 2 else "" for number in range(PHOTOS)]
    evaluate("b", "multi", rows=rows.copy())
    compared = comparison.gathered("b", str(publish(tmp_path / "published", "theirs", rows[:60])), DATASET)
    assert compared.author.tolist()[:4] == ["0@N00", "ann", "2@N00", "ann"]
    assert compared.counts["photos of unknown author"] == 30


def test_a_published_model_of_the_name_of_a_run_is_told_apart(root, tmp_path):
    evaluate("b", "multi")
    compared = comparison.gathered("b", str(publish(tmp_path / "published", "base(M, f*)")), DATASET)
    assert compared.models["model"].tolist() == ["base(M, f*)", "base(M, f*) (published)"]
    assert list(compared.distance_km) == compared.models["model"].tolist()


def test_predictions_of_another_list_are_refused_by_file_and_photo(root, tmp_path):
    evaluate("b", "multi")
    other = photos().assign(id=[f"other-{number}" for number in range(PHOTOS)])
    file = publish(tmp_path / "published", "theirs", other)
    with pytest.raises(ValueError, match=r"theirs\.csv has none of the test photos of 'some-photos', .*'photo-0000'"):
        comparison.gathered("b", str(file), DATASET)


def test_another_truth_is_refused_by_file_and_photo_beyond_100_m(root, tmp_path):
    evaluate("b", "multi")
    moved = photos()
    moved.loc[7, "latitude"] += 0.0008  # 89 m
    comparison.gathered("b", str(publish(tmp_path / "published", "theirs", moved)), DATASET)
    moved.loc[7, "latitude"] += 0.0002  # 111 m in all
    with pytest.raises(ValueError, match=r"theirs\.csv has photo 'photo-0007\.jpg' at .*'some-photos' at .* 1 of 120"):
        comparison.gathered("b", str(publish(tmp_path / "published", "theirs", moved)), DATASET)


def test_runs_of_different_lists_are_refused(root):
    evaluate("a", "multi")
    evaluate("b", "multi", rows=photos()[5:].copy())
    with pytest.raises(ValueError, match="run 'b' has no prediction for 5 of the 120 photos"):
        comparison.gathered("a,b", "", DATASET)


def test_nothing_to_compare_is_refused_and_a_run_without_evaluation_names_the_command(root):
    with pytest.raises(notebooks.ParameterError, match="runs and published are both empty: give names of"):
        comparison.gathered(" ", "", DATASET)
    with pytest.raises(notebooks.MissingInput, match=r"evaluate\.ipynb out\.ipynb -p run b -p dataset some-photos"):
        comparison.gathered("b", "", DATASET)


def test_the_reference_goes_by_its_row_its_run_or_its_file(root, tmp_path):
    evaluate("b", "multi")
    compared = comparison.gathered("b", str(publish(tmp_path / "published", "theirs")), DATASET)
    assert comparison.reference(compared) == "base(M, f*)"
    for named in ("base(M, f*)", "b", " b "):
        assert comparison.reference(compared, named) == "base(M, f*)"
    for named in ("theirs", "theirs.csv"):
        assert comparison.reference(compared, named) == "theirs"
    with pytest.raises(notebooks.ParameterError, match=r"reference is 'c', .*: there are base\(M, f\*\), theirs"):
        comparison.reference(compared, "c")


def test_p_values_are_corrected_for_each_figure_over_the_models_compared():
    compared = of(several(4))
    table = comparison.differences(compared, "model 1", 99, seed=7)
    plain = bootstrap.paired_differences(several(4), compared.author, 99, seed=7, reference="model 1")
    pd.testing.assert_frame_equal(table[plain.columns], plain)
    for _, rows in table.groupby("figure"):
        assert len(rows) == 3
        np.testing.assert_array_equal(rows["p_holm"], bootstrap.holm(rows["p_value"]))
    assert (table["p_holm"] >= table["p_value"]).all()
    assert (table["significant"] == (table["p_holm"] < 0.05)).all()
    assert table.loc[table["significant"], "excludes_0"].all()


def test_of_equal_models_hardly_any_set_has_a_significant_difference_though_many_intervals_exclude_0():
    rng = np.random.default_rng(8)
    significant = excludes_0 = 0
    for seed in range(25):
        models = {f"model {number}": rng.uniform(0, 1500, 60) for number in range(6)}
        table = comparison.differences(of(models, [""] * 60), "model 0", 300, seed=seed)
        of_figure = table[table["figure"] == "within_750km"]
        significant += of_figure["significant"].any()
        excludes_0 += of_figure["excludes_0"].any()
    assert significant <= 4  # of 25, where one in twenty would be by chance
    assert excludes_0 > significant


def test_too_few_resamples_for_anything_to_be_significant_are_said(capsys):
    models = {"far": np.full(40, 3000.0), "near": np.full(40, 1.0), "middle": np.full(40, 100.0)}
    table = comparison.differences(of(models), "far", 50, seed=7)
    assert not table["significant"].any()
    assert "of 2 comparisons below 0.078: nothing can be significant. Give 80 or more" in capsys.readouterr().out
    table = comparison.differences(of(models), "far", 80, seed=7)
    assert table.loc[table["figure"] == "within_750km", "significant"].all()
    assert capsys.readouterr().out == ""


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_neither_the_order_of_photos_nor_that_of_models_changes_a_figure(random):
    models = several(4, 40)
    models["model 2"][:5] = np.nan
    names, order = list(models), list(range(40))
    random.shuffle(names)
    random.shuffle(order)
    author = [f"author {photo % 9}" if photo % 4 else "" for photo in range(40)]
    plain = of(models, author)
    mixed = of(
        {name: pd.Series(models[name][order], index=order) for name in names}, [author[photo] for photo in order]
    )
    for table, keys in ((comparison.intervals, ["model"]), (comparison.differences, ["model", "figure"])):
        more = [] if table is comparison.intervals else ["model 1"]
        one, two = (table(compared, *more, 10, seed=7).set_index(keys) for compared in (plain, mixed))
        pd.testing.assert_frame_equal(one, two.loc[one.index], check_exact=False, rtol=1e-12)


def unescaped(text):
    """What LaTeX prints of an escaped text."""
    signs = {
        "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">",
        "textbar": "|", "textasciigrave": "`",
    }  # fmt: skip
    text = re.sub(r"\\(text[a-z]+)\{\}", lambda found: f"\0{ord(signs[found[1]])};", text)
    text = text.replace("-{}", "-").replace("{[}", "[").replace("{*}", "*")
    assert not re.search(r"(?<!\\)[_%&#${}~^]", text)
    text = re.sub(r"\\([_%&#${}])", lambda found: f"\0{ord(found[1])};", text)
    assert "\\" not in text
    return re.sub("\0([0-9]+);", lambda found: chr(int(found[1])), text)


@given(st.text(alphabet=st.sampled_from(list("_%&#${}~^\\<>|`[*-] abcé\t\n")), max_size=30))
def test_every_sign_of_a_name_prints_as_itself(name):
    assert unescaped(comparison.escaped(name)) == " ".join(name.split())


def test_the_latex_table_is_a_booktabs_tabular_with_the_best_bold_and_what_is_significant_marked():
    names = ["[a]_50%", "*{b} & c\\", "d--e #1 $x^2~"]
    compared = of(dict(zip(names, [np.full(40, 10.0), np.full(40, 100.0), np.full(40, 10.0)], strict=True)))
    intervals = comparison.intervals(compared, 99, seed=7)
    differences = comparison.differences(compared, names[1], 99, seed=7)
    text = comparison.latex(intervals, differences)
    code = [line for line in text.splitlines() if not line.startswith("%")]
    assert code[:2] == [r"\begin{tabular}{lrrrrrrrr}", r"\toprule"]
    assert code[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert code[2].startswith(r"Model & Photos & 1\,km & 25\,km & 200\,km & 750\,km & 2,500\,km & Median km")
    rows = [line for line in code[4:-2] if line != r"\addlinespace"]
    assert len(rows) == 6
    figures, below = rows[::2], rows[1::2]
    cells = [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in figures]
    assert [len(row) for row in cells] == [9, 9, 9]
    assert [unescaped(row[0].strip()) for row in cells] == names
    best, plain = r"\textbf{100.0}\rlap{$^{\dagger}$}", "0.0"
    assert [row[3].strip() for row in cells] == [best, plain, best]  # within 25 km
    assert [row[4].strip() for row in cells] == ["100.0"] * 3  # all are equal, so none is the best
    assert [row[7].strip() for row in cells] == [
        r"\textbf{10}\rlap{$^{\dagger}$}",
        "100",
        r"\textbf{10}\rlap{$^{\dagger}$}",
    ]
    assert all(line.startswith(r" &  & {\scriptsize [0.0, 0.0]} & ") for line in below)
    for line in code:
        bare = line.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}")
    caption = text.splitlines()[1]
    assert caption.startswith("% Per cent of the photos within")
    assert comparison.escaped(names[1]) in caption
    assert r"$^{\dagger}$: differs from" in caption


def test_the_markdown_table_has_the_same_marks():
    compared = of({"near|one": np.full(40, 10.0), "far": np.full(40, 100.0)})
    intervals = comparison.intervals(compared, 99, seed=7)
    text = comparison.markdown(intervals, comparison.differences(compared, "far", 99, seed=7))
    _, _, near, far, *rest = text.splitlines()
    assert near.startswith(r"| near\|one | 40 | 0.0 [0.0, 0.0] | **100.0**† [100.0, 100.0] | 100.0 [100.0, 100.0] |")
    assert near.endswith("| **10**† | **10**† |")
    assert far.startswith("| far | 40 | 0.0 [0.0, 0.0] | 0.0 [0.0, 0.0] |")
    assert rest[-1].startswith("Bold: the best of each column. †: differs from far on the photos that both have")


def test_a_single_model_and_photos_of_a_single_author_have_tables_too():
    alone = of({"f*": np.full(40, 10.0)})
    intervals, differences = comparison.intervals(alone, 9, seed=7), comparison.differences(alone, "f*", 9, seed=7)
    assert differences.empty
    for text in (comparison.markdown(intervals, differences), comparison.latex(intervals, differences)):
        assert "bold" not in text.lower().replace("textbf", "bold")
        assert "dagger" not in text.replace("†", "dagger")
    plots.comparison_plot(intervals, differences)
    one_author = of(several(2), ["ann"] * 100)
    intervals = comparison.intervals(one_author, 9, seed=7)
    differences = comparison.differences(one_author, "model 0", 9, seed=7)
    assert differences[["low", "high", "p_value", "p_holm"]].isna().all(axis=None)
    assert not differences["significant"].any()
    for text in (comparison.markdown(intervals, differences), comparison.latex(intervals, differences)):
        assert "nan" not in text
    plots.comparison_plot(intervals, differences)


def test_published_files_alone_may_name_their_photos_differently(tmp_path):
    publish(tmp_path / "published", "one", ids="{}.jpg")
    publish(tmp_path / "published", "two", ids="set/{}")
    models = published.read_all(tmp_path / "published")
    compared = comparison.joined([], models)
    assert compared.counts["photos that every model has"] == PHOTOS
    assert compared.distance_km.index[0] == "photo-0000.jpg"
    assert compared.models["kind"].tolist() == ["published"] * 2


def test_rows_are_those_of_the_papers_table(root):
    evaluate("first", "multi")
    evaluate("second", "multi", quality=0.9)
    evaluations = [paper_rows.evaluated(run, DATASET) for run in ("first", "second")]
    compared = comparison.joined(evaluations, {}, DATASET)
    assert compared.models["model"].tolist() == ["base(M, f*) of first", "base(M, f*) of second"]
    rows = paper_rows.rows(evaluations)
    for name, distance in compared.distance_km.items():
        assert distance.tolist() == rows.distance_km[name].tolist()


def test_the_notebook_writes_figure_and_tables_for_runs_and_published_predictions(root, tmp_path, capfd):
    evaluate("b", "multi")
    publish(tmp_path / "published", "theirs_50%", off_degrees=0.01)
    given = {"runs": "b", "published": str(tmp_path / "published"), "dataset": DATASET, "resamples": 100}
    made = notebooks.run("05_evaluation/compare_runs", given)
    assert made == paths.comparison(DATASET)
    assert {file.name for file in made.iterdir()} == {
        "accuracy.csv", "accuracy.md", "accuracy.tex", "paired.csv", "paired.md", "models.csv", "comparison.png",
        "comparison.pdf", "comparison.svg", "compare_runs.ipynb", "manifest.json",
    }  # fmt: skip
    assert "theirs_50%" in capfd.readouterr().out
    models = pd.read_csv(made / "models.csv")
    assert models["source"].tolist() == ["b", "theirs_50%.csv"]
    paired = pd.read_csv(made / "paired.csv")
    assert set(paired["other"]) == {"base(M, f*)"}
    assert paired.set_index("figure").loc["within_25km", "significant"]
    assert pd.read_csv(made / "accuracy.csv")["model"].tolist() == ["base(M, f*)", "theirs_50%"]
    assert r"theirs\_50\% & 120 &" in (made / "accuracy.tex").read_text(encoding="utf-8")
    assert "†" in (made / "accuracy.md").read_text(encoding="utf-8")
    assert (made / "comparison.svg").read_bytes().startswith(b"<?xml")
    manifest = manifests.read(made)
    assert set(manifest["inputs"]) == {"predictions of b", "settings of b", "published theirs_50%"}
    assert manifest["counts"]["photos"] == PHOTOS
    assert json.loads((made / "compare_runs.ipynb").read_text())["nbformat"] == 4
