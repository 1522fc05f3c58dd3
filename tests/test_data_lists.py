import csv
import errno
import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data_lists, fetch, leakage, paths

SPLIT_IN_TENTHS = {"seed": 7, "validation_share": 0.1, "test_share": 0.1}


def scattered(count=200, seed=0, photos_per_author=4):
    """Photos all over the world, a few by each author."""
    generator = np.random.default_rng(seed)
    ids = [f"photo-{number:04d}" for number in range(count)]
    return pd.DataFrame(
        {
            "id": ids,
            "path": [f"{name[-2:]}/{name}.jpg" for name in ids],
            "latitude": generator.uniform(-90, 90, count),
            "longitude": generator.uniform(-180, 180, count),
            "author": [f"author-{number // photos_per_author}" for number in range(count)],
            "sha256": [hashlib.sha256(name.encode()).hexdigest() for name in ids],
        }
    )


SCENES = {
    "s3_label": ["0", "2", "", "1"],
    "s16_label": ["0", "15", "", "9"],
    "s365_label": ["364", "", "0", "7"],
    "prob_indoor": ["0.9", "0", "", "1e-5"],
    "prob_natural": ["0.05", "0", "1.0000001", "2e-5"],
    "prob_urban": ["0.050", "1", "", "0.99997"],
}


def labelled():
    """Photos whose scenes a published table knows, as far as it does."""
    return scattered(4, photos_per_author=1).assign(**SCENES)


@pytest.fixture
def stored(tmp_path):
    """Ten photos on disk, as any bytes, and their list."""
    photos = scattered(10)
    for row in photos.itertuples():
        file = tmp_path / "photos" / row.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row.id.encode())
    return data_lists.build(photos, seed=1, validation_share=0, test_share=0), tmp_path / "photos"


def written(rows, path):
    data_lists.write(rows, {"dataset": path.stem}, path)
    return path.read_bytes()


def forged(path, body):
    """Write a list whose fingerprint fits whatever rows it has."""
    path.write_bytes(b"# fingerprint: " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


# Building


def test_the_shares_are_met_and_nothing_is_lost():
    rows = data_lists.build(scattered(1000), seed=7, validation_share=0.1, test_share=0.25)
    assert rows["split"].value_counts().to_dict() == {"train": 652, "test": 248, "validation": 100}
    assert rows["id"].tolist() == sorted(scattered(1000)["id"])
    assert list(rows.columns) == list(data_lists.COLUMNS)


def test_rows_do_not_depend_on_the_order_of_photos(tmp_path):
    photos = scattered().assign(author=lambda table: table["author"].where(table.index % 3 > 0, ""))
    shuffled = photos.sample(frac=1, random_state=1)[photos.columns[::-1]]
    first = written(data_lists.build(photos, **SPLIT_IN_TENTHS), tmp_path / "a.csv")
    assert written(data_lists.build(shuffled, **SPLIT_IN_TENTHS), tmp_path / "a.csv") == first


def test_another_seed_gives_other_splits():
    first, second = (
        data_lists.build(scattered(), seed=seed, validation_share=0.2, test_share=0.2)["split"] for seed in (1, 2)
    )
    assert not first.equals(second)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(-1, 12)), min_size=3, max_size=60),
    st.sampled_from([(0.1, 0.1), (0.4, 0.5), (0, 0.3), (0.5, 0.5), (0, 1), (1, 0), (0, 0)]),
    st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_an_author_or_a_place_is_in_one_split_and_no_split_asked_for_is_empty(photos, shares, seed):
    places, authors = np.array(photos).T
    table = scattered(len(photos)).assign(
        latitude=places * 5.0 + 0.1, longitude=places * 5.0, author=[f"a{n}" if n >= 0 else "" for n in authors]
    )
    asked = (shares[0] > 0) + (shares[1] > 0) + (sum(shares) < 1)
    try:
        rows = data_lists.build(table, seed=seed, validation_share=shares[0], test_share=shares[1])
    except ValueError as error:
        groups = int(str(error).split("form ")[1].split()[0])
        assert groups < asked
        return
    assert in_several_splits(rows) == (0, 0)
    assert rows["split"].nunique() == asked


def test_photos_of_unknown_author_are_grouped_by_place_only():
    photos = scattered(300).assign(author="")
    photos.loc[::2, "author"] = None
    rows = data_lists.build(photos, **SPLIT_IN_TENTHS)
    assert rows["split"].value_counts().to_dict() == {"train": 240, "validation": 30, "test": 30}


def test_a_chain_of_authors_and_places_stays_together():
    # a and b share an author, b and c a place, c and d an author
    photos = scattered(40, photos_per_author=1)
    photos.loc[[0, 1], "author"] = "ann"
    photos.loc[[2, 3], "author"] = "bob"
    photos.loc[[1, 2], ["latitude", "longitude"]] = [48.85837, 2.294481]
    rows = data_lists.build(photos, seed=3, validation_share=0.4, test_share=0.4)
    assert rows["split"][:4].nunique() == 1


