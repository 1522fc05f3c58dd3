import numpy as np
import pandas as pd
import pytest

from helpers import data_lists, manifests, paths, scenes, toy_earth

PHOTOS = pd.DataFrame({"id": ["a", "b", "c"], "latitude": [0.0] * 3, "longitude": [0.0] * 3})

OFFICIAL = "id,s3_label,prob_indoor,prob_natural,prob_urban"


def test_toy_earth_knows_what_it_has_drawn():
    sample = toy_earth.sample(200, seed=3).sort_values("id", ignore_index=True)
    known = scenes.known(sample, "toy-earth", "")
    assert list(known.columns) == list(scenes.COLUMNS)
    assert known["scene"].tolist() == sample["scene"].tolist()
    assert set(known["scene"]) == set(scenes.SCENES)
    assert (known[["p_indoor", "p_natural", "p_urban"]].sum(axis=1) == 1).all()


def test_a_table_in_the_published_spelling_is_read(tmp_path):
    table = tmp_path / "scenes.csv"
    table.write_text(
        "IMG_ID,S3_Label,S16_Label,S365_Label,Prob_indoor,Prob_natural,Prob_urban\n"
        "b.JPG,2,12,353,0.1,0.2,0.7\na.jpg,0,4,325,0.6,0.3,0.1\nz.png,1,8,36,0,1.0000002,0\n"
    )
    known = scenes.known(PHOTOS, "mine", str(table))
    assert known["id"].tolist() == ["a", "b", "c"]
    assert known["scene"].tolist()[:2] == ["indoor", "urban"]
    assert known["scene"].isna().tolist() == [False, False, True]
    assert known.loc[1, ["p_urban", "s16", "s365"]].tolist() == [0.7, 12, 353]


def test_ids_of_a_list_may_name_files_as_those_of_the_published_tables_do(tmp_path):
    (tmp_path / "scenes.csv").write_text("IMG_ID,S3_Label\n3e/9f/1.jpg,1\n3e/9f/2.jpg,2\n")
    rows = PHOTOS.assign(id=["3e/9f/2.jpg", "3e/9f/1.jpg", "3e/9f/3.jpg"])
    known = scenes.known(rows, "mine", str(tmp_path / "scenes.csv"))
    assert known["id"].tolist() == rows["id"].tolist()
    assert known["scene"].tolist()[:2] == ["urban", "natural"]
    assert known["s16"].isna().all()


def test_labels_alone_are_certain(tmp_path):
    (tmp_path / "scenes.csv").write_text("id,s3_label\na,1\nb,0\nc,2\n")
    known = scenes.known(PHOTOS, "mine", str(tmp_path / "scenes.csv"))
    assert known["scene"].tolist() == ["natural", "indoor", "urban"]
    assert known["p_natural"].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,scene\na,urban\n", "it needs id and s3_label"),
        ("id,s3_label\na,1\na,2\n", "names photo 'a' twice"),
        ("id,s3_label\nx,1\n", "knows none of the photos of 'mine'"),
        ("id,s3_label\na.JPG,1\na.png,2\n", "names photo 'a' twice"),
        ("id,s3_label\na,1\n ,1\n", "row 2 below the headings has no id: add it"),
        ("id,s3_label\na,7\n", "photo 'a' has s3_label '7', which must be a whole number from 0 to 2"),
        ("id,s3_label\na,\n", "photo 'a' has neither s3_label nor probabilities: add one"),
        ("id,s3_label,s16_label\na,1,abc\n", "photo 'a' has s16_label 'abc', which must be .* from 0 to 15"),
        ("id,s3_label,s16_label\na,1,16\n", "photo 'a' has s16_label '16'"),
        ("id,s3_label,s365_label\na,1,1.5\n", r"photo 'a' has s365_label '1\.5', which must be .* from 0 to 364"),
        ("id,IMG_ID,s3_label\na,a,1\n", r"has the column id twice \(img_id"),
        ("id,id,s3_label\na,a,1\n", "has the column id twice"),
        (f"{OFFICIAL}\nb,,0.2,0.2,0.6\na,,0.5,x,0.5\n", "photo 'a' has prob_natural 'x', which is no probability"),
        (f"{OFFICIAL}\na,,-0.5,1,0.5\n", "photo 'a' has prob_indoor '-0.5', which is no probability"),
        (f"{OFFICIAL}\na,,0.5,,0.5\n", "photo 'a' has the probabilities 0.5, nan, 0.5: they must be three"),
        (f"{OFFICIAL}\na,,0,0,0\n", "photo 'a' has the probabilities 0, 0, 0: they must be three that sum to 1"),
        (f"{OFFICIAL}\na,2,1,1,1\n", "photo 'a' has the probabilities 1, 1, 1"),
        (f"{OFFICIAL}\na,0,0.3,0.3,0.398\n", "photo 'a' has the probabilities 0.3, 0.3, 0.398"),
        (f"{OFFICIAL}\nb,2,0,0,1\na,0,0.1,0.2,0.7\n", "photo 'a' has s3_label 0, but its likeliest scene is 2"),
        ("", "is no CSV file in UTF-8"),
        ("id,s3_label\na,\xff\n", "is no CSV file in UTF-8.*mend it"),
        ('id,s3_label\na,1\n"b,1\nc,1\n', "has a quotation mark that is not closed: close it"),
        ('id,s3_label,title\na,1,"x\nb,2,y\n', "has a quotation mark that is not closed"),
        ("id,s3_label\na,1\nb\n", "as many values in each row as there are headings.*Expected 2 columns, got 1"),
        ("id,s3_label\na,1,5\nb,1,5\n", "as many values in each row as there are headings.*Expected 2 columns, got 3"),
    ],
)
def test_a_table_that_says_nothing_sound_is_refused(tmp_path, content, message):
    (tmp_path / "scenes.csv").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=message) as refused:
        scenes.known(PHOTOS, "mine", str(tmp_path / "scenes.csv"))
    assert type(refused.value) is ValueError
    assert "scenes.csv" in str(refused.value)


