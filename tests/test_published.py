"""Published predictions give the published table; what files state is checked; no other file is taken for one."""

import gzip
import io
import os
import zipfile

import numpy as np
import pandas as pd
import pytest

from helpers import bootstrap, manifests, metrics, notebooks, paths, published

HEADING = ",".join(published.COLUMNS)
AUTHORS = ["11111111@N00", "22222222@N00", "33333333@N08"]

# Per cent within 1, 25, 200, 750, 2500 km on the 237 photos of Im2GPS, as printed (Müller-Budack et al., ECCV 2018).
IM2GPS = {
    "base-vgg-c_L-m": [7.6, 22.8, 35.0, 50.6, 66.7],
    "base-vgg_L-m": [8.9, 26.6, 36.7, 50.6, 65.8],
    "base_L-m": [13.5, 36.3, 50.6, 64.1, 79.7],
    "base_M-m": [13.5, 35.0, 49.8, 64.1, 79.7],
    "base_M-fstar": [15.2, 40.9, 51.5, 65.4, 78.5],
    "ISNs_M-fstar-S3": [16.9, 43.0, 51.9, 66.7, 80.2],
}


def photos(count, off_degrees=1.0, first=0):
    """Rows of the published form, with distances rounded as there; the photos are the same for every `off_degrees`."""
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({"img_id": [f"{1000 + n}_ab_{n}_{AUTHORS[n % 3]}.jpg" for n in range(first, first + count)]})
    rows["gt_lat"] = rng.uniform(-60, 60, count).round(6)
    rows["predicted_lat"] = (rows["gt_lat"] + off_degrees * rng.exponential(1, count).clip(0, 20)).round(6)
    rows["gt_long"] = rng.uniform(-170, 170, count).round(6)
    rows["predicted_long"] = rows["gt_long"]
    rows["great_circle_distance"] = metrics.great_circle_km(*rows[["gt_lat", "gt_long"]].to_numpy().T, *rows[
        ["predicted_lat", "predicted_long"]].to_numpy().T).round(2)  # fmt: skip
    return rows


def stated_summary(rows):
    distance = rows["great_circle_distance"]
    figures = [*metrics.accuracy(distance).round(6), round(distance.mean(), 2)]
    return "\n" + ",".join(published.SUMMARY) + "\n" + ",".join(map(str, figures)) + "\n"


def write(file, rows, summary="", end="\n"):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((rows.to_csv(index=False) + summary).replace("\n", end).encode())
    return file


@pytest.fixture
def folder(tmp_path):
    """Predictions of a good and a bad model for the same photos."""
    for model, off in (("good", 1), ("bad", 5)):
        rows = photos(60, off)
        write(tmp_path / "models" / f"{model}.csv", rows, stated_summary(rows), end="\r\n")
    return tmp_path / "models"


def test_published_predictions_give_the_published_table_to_the_printed_decimal(shared):
    models = published.read_all(shared / "published" / "results" / "im2gps")
    table = metrics.accuracy_table({model: each.distance_km for model, each in models.items()})
    per_cent = {row["model"]: [round(100 * row[share], 1) for share in metrics.SHARES] for _, row in table.iterrows()}
    assert per_cent == IM2GPS
    assert (table["photos"] == 237).all()
    stated = published.summaries(models)
    assert len(stated) == 6 * 6
    assert stated["agrees"].all()


def test_published_distances_authors_and_places_hold(shared):
    models = published.read_all(shared / "published" / "results" / "im2gps")
    truth = published.read_truth(shared / "published" / "meta" / "im2gps_places365.csv")
    author = published.authors(models, truth.rows)
    checks = published.checks(models, author)
    assert (checks["distance_differs"] == 0).all()
    assert checks["largest_difference_km"].between(0.0049, 0.0051).all()
    assert (checks["authors"] == 231).all()
    assert (checks["author_unknown"] == 0).all()
    assert (checks["summary"] == "as computed").all()
    # The author column of that table has more than the user where a place stands before the id; its end is the user.
    listed = truth.rows.set_index(truth.rows["id"] + ".jpg")["author"]
    assert all(text.endswith(author[photo]) for photo, text in listed.items())
    assert (listed != author).sum() == 177
    elsewhere, counts = published.truth_differences(models, truth.rows)
    assert elsewhere.empty
    assert counts["at the same place as in the truth"] == 237
    assert "swapped: they were exchanged" in truth.notes[0]