def test_a_group_too_large_for_validation_and_test_goes_into_training():
    photos = scattered(100, photos_per_author=1)
    photos.loc[:79, "author"] = "the one"
    for seed in range(5):
        rows = data_lists.build(photos, seed=seed, validation_share=0.1, test_share=0.1)
        assert (rows["split"][:80] == "train").all()
        assert rows["split"].value_counts().to_dict() == {"train": 80, "validation": 10, "test": 10}


def test_the_smallest_group_fills_a_split_that_would_be_empty():
    photos = scattered(30).assign(author=["a"] * 20 + ["b"] * 6 + ["c"] * 4)
    rows = data_lists.build(photos, seed=0, validation_share=0, test_share=0.1)
    assert rows.groupby("author")["split"].first().to_dict() == {"a": "train", "b": "train", "c": "test"}


def test_too_few_groups_are_an_error_with_a_remedy():
    with pytest.raises(
        ValueError, match=r"form 2 group\(s\).*too few for 3 splits: set validation_share or test_share"
    ):
        data_lists.build(scattered(8), **SPLIT_IN_TENTHS)


def test_a_list_for_evaluation_only():
    rows = data_lists.build(scattered(1), seed=0, validation_share=0, test_share=1.0)
    assert rows["split"].tolist() == ["test"]


def test_given_splits_are_kept_and_what_they_share_is_counted():
    photos = scattered(12).assign(split=["train", "test"] * 6)
    photos.loc[:1, ["latitude", "longitude"]] = [10, 20]
    rows = data_lists.build(photos, **SPLIT_IN_TENTHS)
    assert rows["split"].tolist() == ["train", "test"] * 6
    assert in_several_splits(rows) == (3, 1)


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.6, 0.6), (0, 1.1), (float("nan"), 0)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="from 0 to 1, and together 1 at most"):
        data_lists.build(scattered(), seed=0, validation_share=shares[0], test_share=shares[1])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("id", "photo-0003", "the id 'photo-0003' occurs more than once"),
        ("id", None, "row 1 has no id"),
        ("id", "a\nb", r"the id 'a\\nb' holds a control character"),
        ("path", "03/photo-0003.jpg", r"the path '03/photo-0003\.jpg' occurs more than once"),
        ("latitude", 95.0, r"photo 'photo-0005' has latitude 95\.0: it must be a number from -90 to 90"),
        ("latitude", np.nan, "photo 'photo-0005' has latitude nan"),
        ("longitude", -181.0, "photo 'photo-0005' has longitude -181"),
        ("longitude", np.inf, "photo 'photo-0005' has longitude inf"),
        ("sha256", "abc", "photo 'photo-0005' has the sha256 'abc': it must be 64 hex digits"),
        ("split", "dev", "photo 'photo-0005' has the split 'dev': it must be one of train, validation, test"),
    ],
)
def test_what_no_list_may_hold_is_refused_by_name(column, value, message):
    photos = scattered(100).assign(split="train")
    photos.loc[5, column] = value
    with pytest.raises(ValueError, match=message):
        data_lists.build(photos, **SPLIT_IN_TENTHS)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../a.jpg",
        "a/../../b.jpg",
        "a/./b.jpg",
        "a//b.jpg",
        "C:/a.jpg",
        "a\\b.jpg",
        "a\0.jpg",
        "a/",
        "..",
    ],
)
def test_a_path_that_leaves_the_photo_root_is_refused(path):
    photos = scattered(10)
    photos.loc[5, "path"] = path
    with pytest.raises(ValueError, match="escapes the photo root or is unsafe: give paths relative"):
        data_lists.build(photos, **SPLIT_IN_TENTHS)


def test_swapped_columns_are_recognised():
    photos = scattered(50).rename(columns={"latitude": "longitude", "longitude": "latitude"})
    with pytest.raises(ValueError, match="the headings latitude and longitude look swapped"):
        data_lists.build(photos, **SPLIT_IN_TENTHS)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="the list is empty: it needs at least one photo"):
        data_lists.build(scattered(0), **SPLIT_IN_TENTHS)


def test_missing_and_unknown_columns_are_named():
    with pytest.raises(ValueError, match=r"needs the column\(s\) author, sha256"):
        data_lists.build(scattered().drop(columns=["sha256", "author"]), **SPLIT_IN_TENTHS)
    with pytest.raises(ValueError, match="a list has no column scene"):
        data_lists.build(scattered().assign(scene="urban"), **SPLIT_IN_TENTHS)


# Writing and reading