def test_a_table_of_too_many_bytes_is_not_read(tmp_path):
    with (tmp_path / "scenes.csv").open("wb") as file:
        file.truncate((4 << 30) + 1)
    with pytest.raises(ValueError, match="has over 4 GiB: keep the rows and columns that are needed"):
        scenes.known(PHOTOS, "mine", str(tmp_path / "scenes.csv"))


def test_of_two_likeliest_scenes_the_label_decides(tmp_path):
    (tmp_path / "scenes.csv").write_text(f"{OFFICIAL}\na,1,0.4,0.4,0.2\nb,,0.4,0.4,0.2\nc,2,,,\n")
    known = scenes.known(PHOTOS, "mine", str(tmp_path / "scenes.csv"))
    assert known["scene"].tolist() == ["natural", "indoor", "urban"]
    assert known["p_urban"].tolist() == [0.2, 0.2, 1.0]


@pytest.mark.parametrize("blank", ["", np.nan])
@pytest.mark.parametrize("text", [True, False])
def test_official_columns_of_the_list_are_used_as_they_are(blank, text):
    official = {"s3_label": [2, blank, 0], "s16_label": [12, blank, blank], "prob_indoor": [0.1, blank, 0.5]}
    official |= {"prob_natural": [0.2, blank, 0.25], "prob_urban": [0.7, blank, 0.25]}
    rows = PHOTOS.assign(**official)
    if text:
        rows = rows.astype(dict.fromkeys(official, str)).replace("nan", blank)
    assert scenes.are_known(rows, "mine", "")
    known = scenes.known(rows[::-1], "mine", "")
    assert known["id"].tolist() == ["c", "b", "a"]
    assert known["scene"].isna().tolist() == [False, True, False]
    assert known.loc[2, ["scene", "p_urban", "s16"]].tolist() == ["urban", 0.7, 12]
    assert known.loc[0, ["scene", "p_indoor"]].tolist() == ["indoor", 0.5]
    assert scenes.counted(known, rows, "mine", "") == {"photos": 3, "from the list": 2, "not in the list": 1}


def test_a_table_goes_before_the_list_and_a_list_that_knows_nothing_needs_a_classifier(tmp_path):
    (tmp_path / "scenes.csv").write_text("id,s3_label\na,0\n")
    rows = PHOTOS.assign(s3_label=["1", "1", ""])
    assert scenes.known(rows, "mine", str(tmp_path / "scenes.csv"))["scene"].tolist()[0] == "indoor"
    assert scenes.known(rows, "mine", "")["scene"].tolist()[:2] == ["natural", "natural"]
    assert not scenes.are_known(PHOTOS.assign(s3_label=["", " ", None]), "mine", "")
    assert not scenes.are_known(PHOTOS.assign(s16_label=["1", "2", "3"], prob_indoor="1"), "mine", "")
    with pytest.raises(ValueError, match="the list of 'mine': photo 'b' has s3_label '3', which must be"):
        scenes.known(PHOTOS.assign(s3_label=["1", "3", ""]), "mine", "")


def test_photos_of_ones_own_need_a_table():
    with pytest.raises(ValueError, match="not known: name a table"):
        scenes.known(PHOTOS, "mine", "")


def recorded(root, table, list_text="one"):
    source = root / "mine.csv"
    source.write_text(list_text)
    output = manifests.begin(paths.scenes("mine"), "02_scenes/classify_scenes", {}, {"data list": source})
    table.to_parquet(output.folder / "scenes.parquet", index=False)
    manifests.finish(output)
    return source


