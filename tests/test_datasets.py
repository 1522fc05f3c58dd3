import shutil
import tarfile
import zipfile

import numpy as np
import pandas as pd
import photo_server
import pytest
from PIL import Image

from helpers import data_lists, datasets, download, fetch, inputs, packing, paths, photos, sources, toy_earth

GPS_IFD, EXIF_IFD = 0x8825, 0x8769
EVERYTHING_TRAINS = {"validation_share": 0, "test_share": 0}


def save(file, position=None, seed=0):
    """A small photo, with a position in its EXIF where one is given in whole degrees."""
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if position:
        latitude, longitude = position
        exif.get_ifd(GPS_IFD).update(
            {1: "NS"[latitude < 0], 2: (abs(latitude), 0, 0), 3: "EW"[longitude < 0], 4: (abs(longitude), 0, 0)}
        )
        exif.get_ifd(EXIF_IFD)[0x9003] = "2024:05:06 07:08:09"
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, exif=exif.tobytes())


@pytest.fixture
def album(tmp_path):
    """Five photos in two folders, without EXIF."""
    for number in range(5):
        save(tmp_path / "album" / "ab"[number % 2] / f"{number}.jpg", seed=number)
    return tmp_path / "album"


@pytest.fixture
def truth(album, tmp_path):
    """Where the photos of the album were taken."""
    names = sorted(file.relative_to(album).as_posix() for file in album.rglob("*.jpg"))
    table = pd.DataFrame({"path": names, "latitude": [1.5, 20, -30, 40, 50], "longitude": [100, -80, 60, 40, 20]})
    table["author"] = list("vwxyz")
    table.to_csv(tmp_path / "truth.csv", index=False)
    return tmp_path / "truth.csv"


def changed(truth, row, **values):
    table = pd.read_csv(truth, dtype=str)
    for column, value in values.items():
        table.loc[row, column] = value
    table.to_csv(truth, index=False)


def csv_file(tmp_path, text):
    file = tmp_path / "table.csv"
    file.write_text(text)
    return file


# A folder with a CSV file


def test_a_folder_with_a_csv_file_becomes_a_list(root, album, truth):
    made = datasets.make_list("mine", photo_root=album, truth=truth, seed=3, validation_share=0.2, test_share=0.2)
    assert made.left_out == {}
    assert made.rows["id"].tolist() == ["a/0", "a/2", "a/4", "b/1", "b/3"]
    assert made.rows["latitude"].tolist() == [1.5, 20, -30, 40, 50]
    assert made.rows["split"].value_counts().to_dict() == {"train": 3, "validation": 1, "test": 1}
    data_lists.write(made.rows, made.header, paths.data_list("mine"))
    assert fetch.ensure(data_lists.read("mine"), "mine", album) == album


def test_scenes_in_the_csv_file_go_into_the_list(root, album, truth):
    for row, label in enumerate(["0", "2", "", "1", "2"]):
        changed(truth, row, S3_Label=label, Prob_Urban="0.50")
    made = datasets.make_list("mine", photo_root=album, truth=truth, **EVERYTHING_TRAINS)
    assert list(made.rows.columns) == [*data_lists.COLUMNS, "s3_label", "prob_urban"]
    data_lists.write(made.rows, made.header, paths.data_list("mine"))
    assert data_lists.read("mine")["s3_label"].tolist() == ["0", "2", "", "1", "2"]
    assert set(data_lists.read("mine")["prob_urban"]) == {"0.50"}