def test_a_model_is_read_whatever_the_order_of_its_rows_and_columns_and_its_line_ends(tmp_path):
    rows = photos(20)
    plain = published.read(write(tmp_path / "plain.csv", rows))
    assert plain.rows["id"].is_monotonic_increasing
    assert plain.rows["author"].tolist() == [AUTHORS[n % 3] for n in range(20)]
    np.testing.assert_allclose(plain.rows["distance_km"], rows["great_circle_distance"], atol=0.0051)
    shuffled = rows.sample(frac=1, random_state=1)[[*published.COLUMNS[::-1]]].assign(note="x")
    for name, end, mark in (("crlf", "\r\n", b""), ("cr", "\r", b""), ("marked", "\n", b"\xef\xbb\xbf")):
        file = write(tmp_path / f"{name}.csv", shuffled, stated_summary(rows), end)
        file.write_bytes(mark + file.read_bytes())
        found = published.read(file)
        pd.testing.assert_frame_equal(found.rows, plain.rows)
        assert list(found.summary) == list(published.SUMMARY.values())
    quoted = tmp_path / "quoted.csv"
    quoted.write_text('"' + rows.to_csv(index=False).replace(",", '","').replace("\n", '"\n"').removesuffix('"'))
    pd.testing.assert_frame_equal(published.read(quoted).rows, plain.rows)


def test_the_author_is_the_flickr_user_at_the_end_of_the_id_and_else_the_truths(tmp_path):
    ids = [
        "somewhere_00004_100000001_0a1b2c3d4e_56_11111111@N00.jpg",
        "1_2_7@N1",
        "11111111@N00_7.jpg",
        "mine.jpg",
        "b.png",
    ]
    rows = photos(5).assign(img_id=ids)
    models = {"model": published.read(write(tmp_path / "model.csv", rows))}
    nothing = published.read_truth("").rows
    author = published.authors(models, nothing)
    assert author[ids].tolist() == ["11111111@N00", "7@N1", "", "", ""]
    checks = published.checks(models, author).iloc[0]
    assert (checks["authors"], checks["author_unknown"]) == (2, 3)
    known = pd.DataFrame({"id": ["mine", "b"], "author": ["ann", ""]})
    assert published.authors(models, known)[ids].tolist() == ["11111111@N00", "7@N1", "", "ann", ""]


def test_coordinates_are_trusted_and_stated_distances_are_not(tmp_path):
    rows = photos(60)
    honest = metrics.accuracy_table({"model": rows["great_circle_distance"]})
    rows.loc[[3, 8], "great_circle_distance"] = [0.01, 0.02]
    rows.loc[5, "great_circle_distance"] += 0.007  # more than what two decimals round away
    models = {"model": published.read(write(tmp_path / "model.csv", rows, stated_summary(rows)))}
    table = metrics.accuracy_table({"model": models["model"].distance_km})
    pd.testing.assert_frame_equal(table, honest, rtol=1e-4)
    checks = published.checks(models, published.authors(models, published.read_truth("").rows)).iloc[0]
    assert checks["distance_differs"] == 3
    true_km = models["model"].rows.loc[[3, 8], "distance_km"]
    assert checks["largest_difference_km"] == pytest.approx((true_km - [0.01, 0.02]).max())
    wrong = published.summaries(models).query("not agrees")["figure"].tolist()
    assert "mean_km" in wrong
    assert checks["summary"] == f"{len(wrong)} of 6 figures differ"


def test_numbers_with_fewer_or_more_decimals_do_not_change_what_counts_as_rounding(tmp_path):
    rows = photos(60)
    rows["great_circle_distance"] = [f"{km:.2f}".rstrip("0").rstrip(".") for km in rows["great_circle_distance"]]
    rows.loc[0, "great_circle_distance"] = "0.30000000000000004"
    assert 0.005 < published.read(write(tmp_path / "model.csv", rows)).rounding_km < 0.006