KNOWN = pd.DataFrame(
    {
        "id": ["a", "b", "c"],
        "scene": ["urban", "indoor", None],
        "p_indoor": [0.1, 0.9, None],
        "p_natural": [0.2, 0.1, None],
        "p_urban": [0.7, 0.0, None],
        "s16": pd.array([12, 2, None], dtype="Int64"),
        "s365": pd.array([353, 52, None], dtype="Int64"),
    }
)


def test_predictions_get_their_scenes_where_they_are_known(root):
    predictions = pd.DataFrame({"id": ["c", "a"], "distance_km": [1.0, 2.0]}, index=[7, 3])
    assert scenes.joined(predictions, "mine")["scene"].isna().all()
    source = recorded(root, KNOWN)
    joined = scenes.joined(predictions, "mine")
    assert joined["id"].tolist() == ["c", "a"]
    assert joined["scene"].isna().tolist() == [True, False]
    assert joined["scene"].tolist()[1] == "urban"
    source.write_text("two")
    with pytest.raises(manifests.StaleOutput, match=r"classify_scenes\.ipynb"):
        scenes.joined(predictions, "mine")


def test_recorded_scenes_come_in_the_order_of_the_rows(root):
    recorded(root, KNOWN)
    table = scenes.table(PHOTOS[::-1], "mine")
    assert list(table) == ["id", "scene", "p_indoor", "p_natural", "p_urban"]
    assert table["id"].tolist() == ["c", "b", "a"]
    assert table["p_urban"].tolist()[1:] == [0.0, 0.7]
    assert scenes.table(PHOTOS[:1], "mine")["scene"].tolist() == ["urban"]


def test_scenes_that_are_not_there_name_the_command(root):
    with pytest.raises(
        scenes.MissingScenes, match=r"papermill 02_scenes/classify_scenes\.ipynb out\.ipynb -p dataset mine"
    ):
        scenes.table(PHOTOS, "mine")


def test_scenes_of_another_dataset_are_refused(root):
    recorded(root, KNOWN)
    photos = pd.DataFrame({"id": ["a", "x", "y"]})
    message = r"scenes of another dataset than 'mine': it lacks 2 of 3 photos, the first of them 'x'.*classify_scenes"
    for read in (scenes.table, scenes.joined):
        with pytest.raises(scenes.MissingScenes, match=message):
            read(photos, "mine")


def test_photos_are_counted_by_where_their_scene_is_from():
    assert scenes.counted(KNOWN, PHOTOS, "toy-earth", "") == {
        "photos": 3,
        "known to the renderer": 2,
        "unknown to the renderer": 1,
    }
    assert scenes.counted(KNOWN, PHOTOS, "mine", "scenes.csv") == {
        "photos": 3,
        "from the table": 2,
        "not in the table": 1,
    }
    assert scenes.counted(KNOWN, PHOTOS, "mine", "") == {"photos": 3, "classified": 2, "unreadable": 1}


def test_shown_photos_go_from_sure_to_unsure_and_only_those_that_are_there(tmp_path):
    shares = np.linspace(0.4, 1, 7)
    rows = pd.DataFrame({"id": list("abcdefg"), "path": [f"{name}.jpg" for name in "abcdefg"]})
    table = pd.DataFrame({"id": rows["id"], "scene": "urban", "p_indoor": 0.0, "p_natural": 0.0, "p_urban": shares})
    for name in "abcdef":
        (tmp_path / f"{name}.jpg").write_bytes(toy_earth.render_jpeg(name, 48.0, 2.0))
    shown = scenes.photos_by_scene(rows, table, tmp_path, photos_each=4)
    assert {scene: captions for scene, (_, captions) in shown.items()} == {
        "indoor": [],
        "natural": [],
        "urban": ["0.80", "0.60", "0.40"],  # the surest is not there
    }
    assert len(shown["urban"][0]) == 3


def test_a_table_that_is_not_there_is_named(root):
    with pytest.raises(ValueError, match=r"scene_table 'nowhere\.csv' is no file"):
        scenes.known(PHOTOS, "mine", "nowhere.csv")


def test_the_official_labels_of_real_photos_agree_with_their_probabilities(shared):
    table = pd.read_csv(shared / "photos" / "photos.csv", dtype={"id": str})
    known = scenes.known(table[["id", "latitude", "longitude"]], "real", str(shared / "photos" / "photos.csv"))
    official = table["s3_label"].map(dict(enumerate(scenes.SCENES)))
    assert (known["scene"].to_numpy() == official.to_numpy()).all()
    assert data_lists.is_embedded("real") is False