def test_scenes_of_a_published_table_go_into_the_list_of_a_download(root, tmp_path):
    with photo_server.running() as server:
        names = ["photos/1.jpg", "photos/2.jpg", "photos/3.jpg"]
        urls = csv_file(tmp_path, "".join(f"{name},{server.url(name)}\n" for name in names))
        truth = tmp_path / "places365.csv"
        truth.write_text(
            "IMG_ID,AUTHOR,LAT,LON,S3_Label,S365_Label,Prob_indoor\n"
            "photos/1.jpg,ann,1,2,0,150,0.90\nphotos/2.jpg,bob,3,4,2,,1e-5\nphotos/3.jpg,eve,5,6,,7,\n"
        )
        download.run(sources.find(str(urls), str(truth)), paths.photos("mine"), download.Settings(short_side=0))
    rows = datasets.make_list("mine", **EVERYTHING_TRAINS).rows
    assert rows["id"].tolist() == ["photos/1", "photos/2", "photos/3"]
    assert rows[["s3_label", "s365_label", "prob_indoor"]].to_numpy().tolist() == [
        ["0", "150", "0.90"],
        ["2", "", "1e-5"],
        ["", "7", ""],
    ]
    assert "s16_label" not in rows


def test_scenes_of_photos_that_are_packed_go_into_their_list(root, album, truth):
    for row in range(5):
        changed(truth, row, s16_label=str(row))
    download.run(sources.find(str(album), str(truth)), paths.photos("mine"), download.Settings(short_side=0))
    rows = datasets.make_list("mine", **EVERYTHING_TRAINS).rows
    assert dict(zip(rows["id"], rows["s16_label"], strict=True)) == {
        "a/0": "0", "a/2": "1", "a/4": "2", "b/1": "3", "b/3": "4"
    }  # fmt: skip


def test_the_header_says_how_the_list_was_made_but_not_where(album, truth):
    header = datasets.make_list("mine", photo_root=album, truth=truth, seed=3, **EVERYTHING_TRAINS).header
    assert header["made by"] == (
        "papermill 01_data/make_list.ipynb out.ipynb -p dataset mine -p photo_root DIR -p truth truth.csv -p seed 3 "
        "-p validation_share 0 -p test_share 0 -p bad_photos error"
    )
    assert not any(str(album.parent) in text for text in header.values())


def test_the_photos_of_a_dataset_lie_in_its_own_folder_by_default(root, album, truth):
    shutil.copytree(album, paths.photos("mine"))
    assert len(datasets.make_list("mine", truth=str(truth), **EVERYTHING_TRAINS).rows) == 5


@pytest.fixture
def flawed(album, truth):
    """The album with one flaw of each kind, but for a/2."""
    (album / "a" / "0.jpg").write_bytes(b"")
    (album / "a" / "4.jpg").write_bytes((album / "a" / "4.jpg").read_bytes()[:-100])
    (album / "b" / "1.jpg").unlink()
    changed(truth, 4, latitude="95")
    return album, truth


def test_all_flaws_are_named_in_one_error(flawed):
    album, truth = flawed
    with pytest.raises(datasets.BadPhotos) as caught:
        datasets.make_list("mine", photo_root=album, truth=truth)
    assert caught.value.problems == {
        "empty": ["a/0.jpg"],
        "latitude beyond ±90": ["b/3.jpg"],
        "missing": ["b/1.jpg"],
        "truncated": ["a/4.jpg"],
    }
    for part in ("4 of 5 photos", "1 truncated ('a/4.jpg')", "bad_photos='leave_out'", str(album)):
        assert part in str(caught.value)


def test_flaws_can_be_left_out_and_are_counted(flawed):
    album, truth = flawed
    made = datasets.make_list("mine", photo_root=album, truth=truth, bad_photos="leave_out", **EVERYTHING_TRAINS)
    assert made.rows["id"].tolist() == ["a/2"]
    assert {reason: len(names) for reason, names in made.left_out.items()} == {
        "empty": 1,
        "latitude beyond ±90": 1,
        "missing": 1,
        "truncated": 1,
    }
    assert made.header["left out"] == "1 empty, 1 latitude beyond ±90, 1 missing, 1 truncated"


@pytest.mark.parametrize("value", ["", "nan", "north", "48,5", "48°30'"])
def test_a_coordinate_that_is_no_number_is_a_flaw(album, truth, value):
    changed(truth, 1, latitude=value)
    with pytest.raises(datasets.BadPhotos) as caught:
        datasets.make_list("mine", photo_root=album, truth=truth)
    assert caught.value.problems == {"coordinates missing or no numbers": ["a/2.jpg"]}


