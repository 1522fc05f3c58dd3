"""Photos are counted where they were taken, at sea too, and those that are shown are drawn fairly."""

import shutil

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from helpers import data_lists, exploring, manifests, notebooks, paths, places

MUNICH, HONOLULU, ATLANTIC = (48.14, 11.58), (21.29, -157.85), (0.0, -30.0)


def photos(coordinates, **columns):
    """Rows of a list, in three splits by turns."""
    latitude, longitude = np.array(coordinates).T
    count = len(coordinates)
    names = {
        "id": [f"{number:03d}" for number in range(count)],
        "split": (["train", "validation", "test"] * count)[:count],
    }
    return pd.DataFrame({**names, "latitude": latitude, "longitude": longitude, **columns})


def test_photos_are_located_and_one_at_sea_is_in_no_country():
    rows = exploring.located(photos([MUNICH, ATLANTIC, HONOLULU]))
    assert rows["country"].tolist() == ["DE", "", "US"]
    assert rows["region"].tolist() == ["Bayern, Germany", "", "Hawaii, United States"]
    assert rows["id"].tolist() == ["000", "001", "002"]


def test_coordinates_decide_unless_a_list_was_enriched_before():
    rows = photos([MUNICH, HONOLULU, ATLANTIC], country=["AT", "", "Ghana"], region=["", "here", "there"])
    located = exploring.located(rows)
    assert located["country"].tolist() == ["DE", "US", "GH"]
    assert located["region"].tolist() == ["Bayern, Germany", "Hawaii, United States", ""]
    rows.attrs[data_lists.LOCATED] = "by coordinate, up to 5 km off a coast"
    pd.testing.assert_frame_equal(exploring.located(rows), rows)


def test_rows_are_located_whatever_their_index_and_keep_their_header():
    rows = photos([MUNICH, ATLANTIC, HONOLULU]).iloc[[2, 0, 1]]
    rows.attrs["dataset"] = "mine"
    located = exploring.located(rows)
    assert located["country"].to_dict() == {2: "US", 0: "DE", 1: ""}
    assert located.attrs["dataset"] == "mine"
    pd.testing.assert_frame_equal(exploring.located(located), located)


def test_every_code_has_a_name_and_what_is_no_code_stays():
    codes = pd.Series(["FR", "XK", "NA", "CYN", "Atlantis", ""])
    assert exploring.country_names(codes).tolist() == ["France", "Kosovo", "Namibia", "Northern Cyprus", "Atlantis", ""]
    assert exploring.country_names(places.countries().index.to_series()).is_unique


def test_counts_are_of_every_photo_the_most_frequent_first():
    names = pd.Series(["b", "c", "", "a", "b", "", "b"], name="country")
    split = pd.Series(["train", "test", "train", "test", "test", "train", "train"], name="split")
    table = exploring.counts(names, split)
    assert table.index.tolist() == ["b", "", "a", "c"]
    assert table.index.name == "country"
    assert table.columns.tolist() == ["photos", "share", "train", "test"]
    assert table["photos"].tolist() == [3, 2, 1, 1]
    assert table["share"].tolist() == pytest.approx([3 / 7, 2 / 7, 1 / 7, 1 / 7])
    assert table[["train", "test"]].to_numpy().tolist() == [[2, 1], [2, 0], [0, 1], [0, 1]]
    order = [6, 3, 1, 0, 5, 2, 4]
    pd.testing.assert_frame_equal(exploring.counts(names[order], split[order]), table)


def test_photos_that_are_shown_are_of_the_most_frequent_regions_and_no_two_draws_differ():
    region = np.repeat(["Sur", "", "Norte", "Oeste"], [5, 40, 30, 25])
    rows = photos([MUNICH] * 100, region=region)
    shown = exploring.sampled(rows, regions=3, photos_each=8, seed=7)
    assert shown["region"].tolist() == [""] * 8 + ["Norte"] * 8 + ["Oeste"] * 8
    assert shown["id"].is_unique
    pd.testing.assert_frame_equal(exploring.sampled(rows.sample(frac=1, random_state=3), 3, 8, seed=7), shown)
    assert exploring.sampled(rows, 3, 8, seed=8)["id"].tolist() != shown["id"].tolist()
    assert exploring.sampled(rows, 9, 50, seed=7)["id"].nunique() == 100
    assert exploring.sampled(rows, 0, 8, seed=7).empty
    assert exploring.sampled(rows, 3, 0, seed=7).empty