def test_a_list_is_read_as_it_was_written(root):
    photos = scattered(50).assign(
        author="0012",  # text that must not become a number
        licence='CC BY 4.0, "as is"',
        country=[""] * 49 + ["Curaçao"],
        region="",
    )
    photos.loc[0, ["id", "path"]] = ["1e5", "a, b/Café.jpg"]
    photos.loc[1, ["id", "latitude", "longitude"]] = ["NaN", 1e-7, -180]
    rows = data_lists.build(photos, seed=1, validation_share=0, test_share=0)
    data_lists.write(rows, {"dataset": "mine", "source": "two\nlines"}, paths.data_list("mine"))
    read = data_lists.read("mine")
    pd.testing.assert_frame_equal(read, rows, check_dtype=False, check_exact=True)
    assert list(read.columns) == [*data_lists.COLUMNS, "licence", "country"]
    assert read.attrs["dataset"] == "mine"
    assert read.attrs["source"] == "two lines"
    assert read.attrs["rows"] == "50"


def test_the_list_of_toy_earth_is_written_as_it_was(tmp_path):
    committed = Path(__file__).parents[1] / "data-lists" / "toy-earth.csv"
    rows = data_lists.read(committed)
    again = data_lists.write(rows, rows.attrs, tmp_path / "again.csv")
    assert again.read_bytes() == committed.read_bytes()


@pytest.mark.parametrize("compressed_from", [1, 10**9])
def test_scenes_of_a_published_table_stay_as_they_are(root, monkeypatch, compressed_from):
    monkeypatch.setattr(data_lists, "_COMPRESSED_FROM", compressed_from)
    rows = data_lists.build(labelled(), **SPLIT_IN_TENTHS)
    path = data_lists.write(rows, {"dataset": "mine"}, paths.data_list("mine"))
    assert path.name == ("mine.csv.gz" if compressed_from == 1 else "mine.csv")
    read = data_lists.read("mine")
    assert list(read.columns) == [*data_lists.COLUMNS, *data_lists.SCENE_COLUMNS]
    pd.testing.assert_frame_equal(read[list(SCENES)], pd.DataFrame(SCENES), check_dtype=False)
    data_lists.derive(read[1:].assign(country="FR"), read, "mine-enriched", "a command", {})
    enriched = data_lists.read("mine-enriched")
    assert enriched["s365_label"].tolist() == ["", "0", "7"]
    assert enriched["prob_natural"].tolist() == ["0", "1.0000001", "2e-5"]


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("s3_label", "3", "a whole number from 0 to 2"),
        ("s3_label", "1.0", "a whole number from 0 to 2"),
        ("s3_label", "urban", "a whole number from 0 to 2"),
        ("s16_label", "16", "a whole number from 0 to 15"),
        ("s16_label", "-1", "a whole number from 0 to 15"),
        ("s365_label", "365", "a whole number from 0 to 364"),
        ("prob_indoor", "1.1", "a probability from 0 to 1"),
        ("prob_natural", "nan", "a probability from 0 to 1"),
        ("prob_urban", "-0.1", "a probability from 0 to 1"),
    ],
)
def test_a_scene_that_is_none_is_refused_by_name(tmp_path, column, value, what):
    photos = labelled()
    photos.loc[2, column] = value
    message = f"photo 'photo-0002' has the {column} '{value}': it must be {what}, or empty where unknown"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        data_lists.build(photos, **SPLIT_IN_TENTHS)
    content = written(data_lists.build(labelled(), **SPLIT_IN_TENTHS).assign(**photos[[column]]), tmp_path / "bad.csv")
    assert value.encode() in content
    with pytest.raises(ValueError, match=rf"bad\.csv: {re.escape(message)}$"):
        data_lists.read(tmp_path / "bad.csv")


