"""Countries and regions become classes, every photo keeps its row, and files from outside are checked."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import exploring, places, regions

MUNICH, SALZBURG, HONOLULU, ANCHORAGE, ATLANTIC = (
    (48.14, 11.58),
    (47.8, 13.05),
    (21.31, -157.86),
    (61.2, -149.9),
    (0, -30),
)


def photos(coordinates: list[tuple[float, float]], split: str | list[str] = "train") -> pd.DataFrame:
    latitude, longitude = np.array(coordinates, dtype=float).T
    ids = [f"{number:03d}" for number in range(len(coordinates))]
    return pd.DataFrame({"id": ids, "latitude": latitude, "longitude": longitude, "split": split})


@pytest.fixture(scope="module")
def located() -> pd.DataFrame:
    splits = ["train", "train", "train", "train", "train", "test", "test", "validation"]
    places_of = [MUNICH, MUNICH, SALZBURG, HONOLULU, ATLANTIC, ANCHORAGE, (35.68, 139.69), ATLANTIC]
    return exploring.located(photos(places_of, splits))


@pytest.fixture(scope="module")
def classes(located: pd.DataFrame) -> dict[str, regions.Classes]:
    training = located[located["split"] == "train"]
    return {name: regions.build(training, name, 1) for name in regions.PARTITIONS}


def test_a_class_is_what_training_photos_lie_in_and_its_coordinate_that_of_the_world(classes: dict) -> None:
    country, region = classes["country"], classes["region"]
    assert country.keys.tolist() == ["AT", "DE", "US"]
    assert country.titles.tolist() == ["Austria", "Germany", "United States"]
    assert country.training_photos.tolist() == [1, 2, 1]
    world = places.countries().loc[country.keys, ["latitude", "longitude"]]
    np.testing.assert_array_equal(country.coordinates, world)

    assert region.keys.tolist() == ["Bayern, Germany", "Hawaii, United States", "Salzburg, Austria"]
    assert region.countries.tolist() == ["DE", "US", "AT"]
    assert region.training_photos.tolist() == [2, 1, 1]
    world = places.regions().set_index("region").loc[region.keys, ["latitude", "longitude"]]
    np.testing.assert_array_equal(region.coordinates, world)


def test_every_photo_keeps_its_row_and_has_no_label_without_a_class(located: pd.DataFrame, classes: dict) -> None:
    labels = regions.label_table(located, classes)
    assert labels["id"].tolist() == located["id"].tolist()
    assert labels["country"].tolist() == [1, 1, 0, 2, pd.NA, 2, pd.NA, pd.NA]
    assert labels["region"].tolist() == [0, 0, 2, 1, pd.NA, pd.NA, pd.NA, pd.NA]  # Alaska is no Hawaii
    assert (labels.dtypes[["country", "region"]] == "Int64").all()


def test_photos_without_a_label_are_counted_by_reason_and_split(located: pd.DataFrame, classes: dict) -> None:
    summary = regions.summary(located, regions.label_table(located, classes), classes)
    assert summary.loc["country"].to_dict() == {
        "classes": 3,
        "classes with one training photo": 2,
        "train: photos": 5,
        "train: nowhere": 1,
        "train: no class": 0,
        "train: classes absent": 0,
        "validation: photos": 1,
        "validation: nowhere": 1,
        "validation: no class": 0,
        "validation: classes absent": 3,
        "test: photos": 2,
        "test: nowhere": 0,
        "test: no class": 1,
        "test: classes absent": 2,
    }
    assert summary.loc["region", ["test: no class", "test: classes absent"]].tolist() == [2, 3]


def test_a_class_needs_its_training_photos(located: pd.DataFrame) -> None:
    training = located[located["split"] == "train"]
    assert regions.build(training, "country", 2).keys.tolist() == ["DE"]
    assert regions.build(training, "country", 0).keys.tolist() == ["AT", "DE", "US"]
    with pytest.raises(ValueError, match="no country has 3 or more of the 5 training photos: lower min_photos"):
        regions.build(training, "country", 3)
    with pytest.raises(ValueError, match="no region has 1 or more of the 0 training photos"):
        regions.build(training[:0], "region", 1)


@settings(max_examples=30)
@given(st.permutations(range(60)))
def test_classes_and_labels_do_not_depend_on_the_order_of_the_photos(order: list[int]) -> None:
    world = places.regions().iloc[np.random.default_rng(7).integers(0, 40, 60)]
    rows = pd.DataFrame({"id": np.arange(60).astype(str), "country": world["country"], "region": world["region"]})
    rows = rows.reset_index(drop=True)
    plain = {name: regions.build(rows, name, 2) for name in regions.PARTITIONS}
    shuffled = {name: regions.build(rows.iloc[order], name, 2) for name in regions.PARTITIONS}
    for name in regions.PARTITIONS:
        assert plain[name].keys.tolist() == shuffled[name].keys.tolist()
        assert plain[name].training_photos.tolist() == shuffled[name].training_photos.tolist()
    labels = regions.label_table(rows.iloc[order], shuffled).set_index("id").loc[rows["id"]].reset_index()
    pd.testing.assert_frame_equal(labels, regions.label_table(rows, plain))


def test_labels_and_counts_are_those_of_a_plain_loop() -> None:
    world = places.regions().iloc[np.random.default_rng(7).integers(0, 200, 500)]
    rows = pd.DataFrame({"id": np.arange(500).astype(str), "region": world["region"].to_numpy()})
    classes = regions.build(rows, "region", 3)
    counts: dict[str, int] = {}
    for region in rows["region"]:
        counts[region] = counts.get(region, 0) + 1
    kept = sorted(region for region, count in counts.items() if count >= 3)
    assert 0 < len(kept) < len(counts)
    assert classes.keys.tolist() == kept
    assert classes.training_photos.tolist() == [counts[region] for region in kept]
    expected = [kept.index(region) if region in kept else pd.NA for region in rows["region"]]
    assert regions.label_table(rows, {"region": classes})["region"].tolist() == expected


@pytest.mark.parametrize("name", regions.PARTITIONS)
def test_all_the_world_can_be_classes_and_comes_back_from_its_file(tmp_path: Path, name: str) -> None:
    world = regions.world(name)
    rows = pd.DataFrame({name: world.index.repeat(2)})
    classes = regions.build(rows, name, 2)
    assert set(classes.keys) == set(world.index)  # Namibia's code is no missing value
    regions.write(classes, tmp_path / "classes.csv")
    again = regions.read(tmp_path / "classes.csv", name)
    assert again.name == name
    for column in ("keys", "titles", "countries", "training_photos", "coordinates"):
        np.testing.assert_array_equal(getattr(again, column), getattr(classes, column))
    assert [path.name for path in tmp_path.iterdir()] == ["classes.csv"]


def test_the_country_of_every_region_is_one_of_the_countries() -> None:
    world = regions.world("region")
    assert world.index.is_unique
    assert set(world["country"]) <= set(regions.world("country").index)


@pytest.mark.parametrize(("name", "keys"), [("country", ["FR", "Deutschland"]), ("region", ["Bavaria"])])
def test_a_name_that_is_none_of_the_worlds_is_an_error_with_the_remedy(name: str, keys: list[str]) -> None:
    rows = pd.DataFrame({"id": [str(number) for number in range(len(keys))], name: keys})
    message = f"names what is no {name} here: {keys[-1]!r}.*01_data/enrich.ipynb"
    with pytest.raises(ValueError, match=message):
        regions.build(rows, name, 1)
    one = regions.build(pd.DataFrame({name: [regions.world(name).index[0]]}), name, 1)
    with pytest.raises(ValueError, match=message):
        regions.label_table(rows, {name: one})


def test_a_list_without_countries_is_an_error_that_says_how_to_get_them() -> None:
    with pytest.raises(ValueError, match=r"no column country: .*exploring\.located"):
        regions.build(photos([MUNICH]), "country", 1)


def test_another_kind_of_class_is_refused(located: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'city' is no kind of class: it takes country or region"):
        regions.build(located, "city", 1)


def test_naming_every_class_right_leaves_the_distance_to_the_centroid(located: pd.DataFrame, classes: dict) -> None:
    labels = regions.label_table(located, classes)["country"]
    named = regions.named_right(located, labels, classes["country"])
    assert named["id"].tolist() == ["000", "001", "002", "003", "005"]
    assert named["title"].tolist() == ["Germany", "Germany", "Austria", "United States", "United States"]
    germany = places.countries().loc["DE"]
    assert named.loc[0, ["predicted_latitude", "predicted_longitude"]].tolist() == [
        germany["latitude"],
        germany["longitude"],
    ]
    assert named["distance_km"].iloc[0] == pytest.approx(330, abs=60)  # from Munich to the middle of Germany

    table = regions.distances_to_centroid(named)
    assert table["title"].tolist() == ["United States", "Germany", "Austria"]
    assert table["photos"].tolist() == [2, 2, 1]
    far = named["distance_km"].iloc[3:]
    assert table.loc[0, ["median_km", "farthest_km"]].tolist() == [far.mean(), far.max()]


HEADINGS = "class_label,key,title,country,training_photos,latitude,longitude"
FRANCE, NAMIBIA = "0,FR,France,FR,12,46.3,1.9", "1,NA,Namibia,NA,3,-22.0,17.3"


def test_a_file_is_read_as_text_whatever_the_order_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "country.csv"
    path.write_text(
        "note,title,key,class_label,country,latitude,training_photos,longitude\n?,Namibia,NA,0,NA,-22,3,17\n"
    )
    classes = regions.read(path, "country")
    assert classes.keys.tolist() == ["NA"]
    assert classes.coordinates.tolist() == [[-22, 17]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADINGS], "there is no class"),
        ([HEADINGS, NAMIBIA], "row 1 has the class_label 1, not 0"),
        ([HEADINGS, FRANCE, NAMIBIA.replace("1,", "5,", 1)], "row 2 has the class_label 5, not 1"),
        ([HEADINGS, FRANCE, FRANCE.replace("0,", "1,", 1)], "class 1 has the key 'FR', which must be given once"),
        ([HEADINGS, FRANCE.replace(",FR,", ",,", 1)], "class 0 has the key '', which must be text"),
        ([HEADINGS, FRANCE.replace("France", "x" * 201)], "class 0 has the title 'xxx"),
        ([HEADINGS, FRANCE.replace("France", '"Fr\x1bance"')], "class 0 has the title"),
        ([HEADINGS, FRANCE.replace("France,FR", "France,XX")], "class 0 has the country 'XX', which must be a code"),
        ([HEADINGS, FRANCE.replace("France,FR", "France,DE")], "class 0 has the country 'DE', which must be the key"),
        ([HEADINGS, FRANCE.replace(",12,", ",0,")], "class 0 has the training_photos 0, which must be 1 or more"),
        ([HEADINGS, FRANCE.replace("46.3", "96.3")], "class 0 has the latitude 96.3"),
        ([HEADINGS, FRANCE.replace("1.9", "nan")], "class 0 has the longitude nan"),
        ([HEADINGS, FRANCE.replace("1.9", "inf")], "class 0 has the longitude inf"),
        ([HEADINGS, FRANCE.replace("1.9", "")], "float|double"),
        ([HEADINGS, FRANCE.replace("1.9", "east")], "east"),
        ([HEADINGS, FRANCE + ",1"], "Expected 7 columns, got 8"),
        ([HEADINGS.replace("key", "code"), FRANCE], "key"),
        ([""], "empty|Empty"),
    ],
)
def test_a_malformed_file_is_refused_with_file_fault_and_remedy(tmp_path: Path, lines: list, message: str) -> None:
    path = tmp_path / "country.csv"
    path.write_text("\n".join(lines) + "\n" * bool(lines[0]))
    with pytest.raises(ValueError, match=message) as error:
        regions.read(path, "country")
    assert str(path) in str(error.value)
    assert "03_partitioning/build_regions.ipynb" in str(error.value)


def test_rubbish_and_huge_files_are_refused_and_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"region.csv: make it with 03_partitioning/build_regions.ipynb"):
        regions.read(tmp_path / "region.csv", "region")
    (tmp_path / "region.csv").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(ValueError, match=r"region.csv is not a usable file of classes"):
        regions.read(tmp_path / "region.csv", "region")
    with (tmp_path / "region.csv").open("wb") as file:
        file.truncate((1 << 24) + 1)
    with pytest.raises(ValueError, match="larger than 16 MiB"):
        regions.read(tmp_path / "region.csv", "region")