def test_nothing_left_is_an_error_under_any_policy(album, truth):
    for file in album.rglob("*.jpg"):
        file.write_bytes(b"no photo")
    with pytest.raises(datasets.BadPhotos, match=r"none of the 5 photos can be used: 5 not a photo \('a/0\.jpg'"):
        datasets.make_list("mine", photo_root=album, truth=truth, bad_photos="leave_out")


@pytest.mark.parametrize("policy", datasets.BAD_PHOTOS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "../a.jpg"}, "escapes the photo root"),
        ({"path": "/etc/passwd"}, "escapes the photo root"),
        ({"path": ""}, "row 2 has no path"),
        ({"path": "a/0.jpg"}, r"the path 'a/0\.jpg' occurs more than once"),
        ({"id": "one"}, "the id 'one' occurs more than once"),
        ({"split": "holdout"}, "the split 'holdout': it must be one of"),
        (
            {"s3_label": "urban"},
            r"truth\.csv': photo .* has the s3_label 'urban': it must be a whole number from 0 to 2",
        ),
    ],
)
def test_an_unsound_table_is_never_left_out(album, truth, policy, values, message):
    for row in range(5):
        changed(truth, row, id=f"photo {row}", split="train")
    changed(truth, 0, id="one")
    changed(truth, 1, **values)
    with pytest.raises(ValueError, match=message):
        datasets.make_list("mine", photo_root=album, truth=truth, bad_photos=policy)


@pytest.mark.parametrize("policy", datasets.BAD_PHOTOS)
def test_swapped_columns_are_never_left_out(album, truth, policy):
    truth.write_text(truth.read_text().replace("latitude,longitude", "longitude,latitude"))
    with pytest.raises(ValueError, match="look swapped"):
        datasets.make_list("mine", photo_root=album, truth=truth, bad_photos=policy)


def test_a_link_out_of_the_folder_is_never_left_out(album, truth, tmp_path):
    (album / "a" / "0.jpg").rename(tmp_path / "outside.jpg")
    (album / "a" / "0.jpg").symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(ValueError, match=r"photo 'a/0\.jpg' escapes the photo root"):
        datasets.make_list("mine", photo_root=album, truth=truth, bad_photos="leave_out")


def test_a_data_list_can_serve_as_truth(root, album, truth):
    made = datasets.make_list("mine", photo_root=album, truth=truth, **EVERYTHING_TRAINS)
    data_lists.write(made.rows, made.header, paths.data_list("mine"))
    again = datasets.make_list("again", photo_root=album, truth=paths.data_list("mine"), validation_share=0.9)
    pd.testing.assert_frame_equal(again.rows, made.rows)  # with the splits that it gave


# A folder whose photos know where they were taken


def test_a_folder_with_exif_becomes_a_list(tmp_path):
    save(tmp_path / "south west.jpg", (-33, -70), seed=1)
    save(tmp_path / "deep" / "er" / "north east.JPEG", (48, 2), seed=2)
    save(tmp_path / "deep" / "png.png", (10, 20), seed=3)
    rows = datasets.make_list("mine", photo_root=tmp_path, **EVERYTHING_TRAINS).rows
    assert rows["id"].tolist() == ["deep/er/north east", "deep/png", "south west"]
    assert rows["latitude"].tolist() == [48, 10, -33]
    assert rows["longitude"].tolist() == [2, 20, -70]
    assert rows["captured_at"].tolist() == ["2024-05-06T07:08:09"] * 3
    assert (rows["author"] == "").all()