def test_the_rows_are_plain_csv_below_a_commented_header(tmp_path):
    content = written(data_lists.build(scattered(3), seed=1, validation_share=0, test_share=0), tmp_path / "my.csv")
    header, body = content[: content.index(b"id,path")], content[content.index(b"id,path") :]
    assert header.decode() == f"# dataset: my\n# rows: 3\n# fingerprint: {hashlib.sha256(body).hexdigest()}\n"
    table = list(csv.DictReader(body.decode().splitlines()))
    assert [row["id"] for row in table] == ["photo-0000", "photo-0001", "photo-0002"]
    assert [float(row["latitude"]) for row in table] == scattered(3)["latitude"].tolist()


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8), min_size=1, unique=True)
)
@settings(max_examples=50, deadline=None)
def test_any_text_survives(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("lists") / "any.csv"
    photos = scattered(len(names)).assign(id=names, author=names)
    rows = data_lists.build(photos, seed=1, validation_share=0, test_share=0)
    written(rows, path)
    assert data_lists.read(path)["id"].tolist() == sorted(names)
    assert data_lists.read(path)["author"].tolist() == sorted(names)


def test_reading_changes_nothing(root, stored):
    data_lists.write(stored[0], {}, paths.data_list("mine"))
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    data_lists.read("mine")
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before


# Lists that are made from others


@pytest.fixture
def parent(root):
    """A list with a header, as it is read."""
    header = {"dataset": "mine", "source": "a table", "licence": "CC0", "cite": "me", "fetched with": "{}"}
    rows = data_lists.build(scattered(40), **SPLIT_IN_TENTHS)
    data_lists.write(rows, {**header, "made by": "another command", "mended": "a note"}, paths.data_list("mine"))
    return data_lists.read("mine")


def test_a_list_made_from_another_says_so_and_shares_its_photos(parent):
    chosen = parent[::-1][::3].assign(country="FR")
    data_lists.derive(chosen, parent, "mine-clean", "a command", {"left out": "26 dark"})
    rows = data_lists.read("mine-clean")
    pd.testing.assert_frame_equal(rows, chosen.sort_values("id", ignore_index=True), check_dtype=False)
    kept = {key: parent.attrs[key] for key in ("source", "licence", "cite", "fetched with")}
    assert rows.attrs.items() >= kept.items()
    assert rows.attrs["made from"] == f"mine, fingerprint {parent.attrs['fingerprint']}"
    assert (rows.attrs["made by"], rows.attrs["left out"]) == ("a command", "26 dark")
    assert "mended" not in rows.attrs
    assert fetch.photo_folder("mine-clean", "") == paths.photos("mine")
    pd.testing.assert_frame_equal(data_lists.read("mine"), parent)


def test_photos_of_a_list_made_in_two_steps_lie_where_they_lay(parent):
    data_lists.derive(parent, parent, "mine-clean", "a command", {})
    data_lists.derive(data_lists.read("mine-clean")[:5], data_lists.read("mine-clean"), "few", "another", {})
    assert data_lists.photos_of("few") == "mine"
    assert fetch.photo_folder("few", "") == paths.photos("mine")
    assert data_lists.photos_of("nobody") == "nobody"


def test_a_list_is_only_replaced_by_one_that_is_made_from_the_same(parent):
    data_lists.derive(parent, parent, "mine-clean", "a command", {})
    derived = data_lists.read("mine-clean")
    for name in ("mine", "mine-clean"):
        with pytest.raises(ValueError, match=f"new_dataset is '{name}', but the list .* is another one"):
            data_lists.derive(derived, derived, name, "a command", {})
        with pytest.raises(ValueError, match="name a new list"):
            data_lists.new_name("mine-clean", name, "clean")
    data_lists.derive(parent[:5], parent, "mine-clean", "a command", {})
    assert len(data_lists.read("mine-clean")) == 5
    with pytest.raises(ValueError, match="the list is empty"):
        data_lists.derive(derived[:0], derived, "none", "a command", {})
    assert not paths.data_list("none").exists()
    assert len(data_lists.read("mine")) == 40


def test_where_countries_come_from_stays_in_the_header(parent):
    enriched = parent.assign(country="FR", unknown="column")
    enriched.attrs[data_lists.LOCATED] = "by coordinate"
    data_lists.derive(enriched, parent, "mine-enriched", "a command", {})
    read = data_lists.read("mine-enriched")
    assert "unknown" not in read
    data_lists.derive(read[3:], read, "fewer", "a command", {})
    assert data_lists.read("fewer").attrs[data_lists.LOCATED] == "by coordinate"
    assert data_lists.LOCATED not in parent.attrs


def test_the_name_of_a_new_list_is_one_that_is_free(parent):
    assert data_lists.new_name("mine", "", "clean") == "mine-clean"
    with pytest.raises(ValueError, match="new_dataset is 'mine'"):
        data_lists.new_name("mine", "mine", "clean")
    with pytest.raises(ValueError, match="cannot name a dataset"):
        data_lists.new_name("mine", "../mine", "clean")
    with pytest.raises(ValueError, match="lists of that name have rendered photos"):
        data_lists.new_name("mine", "toy-earth-mine", "clean")


def test_a_missing_list_that_a_step_makes_names_the_step(root):
    with pytest.raises(data_lists.MissingList, match=r"01_data/clean\.ipynb builds it: .*-p dataset mine$"):
        data_lists.read("mine-clean")


# Reading what is not right


def test_a_missing_list_names_the_command_that_builds_it(root):
    with pytest.raises(data_lists.MissingList) as caught:
        data_lists.read("holiday")
    assert "papermill 01_data/make_list.ipynb out.ipynb -p dataset holiday -p photo_root DIR" in str(caught.value)
    assert not (root / "data-lists").exists()


def test_a_missing_list_suggests_the_nearest_dataset(root, stored):
    data_lists.write(stored[0], {}, paths.data_list("holidays"))
    with pytest.raises(data_lists.MissingList, match="Did you mean 'holidays'"):
        data_lists.read("holiday")
    with pytest.raises(data_lists.MissingList, match="Did you mean 'toy-earth'"):
        data_lists.read("toy_earth")


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("train", "test", 1),
        lambda text: text + text.splitlines()[-1] + "\n",
        lambda text: text[: len(text) // 2],
        lambda text: "\n".join(line for line in text.splitlines() if "fingerprint" not in line),
        lambda text: "",
    ],
    ids=["value", "row added", "cut", "no fingerprint", "emptied"],
)
def test_an_edited_list_is_refused(tmp_path, stored, edit):
    path = tmp_path / "mine.csv"
    path.write_text(edit(written(stored[0], path).decode()))
    with pytest.raises(data_lists.EditedList, match=r"edited by hand or damaged.*make_list\.ipynb"):
        data_lists.read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("photo-0003.jpg", "../../x.jpg", "escapes the photo root"),
        ("photo-0003,", "photo-0004,", "'photo-0004' occurs more than once"),
        ("train", "Train", "split 'Train'"),
        ("latitude", "lat", "has the columns id, path, lat"),
        ("id,path", "path,id", "has the columns path, id"),
        (",train,", ",train,extra,", "is damaged"),
        ("sha256\n", "sha256,notes\n", "has the columns"),
    ],
)
def test_a_forged_list_is_refused(tmp_path, stored, old, new, message):
    path = tmp_path / "forged.csv"
    content = written(stored[0], path)
    forged(path, content[content.index(b"id,path") :].decode().replace(old, new, 1).encode())
    with pytest.raises(ValueError, match=message) as caught:
        data_lists.read(path)
    assert "forged.csv" in str(caught.value)


