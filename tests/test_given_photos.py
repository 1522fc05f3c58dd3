import os

import pytest

from helpers import given_photos, photos

JPEG = b"\xff\xd8 as it begins"


@pytest.fixture
def album(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("album/b.jpg", "album/a.PNG", "album/deep/er/c.jpeg", "other.jpg", "photo[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(JPEG + name.encode())
    for name in ("album/notes.txt", "album/.hidden.jpg", "album/.git/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"text")
    return tmp_path / "album"


def test_files_folders_and_globs_are_found_in_order_each_once(album):
    found = given_photos.find(["other.jpg", "album", "album/*.jpg", "./other.jpg", "**/*.jpeg", "photo[1].jpg"])
    assert found.names() == ["other.jpg", "album/a.PNG", "album/b.jpg", "album/deep/er/c.jpeg", "photo[1].jpg"]
    assert found.read("album/deep/er/c.jpeg") == JPEG + b"album/deep/er/c.jpeg"
    assert found.passed_over == 3
    assert found.errors == {}


def test_absolute_names_stay_so_and_relative_ones_are_of_their_base(album, monkeypatch):
    assert given_photos.find([str(album / "*.jpg")]).names() == [str(album / "b.jpg")]
    monkeypatch.chdir("/")
    assert given_photos.find(["album/*.jpg"], base=album.parent).names() == ["album/b.jpg"]
    monkeypatch.setenv("HOME", str(album))
    assert given_photos.find(["~/b.jpg"]).names() == [str(album / "b.jpg")]


@pytest.mark.parametrize("given", ["*.gif", "album/nothing*", "album/*.txt", "empty"])
def test_a_pattern_or_folder_without_photos_is_refused_by_name(album, given):
    (album.parent / "empty").mkdir()
    with pytest.raises(ValueError, match=given.replace("*", r"\*")):
        given_photos.find(["other.jpg", given])
    with pytest.raises(ValueError, match="no photo is given"):
        given_photos.find([])


def test_what_is_named_and_is_no_photo_is_told_and_not_opened(album):
    found = given_photos.find(["album/notes.txt", "gone.jpg", "other.jpg"])
    assert list(found.sources) == ["album/notes.txt", "gone.jpg", "other.jpg"]
    assert "no photo by its name" in found.errors["album/notes.txt"]
    assert found.names() == ["gone.jpg", "other.jpg"]
    with pytest.raises(photos.PhotoError, match=r"'gone\.jpg' cannot be read: No such file") as raised:
        photos.read_bytes(found, "gone.jpg")
    assert str(album.parent) not in str(raised.value)


def test_links_out_of_a_folder_and_hostile_names_are_told(album):
    secret = album.parent / "secret.jpg"
    secret.write_bytes(JPEG)
    os.symlink(secret, album / "link.jpg")
    os.symlink(album / "b.jpg", album / "inside.jpg")
    os.symlink(album.parent, album / "up.jpg")
    (album / "line\nbreak.jpg").write_bytes(JPEG)
    (album / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(JPEG)
    found = given_photos.find(["album", "album/line\nbreak.jpg"])
    with pytest.raises(photos.PhotoError, match="link out of its folder"):
        photos.read_bytes(found, "album/link.jpg")
    assert "album/inside.jpg" not in found.sources  # the same photo as b.jpg
    assert "linked folder" in found.errors["album/up.jpg"]
    broken = [name for name, why in found.errors.items() if "no CSV file can hold" in why]
    assert len(broken) == 3
    assert all(name.isprintable() and name.isascii() for name in broken)


def test_bytes_are_photos_by_any_name():
    given = given_photos.of_bytes({"upload 1": JPEG, "../../etc": b"x"})
    assert given.rows()["path"].tolist() == ["upload 1", "../../etc"]
    assert given.read("../../etc") == b"x"