def test_a_file_without_a_summary_is_as_good(folder):
    text = (folder / "good.csv").read_text()
    (folder / "good.csv").write_text(text[: text.index("\nstreet acc")])
    models = published.read_all(folder)
    assert models["good"].summary == {}
    assert len(models["good"].rows) == len(models["bad"].rows) == 60
    assert set(published.summaries(models)["model"]) == {"bad"}
    checks = published.checks(models, published.authors(models, published.read_truth("").rows))
    assert checks.set_index("model")["summary"].to_dict() == {"bad": "as computed", "good": "none"}


def test_a_file_that_a_spreadsheet_saved_is_as_good(folder, tmp_path):
    plain = published.read(folder / "good.csv")
    rows = photos(60, 1).assign(note="x")
    lines = lines_of(rows.to_csv(index=False))
    heading, values = lines_of(stated_summary(rows))
    for blank, end in ((",,,,,,", ","), ('"","","","","","",""', ',""'), (" , ,,\t,,,", ", ")):
        file = tmp_path / "saved.csv"
        file.write_text(
            "\n".join([blank, *lines[:9], blank, *lines[9:], blank, heading.upper() + end, values + end, blank])
        )
        found = published.read(file)
        pd.testing.assert_frame_equal(found.rows, plain.rows)
        assert found.summary == plain.summary
    file.write_text(file.read_text().replace("STREET ACC (1KM),CITY", "STREET ACC (1KM),TOWN"))
    with pytest.raises(ValueError, match=r"line 65: a summary begins there, which is not that of the published form"):
        published.read(file)