@pytest.mark.parametrize("latitude", ["95", "nan", "", "north", "inf"])
def test_a_forged_coordinate_is_refused(tmp_path, latitude):
    body = f"id,path,latitude,longitude,author,split,sha256\na,a.jpg,{latitude},0,,train,{'0' * 64}\n".encode()
    forged(tmp_path / "forged.csv", body)
    with pytest.raises(ValueError, match=r"forged\.csv.*(latitude|damaged)"):
        data_lists.read(tmp_path / "forged.csv")


def test_a_list_that_is_no_text_is_refused(tmp_path):
    forged(tmp_path / "forged.csv", b"id,path,latitude,longitude,author,split,sha256\n\xff\xfe,a.jpg,0,0,,train,00\n")
    with pytest.raises(ValueError, match=r"forged\.csv is damaged"):
        data_lists.read(tmp_path / "forged.csv")


@pytest.mark.parametrize("compressed_from", [1, 10**9])
def test_a_header_may_have_any_length(root, monkeypatch, compressed_from):
    monkeypatch.setattr(data_lists, "_COMPRESSED_FROM", compressed_from)
    rows = data_lists.build(scattered(5), seed=1, validation_share=0, test_share=0)
    for length in range(3900, 4200):  # around the size of a buffer
        data_lists.write(rows, {"left out": "x" * length}, paths.data_list("mine"))
        assert len(data_lists.read("mine")) == 5


def test_texts_of_several_lines_are_read_in_a_long_list_too(root):
    photos = scattered(20_000, photos_per_author=1).assign(attribution="by somebody\nof somewhere")
    rows = data_lists.build(photos, seed=1, validation_share=0, test_share=0)
    data_lists.write(rows, {}, paths.data_list("mine"))
    assert set(data_lists.read("mine")["attribution"]) == {"by somebody\nof somewhere"}


def test_a_very_long_list_is_compressed_and_the_calls_stay_the_same(root, monkeypatch):
    rows = data_lists.build(scattered(50), seed=1, validation_share=0, test_share=0)
    plain = data_lists.write(rows, {"dataset": "mine"}, paths.data_list("mine"))
    fingerprint = data_lists.read("mine").attrs["fingerprint"]
    monkeypatch.setattr(data_lists, "_COMPRESSED_FROM", 50)
    monkeypatch.setattr(data_lists, "_ROWS_PER_CHUNK", 7)
    compressed = data_lists.write(rows, {"dataset": "mine"}, paths.data_list("mine"))
    assert (plain.name, compressed.name) == ("mine.csv", "mine.csv.gz")
    assert [file.name for file in compressed.parent.iterdir()] == ["mine.csv.gz"]
    assert paths.data_list("mine") == compressed
    assert data_lists.read("mine").attrs["fingerprint"] == fingerprint
    pd.testing.assert_frame_equal(data_lists.read("mine"), rows)
    again = compressed.read_bytes()
    assert data_lists.write(rows, {"dataset": "mine"}, paths.data_list("mine")).read_bytes() == again
    monkeypatch.setattr(data_lists, "_COMPRESSED_FROM", 51)
    assert data_lists.write(rows, {"dataset": "mine"}, paths.data_list("mine")) == plain
    assert [file.name for file in plain.parent.iterdir()] == ["mine.csv"]