def test_what_folders_are_full_of_is_left_out_and_counted(tmp_path):
    save(tmp_path / "good.jpg", (48, 2))
    save(tmp_path / "nowhere.jpg")
    save(tmp_path / "no fix.jpg", (0, 0))
    save(tmp_path / ".hidden" / "deep" / "a.jpg", (1, 1))
    save(tmp_path / "._good.jpg", (1, 1))
    (tmp_path / "linked").symlink_to(tmp_path / ".hidden")
    for name in ("IMG_1.HEIC", "notes.txt", "README"):
        (tmp_path / name).touch()
    (tmp_path / "line\nbreak.jpg").touch()
    made = datasets.make_list("mine", photo_root=tmp_path, **EVERYTHING_TRAINS)
    assert made.rows["id"].tolist() == ["good"]
    assert made.left_out == {
        "broken position in EXIF": ["no fix.jpg"],
        "hidden": ["._good.jpg", ".hidden"],
        "linked folder": ["linked"],
        "name that no CSV file can hold": ["'line\\nbreak.jpg'"],
        "no photo by its name (.heic)": ["IMG_1.HEIC"],
        "no photo by its name (.txt)": ["notes.txt"],
        "no photo by its name (no suffix)": ["README"],
        "no position in EXIF": ["nowhere.jpg"],
    }


