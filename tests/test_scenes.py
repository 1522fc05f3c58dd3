import pandas as pd
import pytest

from helpers import data_lists, manifests, paths, scenes, toy_earth

PHOTOS = pd.DataFrame({"id": ["a", "b", "c"], "latitude": [0.0] * 3, "longitude": [0.0] * 3})


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
        "b.jpg,2,12,353,0.1,0.2,0.7\na.jpg,0,4,325,0.6,0.3,0.1\nz.jpg,1,8,36,0,1,0\n"
    )
    known = scenes.known(PHOTOS, "mine", str(table))
    assert known["id"].tolist() == ["a", "b", "c"]
    assert known["scene"].tolist()[:2] == ["indoor", "urban"]
    assert known["scene"].isna().tolist() == [False, False, True]
    assert known.loc[1, ["p_urban", "s16", "s365"]].tolist() == [0.7, 12, 353]


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
        ("id,s3_label\na,7\n", "photo 'a' has s3_label '7'"),
        ("id,s3_label\na,\n", "photo 'a' has s3_label nan"),
        ("id,prob_indoor,prob_natural,prob_urban\na,0.5,x,0.5\n", "photo 'a' has a probability that is none"),
        ("id,prob_indoor,prob_natural,prob_urban\na,0.5,,0.5\n", "photo 'a' has a probability that is none"),
    ],
)
def test_a_table_that_says_nothing_sound_is_refused(tmp_path, content, message):
    (tmp_path / "scenes.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        scenes.known(PHOTOS, "mine", str(tmp_path / "scenes.csv"))


def test_photos_of_ones_own_need_a_table():
    with pytest.raises(ValueError, match="not known: name a table"):
        scenes.known(PHOTOS, "mine", "")


def test_predictions_get_their_scenes_where_they_are_known(root):
    predictions = pd.DataFrame({"id": ["c", "a"], "distance_km": [1.0, 2.0]})
    assert scenes.joined(predictions, "mine")["scene"].isna().all()
    source = root / "mine.csv"
    source.write_text("one")
    output = manifests.begin(paths.scenes("mine"), "02_scenes/classify_scenes", {}, {"data list": source})
    pd.DataFrame({"id": ["a", "b"], "scene": ["urban", "indoor"]}).to_parquet(output.folder / "scenes.parquet")
    manifests.finish(output)
    joined = scenes.joined(predictions, "mine")
    assert joined["id"].tolist() == ["c", "a"]
    assert joined["scene"].tolist()[1] == "urban"
    source.write_text("two")
    with pytest.raises(manifests.StaleOutput, match=r"classify_scenes\.ipynb"):
        scenes.joined(predictions, "mine")


def test_a_table_that_is_not_there_is_named(root):
    with pytest.raises(ValueError, match=r"scene_table 'nowhere\.csv' is no file"):
        scenes.known(PHOTOS, "mine", "nowhere.csv")


def test_the_official_labels_of_real_photos_agree_with_their_probabilities(shared):
    table = pd.read_csv(shared / "photos" / "photos.csv", dtype={"id": str})
    known = scenes.known(table[["id", "latitude", "longitude"]], "real", str(shared / "photos" / "photos.csv"))
    official = table["s3_label"].map(dict(enumerate(scenes.SCENES)))
    assert (known["scene"].to_numpy() == official.to_numpy()).all()
    assert data_lists.is_embedded("real") is False