@pytest.mark.parametrize("cut", [5, 50, 500])
def test_a_compressed_list_that_was_cut_is_refused(root, monkeypatch, cut):
    monkeypatch.setattr(data_lists, "_COMPRESSED_FROM", 1)
    rows = data_lists.build(scattered(50), seed=1, validation_share=0, test_share=0)
    path = data_lists.write(rows, {"dataset": "mine"}, paths.data_list("mine"))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=r"mine\.csv\.gz was edited by hand or damaged.*Restore it"):
        data_lists.read("mine")


def test_the_chunks_of_a_list_make_no_difference(monkeypatch):
    rows = data_lists.build(scattered(50), seed=1, validation_share=0, test_share=0)
    whole = b"".join(data_lists._csv(rows))
    monkeypatch.setattr(data_lists, "_ROWS_PER_CHUNK", 7)
    assert b"".join(data_lists._csv(rows)) == whole


def test_a_full_disk_leaves_the_old_list(tmp_path, stored, monkeypatch):
    path = tmp_path / "lists" / "mine.csv"
    before = written(stored[0], path)

    def full(rows):
        yield b"id,path\n"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data_lists, "_csv", full)
    with pytest.raises(OSError, match="No space left"):
        data_lists.write(stored[0][:5], {}, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# Lists that do not fit in memory


LINES = {"attribution": 'by "somebody"\nof somewhere, far away'}


def in_parts(rows, *ends):
    """Rows in parts that end before the given rows."""
    return [rows[start:end] for start, end in zip((0, *ends), (*ends, len(rows)), strict=True)]


@pytest.mark.parametrize("compressed_from", [1, 45, 10**9])
@pytest.mark.parametrize(
    "ends", [(), (1,), (7, 7, 33), tuple(range(1, 50))], ids=["one", "two", "an empty one", "rows"]
)
def test_a_list_written_in_parts_is_the_same_file(tmp_path, monkeypatch, compressed_from, ends):
    monkeypatch.setattr(data_lists, "_COMPRESSED_FROM", compressed_from)
    rows = data_lists.build(scattered(50).assign(**LINES), **SPLIT_IN_TENTHS)
    whole = data_lists.write(rows, {"dataset": "mine"}, tmp_path / "whole.csv")
    parts = data_lists.write(iter(in_parts(rows, *ends)), {"dataset": "mine"}, tmp_path / "parts.csv")
    assert whole.suffix == (".csv" if compressed_from > 50 else ".gz")
    assert parts.suffix == whole.suffix
    assert parts.read_bytes() == whole.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("compressed_from", [1, 10**9])
@pytest.mark.parametrize("part_bytes", [400, 1000, 10**6])
def test_the_parts_of_a_list_are_its_rows(root, monkeypatch, compressed_from, part_bytes):
    monkeypatch.setattr(data_lists, "_COMPRESSED_FROM", compressed_from)
    monkeypatch.setattr(data_lists, "_BYTES_PER_PART", part_bytes)
    photos = scattered(50).assign(**LINES, licence="0012")
    photos.loc[9, "attribution"] = '""\n"'
    data_lists.write(data_lists.build(photos, **SPLIT_IN_TENTHS), {"dataset": "mine"}, paths.data_list("mine"))
    whole, parts = data_lists.read("mine"), list(data_lists.parts("mine"))
    assert (len(parts) > 5) == (part_bytes < 10**6)
    assert all(part.attrs == whole.attrs for part in parts)
    pd.testing.assert_frame_equal(pd.concat(parts), whole)
    some = pd.concat(data_lists.parts("mine", ("split", "latitude")))
    pd.testing.assert_frame_equal(some, whole[["latitude", "split"]])
    for split in data_lists.SPLITS:
        expected = whole.loc[whole["split"] == split, ["latitude", "longitude"]].reset_index(drop=True)
        pd.testing.assert_frame_equal(data_lists.coordinates("mine", split), expected)


@given(
    st.lists(
        st.tuples(st.text('a",\n\r', max_size=5), st.text('b"\n', max_size=5)), min_size=1, max_size=30, unique=True
    ),
    st.integers(300, 900),
)
@settings(max_examples=50, deadline=None)
def test_parts_end_where_rows_end_whatever_a_text_holds(tmp_path_factory, texts, part_bytes):
    path = tmp_path_factory.mktemp("lists") / "any.csv"
    authors, attributions = zip(*texts, strict=True)
    photos = scattered(len(texts)).assign(author=authors, attribution=attributions)
    written(data_lists.build(photos, seed=1, validation_share=0, test_share=0), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_lists, "_BYTES_PER_PART", part_bytes)
        pd.testing.assert_frame_equal(pd.concat(data_lists.parts(path)), data_lists.read(path))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 2, 1], "'photo-0001' comes after 'photo-0002': sort the list by id"),
        ([0, 1, 1], "'photo-0001' comes after 'photo-0001': sort the list by id, each once"),
    ],
)
def test_ids_that_do_not_ascend_are_refused_in_a_part_and_from_part_to_part(tmp_path, monkeypatch, order, message):
    rows = data_lists.build(scattered(3), seed=1, validation_share=0, test_share=0)
    content = written(rows, tmp_path / "mine.csv")
    shuffled = rows.iloc[order]
    for parts in (shuffled, in_parts(shuffled, 1, 2)):
        with pytest.raises(ValueError, match=message):
            data_lists.write(parts, {}, tmp_path / "mine.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"]
    assert (tmp_path / "mine.csv").read_bytes() == content
    forged(tmp_path / "forged.csv", b"".join(data_lists._csv(shuffled.assign(path=rows["path"].tolist()))))
    for part_bytes in (150, 10**6):
        monkeypatch.setattr(data_lists, "_BYTES_PER_PART", part_bytes)
        with pytest.raises(ValueError, match=r"(?s)forged\.csv.*photo-0001' (comes after|occurs more than once)"):
            list(data_lists.parts(tmp_path / "forged.csv"))