def test_a_broken_photo_is_an_error_though_photos_without_position_are_not(tmp_path):
    save(tmp_path / "good.jpg", (48, 2))
    save(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(datasets.BadPhotos) as caught:
        datasets.make_list("mine", photo_root=tmp_path)
    assert caught.value.problems == {"not a photo": ["text.jpg"]}


def test_a_folder_without_any_position_asks_for_a_csv_file(album):
    with pytest.raises(
        datasets.BadPhotos, match=r"none of the 5 photos .* 5 no position in EXIF .* CSV file, given as truth"
    ):
        datasets.make_list("mine", photo_root=album, bad_photos="leave_out")


def test_a_folder_without_photos_says_what_it_has(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(datasets.BadPhotos, match=r"there is no photo below .*\(passed over: 1 no photo by its name"):
        datasets.make_list("mine", photo_root=tmp_path)


def test_photos_that_differ_by_their_suffix_only_keep_it_in_their_ids(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg"):
        save(tmp_path / name, (48, 2))
    made = datasets.make_list("mine", photo_root=tmp_path, test_share=1)
    assert made.rows["id"].tolist() == ["a.jpg", "a.png", "b"]


def test_scenes_are_not_rendered_into_a_folder_of_photos(album):
    before = sorted(album.rglob("*"))
    with pytest.raises(ValueError, match="which is not of toy-earth"):
        datasets.make_list("toy-earth", photo_root=album, photo_count=5)
    assert sorted(album.rglob("*")) == before


# The table


def test_any_name_with_a_folder_is_a_folder(root, album):
    assert datasets.record("mine", album).list_photos is datasets.list_folder
    assert datasets.record("mine", album).name == "mine"
    assert datasets.record("toy-earth").list_photos is datasets.list_toy_earth


def test_an_unknown_dataset_suggests_the_nearest(root):
    with pytest.raises(ValueError, match=r"unknown dataset 'toy_earth': did you mean 'toy-earth'\? .* photo_root"):
        datasets.record("toy_earth")
    with pytest.raises(ValueError, match=r"unknown dataset 'holiday'\. For photos of your own"):
        datasets.record("holiday")


def test_an_absent_photo_root_is_named(root, tmp_path):
    with pytest.raises(ValueError, match=r"there is no photo_root .*nowhere': give the folder or archive"):
        datasets.record("mine", tmp_path / "nowhere")


def zipped(album, file):
    with zipfile.ZipFile(file, "w") as archive:
        for photo in sorted(album.rglob("*.jpg")):
            archive.write(photo, photo.relative_to(album))
    return file


def tarred(album, file):
    with tarfile.open(file, "w") as archive:
        archive.add(album, "")
    return file


def test_the_same_photos_loose_in_a_zip_a_tar_and_shards_make_the_same_list(root, album, truth, tmp_path):
    def fingerprint(photo_root, truth=truth):
        made = datasets.make_list("mine", photo_root=photo_root, truth=truth, seed=3, **EVERYTHING_TRAINS)
        data_lists.write(made.rows, made.header, paths.data_list("mine"))
        rows = data_lists.read("mine")
        data_lists.verify(rows, photo_root)
        return rows.attrs["fingerprint"], rows

    loose, rows = fingerprint(album)
    assert fingerprint(zipped(album, tmp_path / "album.zip"))[0] == loose
    assert fingerprint(tarred(album, tmp_path / "album.tar"))[0] == loose
    packing.pack(rows, album, tmp_path / "shards", short_side=0, photos_per_shard=2)
    assert fingerprint(tmp_path / "shards", truth=None)[0] == loose
    views = [
        inputs.PhotoViews(rows, photo_root, 24, "crop+flip", seed=1)
        for photo_root in (album, tmp_path / "album.zip", tmp_path / "album.tar", tmp_path / "shards")
    ]
    for number in range(len(rows)):
        assert len({view[number].numpy().tobytes() for view in views}) == 1


def test_headings_that_were_exchanged_are_put_right_and_said(root, album, truth):
    table = pd.read_csv(truth)
    table["longitude"] = [100.5, 150, 120, -110, 95]
    table.rename(columns={"latitude": "longitude", "longitude": "latitude"}).to_csv(truth, index=False)
    made = datasets.make_list("mine", photo_root=album, truth=truth, seed=3, **EVERYTHING_TRAINS)
    assert sorted(made.rows["longitude"]) == [-110, 95, 100.5, 120, 150]
    assert "swapped" in made.header["mended"]


def test_a_published_collection_brings_its_licence_and_what_to_cite(root, album, truth):
    header = datasets.make_list("osv5m", photo_root=album, truth=truth, **EVERYTHING_TRAINS).header
    assert header["licence"] == "CC BY-SA 4.0"
    assert "Astruc et al." in header["cite"]


def test_an_unknown_policy_is_refused(album):
    with pytest.raises(ValueError, match="bad_photos is 'ignore': it must be one of error, leave_out"):
        datasets.make_list("mine", photo_root=album, bad_photos="ignore")


# The embedded world


def test_toy_earth_becomes_a_list_and_its_photos_are_there(root):
    made = datasets.make_list("toy-earth", photo_count=60, seed=5)
    assert len(made.rows) == 60
    assert set(made.rows["split"]) == set(data_lists.SPLITS)
    assert list(made.rows.columns) == [*data_lists.COLUMNS, "country"]
    row = made.rows.iloc[0]
    data = (paths.photos("toy-earth") / row["path"]).read_bytes()
    assert data == toy_earth.render_jpeg(row["id"], row["latitude"], row["longitude"])
    assert photos.decode(data, row["id"]).shape[0] == 3
    data_lists.verify(made.rows, paths.photos("toy-earth"))


def test_building_toy_earth_replaces_photos_of_another_version(root):
    first = datasets.make_list("toy-earth", photo_count=20, seed=5, **EVERYTHING_TRAINS)
    (paths.photos("toy-earth") / first.rows["path"][0]).write_bytes(b"rendered by an older version")
    second = datasets.make_list("toy-earth", photo_count=20, seed=5, **EVERYTHING_TRAINS)
    pd.testing.assert_frame_equal(first.rows, second.rows)


def test_toy_earth_takes_no_truth_and_needs_a_count(root, truth):
    with pytest.raises(ValueError, match="toy-earth knows where its photos are"):
        datasets.make_list("toy-earth", truth=truth, photo_count=10)
    with pytest.raises(ValueError, match="photo_count is 0"):
        datasets.make_list("toy-earth")


def test_the_real_photos_become_a_list(shared):
    photo_root = shared / "photos"
    made = datasets.make_list("real", photo_root=photo_root, truth=photo_root / "photos.csv", seed=7)
    assert len(made.rows) == 3883
    assert made.left_out == {}
    assert made.header["leakage"].startswith("authors in several splits: 0, places in several splits: 0, ")