def test_each_region_has_its_own_photos_below_its_name(tmp_path):
    region = ["Sur", "Sur", "", "Norte"]
    rows = photos([MUNICH] * 4, region=region, path=[f"{number}.png" for number in range(4)])
    for number in range(4):
        Image.new("L", (32, 32), 40 * number).save(tmp_path / f"{number}.png")
    by_region = exploring.photos_by_region(rows, tmp_path)
    assert {name: ids for name, (_, ids) in by_region.items()} == {
        "Sur": ["000", "001"], "no region": ["002"], "Norte": ["003"]
    }  # fmt: skip
    assert [int(image.mean()) for images, _ in by_region.values() for image in images] == [0, 40, 80, 120]


def test_photos_that_are_shown_are_not_the_first_ones():
    rows = photos([MUNICH] * 300, region=["here"] * 300)
    drawn = np.concatenate([exploring.sampled(rows, 1, 10, seed)["id"].astype(int) for seed in range(30)])
    assert 100 < drawn.mean() < 200


# The notebook


@pytest.fixture
def photographed(root):
    """A list of six photos, one of which is no photo, with an author in training and in test."""
    paths.photos("mine").mkdir(parents=True)
    generator = np.random.default_rng(7)
    rows = photos(
        [(48.1, 11.5), (48.2, 11.5), (48.3, 11.5), (47.5, 11.5), (47.6, 11.5), (47.7, 11.5)],
        path=[f"{number}.jpg" for number in range(6)],
        author=["ann", "ann", "bob", "cyd", "dan", "eve"],
    )
    for path in rows["path"]:
        pixels = generator.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((192, 128), Image.Resampling.BICUBIC).save(paths.photos("mine") / path)
    (paths.photos("mine") / "5.jpg").write_text("<html>gone</html>")
    digests = [manifests.fingerprint(paths.photos("mine") / path) for path in rows["path"]]
    listed = data_lists.build(rows.assign(sha256=digests), seed=0, validation_share=0.1, test_share=0.1)
    data_lists.write(listed, {"dataset": "mine"}, paths.data_list("mine"))
    return root


def test_a_refused_list_leaves_its_report_of_sound_photos_and_is_not_current(photographed, monkeypatch):
    with pytest.raises(PapermillExecutionError, match=r"'ann': 1 train, 1 validation.*leakage\.csv"):
        notebooks.run("01_data/explore", {"dataset": "mine"})
    table = pd.read_csv(paths.explored("mine") / "leakage.csv").set_index("what")
    assert table.loc["authors in several splits", ["value", "ok"]].tolist() == [1, "no"]
    manifest = manifests.read(paths.explored("mine"))
    assert manifest["counts"]["problems"] == {"not a photo": 1}
    assert manifest["counts"]["leakage"]["authors in several splits"] == 1
    assert (paths.explored("mine") / "photos_by_region.png").exists()
    again = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: again.append("run"))
    monkeypatch.setattr(shutil, "move", lambda *_: None)
    notebooks.run("01_data/explore", {"dataset": "mine"})
    assert again == ["run"]


def test_a_look_without_a_sheet_of_photos(photographed):
    notebooks.run("01_data/explore", {"dataset": "mine", "shown_regions": 0, "shared_authors": "tell"})
    assert not (paths.explored("mine") / "photos_by_region.png").exists()


def test_too_many_bits_are_refused_before_anything_is_read(root):
    cells = nbformat.read(paths.notebook("01_data/explore"), as_version=4).cells
    first = [cell.source for cell in cells if cell.cell_type == "code"][1]
    with pytest.raises(ValueError, match="near_identical_bits is 30"):
        exec(first, {**notebooks.defaults("01_data/explore"), "near_identical_bits": 30})
    assert not list(root.iterdir())