def test_parts_with_other_columns_are_refused_and_so_is_none(tmp_path):
    rows = data_lists.build(scattered(4), seed=1, validation_share=0, test_share=0)
    with pytest.raises(ValueError, match=r"columns .*sha256,country, those before it .*sha256: give every part the"):
        data_lists.write([rows[:2], rows[2:].assign(country="FR")], {}, tmp_path / "mine.csv")
    with pytest.raises(ValueError, match="has no part"):
        data_lists.write(iter([]), {}, tmp_path / "mine.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_list_without_rows_has_no_parts(tmp_path):
    forged(tmp_path / "forged.csv", b"id,path,latitude,longitude,author,split,sha256\n")
    with pytest.raises(ValueError, match=r"forged\.csv: the list is empty"):
        list(data_lists.parts(tmp_path / "forged.csv"))


def test_a_column_that_a_list_lacks_is_named(tmp_path, stored):
    written(stored[0], tmp_path / "mine.csv")
    with pytest.raises(ValueError, match="has no column country: it has id, path"):
        next(data_lists.parts(tmp_path / "mine.csv", ("latitude", "country")))


def test_parts_of_a_missing_list_name_the_command_that_builds_it(root):
    with pytest.raises(data_lists.MissingList, match=r"01_data/make_list\.ipynb builds it"):
        next(data_lists.parts("holiday"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("photo-0003.jpg", "../../x.jpg", "escapes the photo root"),
        ("03/photo-0003.jpg", "04/photo-0004.jpg", "the path '04/photo-0004.jpg' occurs more than once"),
        ("train", "Train", "split 'Train'"),
        (",train,", ",train,extra,", "is damaged"),
        ("photo-0003,", '"photo-0003,', "is damaged"),
    ],
)
def test_parts_are_checked_like_the_whole_list(tmp_path, stored, old, new, message):
    path = tmp_path / "forged.csv"
    content = written(stored[0], path)
    forged(path, content[content.index(b"id,path") :].decode().replace(old, new, 1).encode())
    for read in (data_lists.read, lambda path: list(data_lists.parts(path))):
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert not isinstance(caught.value, data_lists.EditedList)
        assert "forged.csv" in str(caught.value)


def test_a_text_without_end_does_not_fill_the_memory(tmp_path, stored, monkeypatch):
    monkeypatch.setattr(data_lists, "_BYTES_PER_PART", 100)
    content = written(stored[0], tmp_path / "mine.csv")
    body = content[content.index(b"id,path") :]
    forged(tmp_path / "forged.csv", body.replace(b"photo-0001,", b'"photo-0001,', 1))
    with pytest.raises(ValueError, match=r"forged\.csv is damaged: a row is longer than 200 bytes"):
        list(data_lists.parts(tmp_path / "forged.csv"))


@pytest.mark.parametrize("compressed_from", [1, 10**9])
@pytest.mark.parametrize("part_bytes", [400, 10**6])
def test_an_edited_list_is_refused_after_its_last_part(tmp_path, monkeypatch, compressed_from, part_bytes):
    monkeypatch.setattr(data_lists, "_COMPRESSED_FROM", compressed_from)
    monkeypatch.setattr(data_lists, "_BYTES_PER_PART", part_bytes)
    rows = data_lists.build(scattered(50), seed=1, validation_share=0, test_share=0)
    path = data_lists.write(rows, {}, tmp_path / "mine.csv")
    content = path.read_bytes()
    edits = [content[:-100]] if path.suffix == ".gz" else [content[:-100], content.replace(b"author-1,", b"author-2,")]
    for edited in edits:
        path.write_bytes(edited)
        with pytest.raises(data_lists.EditedList, match="edited by hand or damaged"):
            list(data_lists.parts(path))


def test_whoever_stops_early_leaves_no_file_open(tmp_path, stored, monkeypatch):
    monkeypatch.setattr(data_lists, "_BYTES_PER_PART", 150)
    written(stored[0], tmp_path / "mine.csv")
    parts = data_lists.parts(tmp_path / "mine.csv")
    assert len(next(parts)) == 1
    files = set(Path("/proc/self/fd").iterdir()) if Path("/proc/self/fd").exists() else set()
    assert not files or any(os.path.realpath(file) == str(tmp_path / "mine.csv") for file in files)
    parts.close()
    assert not any(os.path.realpath(file) == str(tmp_path / "mine.csv") for file in files)


# Verifying


def test_photos_as_the_list_names_them_are_verified(stored):
    data_lists.verify(*stored)


def test_an_absent_photo_is_named(stored):
    rows, photo_root = stored
    (photo_root / rows["path"][3]).unlink()
    with pytest.raises(data_lists.MissingPhotos, match=r"1 of 10 photos .*'03/photo-0003\.jpg'.*photo_root"):
        data_lists.verify(rows, photo_root)


def test_absent_photos_are_counted_when_they_are_many(stored, tmp_path):
    with pytest.raises(data_lists.MissingPhotos, match=r"10 of 10 photos .* and 7 more"):
        data_lists.verify(stored[0], tmp_path / "elsewhere")


def test_a_changed_photo_is_named(stored):
    rows, photo_root = stored
    (photo_root / rows["path"][3]).write_bytes(b"another photo")
    with pytest.raises(data_lists.ChangedPhoto, match=r"1 of 10 photos .*'03/photo-0003\.jpg'.*make_list\.ipynb"):
        data_lists.verify(rows, photo_root)


def test_only_the_given_rows_are_verified(stored):
    rows, photo_root = stored
    (photo_root / rows["path"][3]).unlink()
    data_lists.verify(rows[rows["id"] != "photo-0003"], photo_root)


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_link_out_of_the_photo_root_is_refused_though_the_bytes_are_right(stored, tmp_path, linked):
    rows, photo_root = stored
    inside = photo_root / rows["path"][3] if linked == "file" else photo_root / "03"
    outside = tmp_path / "outside"
    inside.rename(outside)
    inside.symlink_to(outside)
    with pytest.raises(ValueError, match="escapes the photo root"):
        data_lists.verify(rows, photo_root)


def test_links_within_the_photo_root_and_to_it_are_fine(stored, tmp_path):
    rows, photo_root = stored
    (photo_root / rows["path"][3]).rename(photo_root / "elsewhere.jpg")
    (photo_root / rows["path"][3]).symlink_to(photo_root / "elsewhere.jpg")
    (tmp_path / "link").symlink_to(photo_root)
    data_lists.verify(rows, tmp_path / "link")


def test_threads_keep_the_order_and_pass_errors_on():
    assert list(data_lists.in_threads(lambda number: number * 2, range(1000), "doubling")) == list(range(0, 2000, 2))
    with pytest.raises(ZeroDivisionError):
        list(data_lists.in_threads(lambda number: 1 // number, [1, 0], "dividing"))
    assert list(data_lists.in_threads(len, [], "nothing")) == []


def test_the_real_photos_are_split_as_asked(shared):
    table = pd.read_csv(shared / "photos" / "photos.csv", dtype={"id": str, "author": str})
    table = table[["id", "path", "latitude", "longitude", "author"]].assign(sha256="0" * 64)
    rows = data_lists.build(table, **SPLIT_IN_TENTHS)
    assert rows["split"].value_counts().to_dict() == {"train": 3107, "validation": 388, "test": 388}
    assert in_several_splits(rows) == (0, 0)


def in_several_splits(rows):
    leaks = leakage.shared(rows)
    return leaks["authors in several splits"], leaks["places in several splits"]


def test_a_stray_quote_in_a_long_list_is_found_at_once(tmp_path):
    path = tmp_path / "quoted.csv"
    photos = pd.DataFrame({"id": [f"{number:06}" for number in range(100_000)]})
    photos = photos.assign(path=photos["id"] + ".jpg", latitude=1.0, longitude=2.0, author="a", split="train")
    data_lists.write(photos, {"dataset": "quoted"}, path)
    path.write_text(path.read_text().replace("000000.jpg", '000000".jpg', 1))
    # Were each line's quotes counted from the beginning, this would take minutes.
    with pytest.raises(data_lists.EditedList):
        list(data_lists.parts(path))