def packed(content):
    """A zip as the workbook of a spreadsheet is one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("xl/worksheets/sheet1.xml", content)
    return stream.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper().replace(".JPG", ".jpg").replace("_AB_", "_ab_"),
        lambda text: "sep=,\n" + text,
        lambda text: text.replace(",", " , "),
        lambda text: "\ufeff" + text.replace("\n", "\r\n\r\n"),
        lambda text: "\n".join(line + "," for line in text.splitlines()),
        lambda text: "\n".join(f"{number},{line}" for number, line in enumerate(text.splitlines())).replace(
            "0,", ",", 1
        ),
    ],
    ids=["headings in capitals", "separator named", "blanks", "mark and blank lines", "last comma", "rows numbered"],
)
def test_a_file_that_another_program_wrote_is_as_good(tmp_path, change):
    rows = photos(20)
    plain = published.read(write(tmp_path / "plain.csv", rows))
    file = tmp_path / "changed.csv"
    file.write_text(change(rows.to_csv(index=False)), encoding="utf-8")
    pd.testing.assert_frame_equal(published.read(file).rows, plain.rows)


def edit(rows, column, value):
    """Rows of which the fourth, in line 5, has another value."""
    changed = rows.astype(object)
    changed.loc[3, column] = value
    return changed.to_csv(index=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda rows: gzip.compress(rows.to_csv(index=False).encode()), r"model\.csv is packed with gzip: unpack it"),
        (lambda rows: packed("<x/>"), "is a workbook of a spreadsheet or a zip: save its sheet as CSV in UTF-8, or"),
        (lambda rows: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a workbook of a spreadsheet: save its sheet as CSV"),
        (lambda rows: stated_summary(rows) + rows.to_csv(index=False), "line 2: a summary stands before the headings"),
        (
            lambda rows: rows.to_csv(index=False) + 2 * stated_summary(rows),
            "line 46: there are lines after the summary",
        ),
        (lambda rows: rows.to_csv(index=False) + rows.to_csv(index=False), "line 42: gt_lat is 'gt_lat', which is no"),
        (lambda rows: "sep=;\n" + rows.to_csv(index=False, sep=";", decimal=","), "has semicolons between its columns"),
        (lambda rows: rows.to_csv(index=False, decimal=","), "line 2, has 11 values for 6 columns: mend it"),
        (lambda rows: rows.assign(GT_LAT=1).to_csv(index=False), "has the column gt_lat twice"),
        (lambda rows: edit(rows, "gt_lat", "\u22123.5"), "line 5: gt_lat is '\u22123.5', which is no number: mend it"),
        (
            lambda rows: edit(rows, "great_circle_distance", -3),
            "line 5: great_circle_distance is -3.0: no distance is neg",
        ),
        (lambda rows: edit(rows, "img_id", 'a"b.jpg'), """line 5: img_id is 'a""b.jpg', which has a quote"""),
        (
            lambda rows: edit(rows, "img_id", "a\u2028b.jpg"),
            "line 5: img_id is .*, which has a quote or a control char",
        ),
        (lambda rows: edit(rows, "img_id", "caf\u00e9").encode("latin-1"), "line 5, is not text in UTF-8"),
        (
            lambda rows: rows.rename(columns={"img_id": "id"}).to_csv(index=False),
            "no column img_id: .* Name its columns",
        ),
    ],
)
def test_what_other_programs_write_is_refused_with_file_line_and_remedy(tmp_path, content, message):
    written = content(photos(40))
    file = tmp_path / "model.csv"
    file.write_bytes(written if isinstance(written, bytes) else written.encode())
    with pytest.raises(ValueError, match=message) as error:
        published.read(file)
    assert str(error.value).startswith(str(file))


@pytest.mark.parametrize(
    ("exchanged", "named"),
    [
        ([("gt_lat", "gt_long")], "gt_lat and gt_long exchanged: exchange them"),
        ([("predicted_lat", "predicted_long")], "predicted_lat and predicted_long exchanged"),
        (
            [("gt_lat", "gt_long"), ("predicted_lat", "predicted_long")],
            "gt_lat and gt_long and predicted_lat and predicted_long exchanged",
        ),
    ],
)
def test_exchanged_headings_show_in_the_distances_where_all_coordinates_could_be_either(tmp_path, exchanged, named):
    rows = photos(40)
    rows[["gt_long", "predicted_long"]] /= 4  # within 45 degrees, and wrong both ways nowhere
    rows["predicted_long"] += 2
    places = [rows[name] for name in ("gt_lat", "gt_long", "predicted_lat", "predicted_long")]
    rows["great_circle_distance"] = metrics.great_circle_km(*places).round(2)
    published.read(write(tmp_path / "model.csv", rows))
    names = {one: two for pair in exchanged for one, two in (pair, pair[::-1])}
    with pytest.raises(ValueError, match=rf"model\.csv states the distances that its .* headings {named}"):
        published.read(write(tmp_path / "model.csv", rows.rename(columns=names)))
    # Distances that are wrong either way are no sign of it.
    published.read(write(tmp_path / "model.csv", rows.rename(columns=names).assign(great_circle_distance=12)))


@pytest.mark.parametrize(
    ("ids", "known", "found"),
    [
        (["a.jpg", "b", "c.JPEG"], ["c", "b.png", "a.jpg"], ["a.jpg", "b.png", "c"]),
        (["a.jpg", "a.png"], ["a"], ["", ""]),  # which of the two is it?
        (["a.jpg", "a.png"], ["a.png", "a"], ["", "a.png"]),
        (["a"], ["a.jpg", "a.png"], [""]),
        (["x/a.jpg", "y\\b"], ["a", "b.tif"], ["a", "b.tif"]),
        (["a", "b.jpg"], ["x/a.jpg", "https://host/y/b"], ["x/a.jpg", "https://host/y/b"]),
        (["x/a", "y/a"], ["a"], ["", ""]),
        (["x/a"], ["y/a", "z/a"], ["", ]),
        (["x/a", "a"], ["a.jpg"], ["", "a.jpg"]),
        (["1.5", "1.6"], ["1.5"], ["1.5", ""]),  # no suffix of a photo
        ([], ["a"], []),
        (["a"], [], [""]),
    ],
)  # fmt: skip
def test_ids_match_with_or_without_suffix_and_folders_and_never_two_to_one(ids, known, found):
    matched = published.matched(pd.Series(ids, dtype=object), pd.Series(known, dtype=object))
    assert matched.fillna("").tolist() == found


def test_models_whose_files_name_the_photos_differently_are_of_the_same_photos(tmp_path):
    rows = photos(30)
    write(tmp_path / "a.csv", rows)
    write(tmp_path / "b.csv", rows.assign(img_id=rows["img_id"].str.removesuffix(".jpg"))[5:])
    write(tmp_path / "c.csv", rows.assign(img_id="im2gps/" + rows["img_id"])[::-1])
    models = published.read_all(tmp_path)
    distance_km = published.distances(models)
    assert distance_km.index.tolist() == sorted(rows["img_id"])
    assert distance_km.notna().sum().to_dict() == {"a": 30, "b": 25, "c": 30}
    assert distance_km["a"].equals(distance_km["c"].rename("a"))
    assert all(each.rows["id"].is_monotonic_increasing for each in models.values())


@pytest.mark.parametrize(
    ("texts", "decimals"),
    [
        (["1.25", "-0.50", "3.75"], 2),
        (["1", "2", "3.5"], 0),
        (["1.", "0.5", ".5"], 1),
        (["1.250000e+02", "2.500000e+01", "7.125000E+00"], 6),
        (["1.25", "1.5"], 2),
    ],
)
def test_rounding_follows_from_the_decimals_of_most_numbers(texts, decimals):
    for given in (texts, pd.Series(texts), pd.Series(texts, dtype=object)):
        assert published._half_unit(given) == pytest.approx(0.5 * 10.0**-decimals)


def lines_of(text):
    return [line for line in text.splitlines() if line.strip()]


def edited(text, change):
    lines = lines_of(text)
    if change == "no predicted_long":
        return "\n".join(",".join(line.split(",")[:4] + line.split(",")[5:]) for line in lines[:-2])
    if change == "summary in the middle":
        return "\n".join([*lines[:10], *lines[-2:], *lines[10:-2]])
    if change == "summary without numbers":
        return "\n".join(lines[:-1])
    if change == "another summary":
        return "\n".join([*lines[:-2], "street acc (1km),mean deviation (km)", "0.5,12"])
    if change == "semicolons":
        return text.replace(",", ";")
    if change == "tabs":
        return text.replace(",", "\t")
    if change == "photo twice":
        return "\n".join([*lines[:5], lines[2], *lines[5:]])
    if change == "cut off":
        return "\n".join([*lines[:7], lines[7][:30]])
    if change == "headings only":
        return lines[0]
    fields = lines[3].split(",")
    fields[{"no number": 1, "off the Earth": 4, "no prediction": 2, "no id": 0, "distance in words": 5}[change]] = {
        "no number": "north", "off the Earth": "180.5", "no prediction": "nan", "no id": "", "distance in words": "far",
    }[change]  # fmt: skip
    return "\n".join([*lines[:3], ",".join(fields), *lines[4:]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no predicted_long", "good.csv has no column predicted_long: the published form has img_id, gt_lat, .*It has"),
        ("summary in the middle", "line 13: there are lines after the summary, which belongs at the end"),
        ("summary without numbers", "line 62: a summary begins there, which is not that of the published form"),
        ("another summary", "line 62: a summary begins there"),
        ("semicolons", "good.csv has semicolons between its columns: export it with commas"),
        ("tabs", "good.csv has tabs between its columns"),
        ("photo twice", r"photo '1001_.*' in lines 3 and 6, and 1 rows .*: leave one of each"),
        ("cut off", "line 8, has [2-4] values for 6 columns"),
        ("headings only", "good.csv has no photo"),
        ("no number", "line 4: gt_lat is 'north', which is no number"),
        ("no prediction", "line 4: predicted_lat is 'nan', which is no number"),
        ("off the Earth", r"line 4: photo '1002_.*' has predicted_long 180.5, which lies off the Earth"),
        ("no id", "line 4: img_id is empty"),
        ("distance in words", "line 4: great_circle_distance is 'far'"),
    ],
)
def test_a_file_of_another_form_is_refused_with_file_line_and_remedy(folder, change, message):
    file = folder / "good.csv"
    file.write_text(edited(file.read_text(), change))
    with pytest.raises(ValueError, match=message) as error:
        published.read_all(folder)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: give a file with the columns"),
        (b"\r\n \r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (HEADING.encode() + b"\ncaf\xe9.jpg,1,1,1,1,0\n", "line 2, is not text in UTF-8"),
        (("\ufeff" + HEADING).encode("utf-16-le"), "line 1, is not text in UTF-8"),
        (HEADING.encode() + b"\na\0b.jpg,1,1,1,1,0\n", "holds NUL bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "line 1, is not text in UTF-8"),
        (b"<html><body>404</body></html>", "has no column img_id, gt_lat"),
        (b"x" * 10_000, "has no column img_id"),
        (HEADING.encode() + b",gt_lat\na.jpg,1,1,1,1,0,1\n", "has the column gt_lat twice"),
        (HEADING.encode() + b'\n"a,b.jpg",1,1,1,1,0\n', "line 2, has 7 values for 6 columns"),
        (HEADING.encode() + b'\n"a.jpg,1,1,1,1,0\nb.jpg,1,1,1\n', "line 3, has 4 values"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    file = tmp_path / "model.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        published.read(file)
    assert len(str(error.value)) < 700


def test_a_huge_file_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    file = tmp_path / "model.csv"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # a hole: takes no space
    monkeypatch.setattr(published, "_MOST_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="has more than 1 MiB"):
        published.read(file)


def test_swapped_headings_are_named(tmp_path):
    rows = photos(40)
    swapped = rows.rename(columns={"gt_lat": "gt_long", "gt_long": "gt_lat"})
    with pytest.raises(ValueError, match=r"model.csv: photo .* the headings latitude and longitude look swapped"):
        published.read(write(tmp_path / "model.csv", swapped))


def test_files_are_those_of_a_folder_and_none_is_an_error(tmp_path, folder):
    (folder / ".good.csv").write_text("an editor's copy")
    (folder / "README.md").write_text("# Results")
    assert [file.name for file in published.files(folder)] == ["bad.csv", "good.csv"]
    (folder / "C.CSV").write_text("x")
    assert [file.name for file in published.files(folder)] == ["C.CSV", "bad.csv", "good.csv"]
    assert published.files(folder / "good.csv") == [folder / "good.csv"]
    with pytest.raises(ValueError, match=r"predictions is empty: give a file or a folder .* img_id, gt_lat"):
        published.files("")
    with pytest.raises(ValueError, match="there is no file or folder"):
        published.files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"has no file that ends in \.csv"):
        published.files(tmp_path / "empty")


def test_models_are_compared_on_the_photos_they_share(tmp_path):
    rows, others = photos(60), photos(60, 3)
    write(tmp_path / "all.csv", rows)
    write(tmp_path / "some.csv", others[10:40])
    models = published.read_all(tmp_path)
    author = published.authors(models, published.read_truth("").rows)
    assert len(author) == 60
    table = published.interval_table(models, author, 50, seed=7)
    assert table["photos"].tolist() == [60, 30]
    plain = metrics.accuracy_table(
        {"all": rows["great_circle_distance"], "some": others["great_circle_distance"][10:40]}
    )
    pd.testing.assert_frame_equal(table[plain.columns], plain, rtol=1e-4)
    pairs = bootstrap.paired_differences(dict(published.distances(models).items()), author, 50, seed=7)
    assert (pairs["photos"] == 30).all()
    expected = rows["great_circle_distance"][10:40].mean() - others["great_circle_distance"][10:40].mean()
    assert pairs.set_index("figure").loc["mean_km", "difference"] == pytest.approx(expected, rel=1e-4)


def test_files_of_two_test_sets_are_refused(folder):
    write(folder / "other.csv", photos(30, first=500))
    with pytest.raises(ValueError, match=r"bad\.csv and other\.csv share no photo: give the files of one test set"):
        published.read_all(folder)


def test_two_files_of_one_name_are_refused(folder, monkeypatch):
    # Not every file system has good.csv beside good.CSV.
    monkeypatch.setattr(
        published, "files", lambda _: [folder / "good.csv", write(folder / "more" / "good.CSV", photos(9))]
    )
    with pytest.raises(ValueError, match=r"good\.csv and good\.CSV would have the same name: rename one"):
        published.read_all(folder)


def test_files_that_disagree_about_the_truth_are_refused(folder):
    rows = photos(60, 2)
    rows.loc[7, "gt_lat"] += 0.0005  # 56 m: rounding
    write(folder / "other.csv", rows)
    assert len(published.read_all(folder)) == 3
    rows.loc[7, "gt_lat"] += 0.1
    write(folder / "other.csv", rows)
    with pytest.raises(ValueError, match=r"other\.csv has photo '1007_.*' at .*, and bad\.csv at .*, as with 1 photos"):
        published.read_all(folder)


def test_a_truth_says_which_photos_were_taken_elsewhere(tmp_path, folder, capsys):
    models = published.read_all(folder)
    rows = photos(60)
    truth = pd.DataFrame(
        {"IMG_ID": rows["img_id"], "LON": rows["gt_lat"], "LAT": rows["gt_long"]}
    )  # swapped, as theirs
    truth.loc[4, "LON"] += 1
    write(tmp_path / "truth.csv", truth[:50])
    known = published.read_truth(tmp_path / "truth.csv")
    assert "swapped" in known.notes[0]
    elsewhere, counts = published.truth_differences(models, known.rows)
    assert elsewhere["id"].tolist() == [rows["img_id"][4]]
    assert elsewhere["difference_km"].tolist() == pytest.approx([np.pi * 6371 / 180])
    assert list(counts.values()) == [49, 1, 10]
    assert capsys.readouterr().out == ""
    _, counts = published.truth_differences(models, known.rows[:29])
    assert list(counts.values())[2] == 31
    assert "most photos of the predictions, 31 of 60, are not in the truth" in capsys.readouterr().out
    with pytest.raises(ValueError, match="the truth has none of the photos of the predictions, such as '1000_"):
        published.truth_differences(models, known.rows.assign(id=known.rows["id"] + "x"))


def test_no_result_depends_on_the_order_of_the_rows(tmp_path, folder):
    for file in folder.glob("*.csv"):
        rows = photos(60, {"good": 1, "bad": 5}[file.stem]).sample(frac=1, random_state=len(file.stem))
        write(tmp_path / "shuffled" / file.name, rows, stated_summary(rows))
    tables = []
    for source in (folder, tmp_path / "shuffled"):
        models = published.read_all(source)
        author = published.authors(models, published.read_truth("").rows)
        distances = published.distances(models)
        assert author.index.equals(distances.index)
        tables.append([
            published.interval_table(models, author, 20, seed=7),
            bootstrap.paired_differences(dict(distances.items()), author, 20, seed=7),
            published.checks(models, author),
        ])  # fmt: skip
    for one, two in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_the_notebook_writes_what_the_stage_writes(root, folder):
    truth = write(
        root / "truth.csv", photos(60)[["img_id", "gt_lat", "gt_long"]].set_axis(["id", "lat", "lon"], axis=1)
    )
    given = {"predictions": str(folder), "truth": str(truth), "resamples": 20}
    made = notebooks.run("05_evaluation/published_results", given)
    assert made == paths.published()
    table = pd.read_csv(made / "accuracy.csv")
    assert table.columns.tolist() == ["model", "photos", *metrics.FIGURES]
    assert table["model"].tolist() == ["bad", "good"]
    assert set(os.listdir(made)) == {
        "accuracy.csv", "accuracy.md", "accuracy.png", "accuracy_intervals.csv", "checks.csv", "differences.png",
        "manifest.json", "paired.csv", "published_results.ipynb", "stated_summaries.csv", "truth_differences.csv",
    }  # fmt: skip
    paired = pd.read_csv(made / "paired.csv")
    assert len(paired) == len(metrics.FIGURES)
    assert paired.set_index("figure").loc["mean_km", "excludes_0"]
    manifest = manifests.read(made)
    assert set(manifest["inputs"]) == {"predictions bad", "predictions good", "truth"}
    assert manifest["counts"]["photos that every model has"] == 60

    # One model has none to be compared with, and no truth is needed; the bad model is gone with its figure.
    notebooks.run("05_evaluation/published_results", {"predictions": str(folder / "good.csv"), "resamples": 20})
    assert pd.read_csv(made / "accuracy.csv")["model"].tolist() == ["good"]
    assert not (made / "differences.png").exists()
