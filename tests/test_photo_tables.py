import csv
import gzip
import io
import posixpath

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import photo_tables


def table(tmp_path, content, name="table.csv"):
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def first_row(tmp_path, content, locates="path"):
    return photo_tables.read(table(tmp_path, content), locates).rows.iloc[0].to_dict()


# Headings


@pytest.mark.parametrize(
    "headings",
    [
        "path,latitude,longitude",
        "IMG_ID,LAT,LON",
        "file_name,lat,lng",
        "File Name, GPS Latitude ,GPS-Longitude",
        "image;gps_lat;gps_lon",
        "img_path\tlat\tlong",
    ],
)
def test_headings_and_separators_are_recognised_as_people_write_them(tmp_path, headings):
    separator = next(character for character in ";\t," if character in headings)
    row = first_row(tmp_path, f"{headings}\n" + separator.join(["a/b.jpg", "48.5", "2.25"]) + "\n")
    assert row == {"path": "a/b.jpg", "latitude": 48.5, "longitude": 2.25, "id": "a/b", "author": ""}


def test_yfcc100m_is_read_as_it_is_published(tmp_path):
    text = (
        "photoid,uid,unickname,datetaken,title,longitude,latitude,accuracy,pageurl,downloadurl,licensename,licenseurl,ext\n"
        "007,12@N00,Jo,2009-01-02 03:04:05.0,a%2Cb,2.25,48.5,16,http://f.com/p,http://farm1.f.com/7_ab.jpg,CC BY,http://c,jpg\n"
    )
    assert first_row(tmp_path, text, "url") == {
        "id": "007",
        "latitude": 48.5,
        "longitude": 2.25,
        "author": "12@N00",
        "attribution": "Jo",
        "url": "http://farm1.f.com/7_ab.jpg",
        "licence": "CC BY",
        "captured_at": "2009-01-02 03:04:05.0",
    }


def test_openstreetview_5m_is_read_as_it_is_published(tmp_path):
    text = (
        "id,latitude,longitude,thumb_original_url,country,sequence,captured_at,lon_bin,lat_bin,cell,region,sub-region,city,"
        "land_cover,road_index,drive_side,creator_username,creator_id\n"
        "3859149887465501,18.58,98.98,https://scontent.xx/o1,TH,abc,1551265433000,9,5,7,Chiang Mai,x,y,1,2,1,jo,116\n"
    )
    assert first_row(tmp_path, text, "id") == {
        "id": "3859149887465501",
        "latitude": 18.58,
        "longitude": 98.98,
        "author": "116",
        "attribution": "jo",
        "url": "https://scontent.xx/o1",
        "country": "TH",
        "region": "Chiang Mai",
        "captured_at": "2019-02-27T11:03:53Z",
    }


def test_published_scenes_are_read_as_they_are(tmp_path):
    text = (
        "IMG_ID,LAT,LON,S16_Label,S3_Label,S365_Label,Prob_indoor,Prob_natural,Prob_urban\n"
        "a/1.jpg,1,2,7,0,150,0.90,1e-5,\n"
    )
    assert first_row(tmp_path, text, "id") == {
        "id": "a/1",
        "latitude": 1.0,
        "longitude": 2.0,
        "author": "",
        "s3_label": "0",
        "s16_label": "7",
        "s365_label": "150",
        "prob_indoor": "0.90",
        "prob_natural": "1e-5",
        "prob_urban": "",
    }


def test_a_scene_that_is_none_is_named_with_its_table_unless_its_row_is_of_no_use(tmp_path):
    file = table(tmp_path, "IMG_ID,LAT,LON,S3_Label\na.jpg,1,2,0\nb.jpg,3,4,7\n")
    with pytest.raises(ValueError, match=r"table '.*table\.csv': photo 'b' has the s3_label '7': it must be a whole"):
        photo_tables.read(file, "id")
    assert first_row(tmp_path, "IMG_ID,LAT,LON,S3_Label\na.jpg,1,2,0\nb.jpg,,4,7\n", "id")["s3_label"] == "0"


@pytest.mark.parametrize(("times", "expected"), [("2024", "2024"), ("1551265433000", "2019-02-27T11:03:53Z"), ("", "")])
def test_only_milliseconds_become_times(tmp_path, times, expected):
    assert first_row(tmp_path, f"path,lat,lon,captured_at\na.jpg,1,2,{times}\n")["captured_at"] == expected


def test_a_name_is_the_author_where_no_id_is(tmp_path):
    assert first_row(tmp_path, "path,lat,lon,username\na.jpg,1,2,jo\n")["author"] == "jo"
    row = first_row(tmp_path, "path,lat,lon,username,user_id\na.jpg,1,2,jo,7\n")
    assert (row["author"], row["attribution"]) == ("7", "jo")


def test_our_own_heading_wins_over_other_spellings(tmp_path):
    row = first_row(tmp_path, "path,image,lat,lon,user_id,author\na.jpg,x,1,2,7,ann\n")
    assert (row["path"], row["author"]) == ("a.jpg", "ann")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,lat,GPSLatitude,lon\na.jpg,1,1,2\n", r"could be latitude: lat, GPSLatitude\. Rename the right"),
        ("path,Path,lat,lon\na.jpg,a.jpg,1,2\n", "several columns that could be path: path, Path"),
    ],
)
def test_ambiguous_headings_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        photo_tables.read(table(tmp_path, text), "path")


@pytest.mark.parametrize(
    ("text", "locates", "message"),
    [
        ("a.jpg,1,2\n", "path", r"no column for path, latitude, longitude\. It has: a\.jpg, 1, 2\. It needs path, lat"),
        ("", "path", "It has: nothing. It needs path, latitude and longitude"),
        ("id,url,lat\n1,http://a.b/c,1\n", "url", r"no column for longitude\. It has: id, url, lat"),
        ("id,lat,lon\n1,1,2\n", "url", r"no column for url\. .*It needs url, latitude and longitude"),
        ("url,name\nhttp://a.b/c,1\n", "id", r"no column for id, latitude, longitude"),
        ("1,http://a.b/c,48.5,2.25\n", "url", r"no column for url\. It has: 1, http"),
    ],
)
def test_missing_headings_are_an_error_that_says_what_was_found(tmp_path, text, locates, message):
    with pytest.raises(ValueError, match=message):
        photo_tables.read(table(tmp_path, text), locates)


def test_the_published_urls_of_mp16_have_no_headings(tmp_path):
    text = "3f/a9/3657285366.jpg,http://farm4.static.flickr.com/3367/36_f.jpg\nb/4.jpg,https://x.org/4.jpg\n"
    read = photo_tables.read(table(tmp_path, text, "mp16_urls.csv"), "url")
    assert read.notes == ["mp16_urls.csv has no headings: it was read as ids and URLs"]
    assert read.rows["id"].tolist() == ["3f/a9/3657285366", "b/4"]
    assert read.rows["url"].tolist() == ["http://farm4.static.flickr.com/3367/36_f.jpg", "https://x.org/4.jpg"]
    assert read.rows[["latitude", "longitude"]].isna().all(axis=None)
    assert read.left_out == {}


def test_urls_alone_get_ids_from_their_paths(tmp_path):
    text = "url\nhttps://x.org/a/1.jpg?size=5\nhttps://x.org/a/2.jpg#top\nhttps://x.org/b/2.jpg\nhttps://x.org\n"
    read = photo_tables.read(table(tmp_path, text), "url")
    assert read.rows["id"].tolist() == ["a/1", "a/2", "b/2"]
    assert read.left_out == {"no id": ["row 4"]}


def test_the_swapped_headings_of_the_published_tables_are_put_right_and_said(shared):
    path = shared / "published" / "meta" / "im2gps3k_places365.csv"
    read = photo_tables.read(path, "id")
    assert read.notes == [
        "the headings of latitude and longitude of im2gps3k_places365.csv are swapped: they were exchanged"
    ]
    known = pd.read_csv(shared / "photos" / "photos.csv", dtype={"id": str, "author": str})
    both = known[known["source"] == "im2gps3k"].merge(read.rows, on="id", suffixes=("", "_read"))
    assert len(both) == 2994
    for column in ("latitude", "longitude", "author"):
        assert (both[column] == both[f"{column}_read"]).all()


def test_every_published_table_of_im2gps_is_put_right(shared):
    read = photo_tables.read(shared / "published" / "meta" / "im2gps_places365.csv", "path")
    assert len(read.notes) == 1
    assert len(read.rows) == 237
    assert read.rows["latitude"].abs().max() < 90 < read.rows["longitude"].abs().max()


def test_a_table_with_the_headings_of_the_published_one_is_put_right(tmp_path):
    names = [f"11111111{number}_0a1b2c3d4e_19_11111111@N00.jpg" for number in range(5)]
    rows = "".join(f"{name},11111111@N00,-12.5,130.25,1\n" for name in names)
    text = f"IMG_ID,AUTHOR,LON,LAT,S3_Label\n{rows}"
    read = photo_tables.read(table(tmp_path, text), "path")
    assert len(read.notes) == 1
    row = read.rows.set_index("path").loc[names[1]]
    assert (row["latitude"], row["longitude"], row["author"]) == (-12.5, 130.25, "11111111@N00")


@pytest.mark.parametrize(("beyond", "exchanged"), [(0, False), (2, False), (3, True), (30, True)])
def test_headings_are_exchanged_from_a_tenth_of_the_rows_on(tmp_path, beyond, exchanged):
    rows = "".join(f"{number}.jpg,{120 if number < beyond else 40},{30}\n" for number in range(30))
    read = photo_tables.read(table(tmp_path, "path,lat,lon\n" + rows), "path")
    assert bool(read.notes) == exchanged
    assert read.rows["latitude"].iloc[-1] == (30 if exchanged else 40)
    assert read.left_out == ({} if exchanged or not beyond else {"latitude beyond ±90": ["0.jpg", "1.jpg"]})


def test_headings_are_not_exchanged_where_a_row_would_be_wrong_then(tmp_path):
    rows = "".join(f"{number}.jpg,120,30\n" for number in range(9))
    read = photo_tables.read(table(tmp_path, f"path,lat,lon\n{rows}c.jpg,40,120\nd.jpg,1,2\n"), "path")
    assert read.notes == []
    assert len(read.left_out["latitude beyond ±90"]) >= 9


def test_rows_that_are_wrong_both_ways_neither_hinder_nor_cause_an_exchange(tmp_path):
    junk = "lat.jpg,200,30\nlon.jpg,30,200\nboth.jpg,120,100\nnone.jpg,,120\n"
    swapped = "".join(f"{number}.jpg,120,30\n" for number in range(9))
    read = photo_tables.read(table(tmp_path, f"path,lat,lon\n{swapped}{junk}"), "path")
    assert read.rows[["latitude", "longitude"]].to_numpy().tolist() == [[30, 120]] * 9
    assert read.left_out == {
        "coordinates missing or no numbers": ["none.jpg"],
        "latitude beyond ±90": ["lon.jpg", "both.jpg"],
        "longitude beyond ±180": ["lat.jpg"],
    }
    right = swapped.replace("120,30", "30,80")
    read = photo_tables.read(table(tmp_path, f"path,lat,lon\n{right}{junk * 3}"), "path")
    assert (read.notes, len(read.rows)) == ([], 9)


def test_few_rows_that_look_swapped_are_for_their_owner_to_judge(tmp_path):
    with pytest.raises(
        ValueError, match=r"row 'a' of the table .*latitude 95\.0.* look swapped\. If so, exchange them"
    ):
        photo_tables.read(table(tmp_path, "path,lat,lon\na.jpg,95,2\nb.jpg,48,2\n"), "path")


# Encodings and packing

TEXT = "path,lat,lon,author\r\nCafé/a.jpg,1,2,Zoë\r\nb.jpg,3,4,李\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("byte_order", ["", "-le", "-be"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_encodings_that_say_what_they_are_are_read(tmp_path, encoding, byte_order, pack):
    if byte_order and encoding != "utf-16":
        content = TEXT.encode(encoding)
    elif byte_order:
        content = ("\ufeff" + TEXT).encode(encoding + byte_order)
    else:
        content = TEXT.encode(encoding)
    rows = photo_tables.read(table(tmp_path, pack(content)), "path").rows
    assert rows["path"].tolist() == ["Café/a.jpg", "b.jpg"]
    assert rows["author"].tolist() == ["Zoë", "李"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("latin-1", "replace"), "no sound CSV file in UTF-8: line 2 is not in UTF-8"),
        (TEXT.encode("utf-16-le"), "no sound CSV file in UTF-8: it looks like UTF-16"),
        (TEXT.encode("utf-16")[:-1], "no sound CSV file in UTF-8"),
        (gzip.compress(TEXT.encode())[:-12], "no sound CSV file in UTF-8"),
        (gzip.compress(TEXT.encode())[:12] + b"\xff" * 40, "no sound CSV file in UTF-8"),
        (gzip.compress(b"a" * (1 << 26)), "unpacks to more than 32 MiB, which no table does"),
        (gzip.compress(b"path,lat,lon\n" + b"a.jpg,1,2\n" * (1 << 22)), "unpacks to more than 32 MiB"),
        (b"path,lat,lon\n" + b"a" * (1 << 26), "a line of more than 16 MiB"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "no column for"),
    ],
    ids=["latin-1", "no mark", "half", "cut", "noise", "bomb", "bomb of rows", "endless line", "photo"],
)
def test_what_is_no_table_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"table '.*table\.csv' .*{message}"):
        photo_tables.read(table(tmp_path, content), "path")


def test_an_absent_table_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.csv' cannot be read: No such file"):
        photo_tables.read(tmp_path / "nowhere.csv", "path")


def test_an_unknown_locator_is_refused(tmp_path):
    with pytest.raises(ValueError, match="locates is 'name': it must be one of path, url, id"):
        photo_tables.read(table(tmp_path, TEXT), "name")


# Rows


def test_comments_and_empty_lines_are_passed_over(tmp_path):
    read = photo_tables.read(table(tmp_path, "# dataset: a, b\n#\n\npath,lat,lon\n\na.jpg,1,2\n\n"), "path")
    assert read.rows["path"].tolist() == ["a.jpg"]
    assert read.left_out == {}


def test_text_in_quotes_may_hold_commas_quotes_and_lines(tmp_path):
    text = 'title,path,lat,lon\n"one,\ntwo\n""three""",a.jpg,1,2\n5" wide,b.jpg,1,2\n'
    read = photo_tables.read(table(tmp_path, text), "path")
    assert read.rows["path"].tolist() == ["a.jpg", "b.jpg"]
    assert read.left_out == {}


def test_windows_separators_leading_dots_and_spaces_are_mended(tmp_path):
    read = photo_tables.read(table(tmp_path, "path,lat,lon\na\\b\\c.jpg, 1 ,+2\n ./d.jpg,1.,2e0\n"), "path")
    assert read.rows["path"].tolist() == ["a/b/c.jpg", "d.jpg"]
    assert read.rows["longitude"].tolist() == [2, 2]


def test_bad_rows_are_left_out_and_named_by_their_lines(tmp_path):
    text = (
        "# a comment\npath,lat,lon\na.jpg,1,2\nb.jpg,1\nc.jpg,1,2,3\nd.jpg,1,2\n"
        '"e.jpg,1,2\nf.jpg,1,2\n"g.jpg",1,2\nh\0.jpg,1,2\n"i\n.jpg",1,2\nj.jpg,1,"2\nk.jpg,1,2\nl.jpg,1\n'
    )
    read = photo_tables.read(table(tmp_path, text), "path")
    assert read.rows["path"].tolist() == ["a.jpg", "d.jpg", "f.jpg", "g.jpg", "i\n.jpg", "k.jpg"]
    assert read.left_out == {
        "wrong number of columns": ["line 4", "line 5", "line 15"],
        "unbalanced quotes": ["line 7", "line 13"],
        "NUL bytes": ["line 10"],
    }


def test_lines_are_numbered_without_quotes_too(tmp_path):
    read = photo_tables.read(table(tmp_path, "#\npath,lat,lon\na.jpg,1,2\nb.jpg,1\nc.jpg,1,2\nd,4\n"), "path")
    assert read.left_out == {"wrong number of columns": ["line 4", "line 6"]}


def test_bad_coordinates_are_left_out_by_reason(tmp_path):
    values = {
        "": "coordinates missing or no numbers",
        "nan": "coordinates missing or no numbers",
        "inf": "coordinates missing or no numbers",
        "north": "coordinates missing or no numbers",
        "48°30'": "coordinates missing or no numbers",
        "95": "latitude beyond ±90",
        "1e99": "latitude beyond ±90",
        "0": "0° N 0° E, which means unknown",
    }
    rows = "".join(f"{value}.jpg,{value},0\n" for value in values) + "".join(f"{n},{n},{n}\n" for n in range(1, 80))
    read = photo_tables.read(table(tmp_path, f"path,lat,lon\n{rows}far.jpg,1,181\n"), "path")
    expected = {}
    for value, reason in values.items():
        expected.setdefault(reason, []).append(f"{value}.jpg")
    assert read.left_out == expected | {"longitude beyond ±180": ["far.jpg"]}
    assert len(read.rows) == 79


def test_repeated_and_unusable_ids_and_urls_are_left_out_and_counted(tmp_path):
    text = (
        "id,url,lat,lon\n1,http://a.b/1,1,2\n1,http://a.b/2,1,2\n2,http://a.b/1,1,2\n,http://a.b/3,1,2\n"
        '"4\t",http://a.b/4,1,2\n"4\t5",http://a.b/4,1,2\n5,ftp://a.b/5,1,2\n5,http://a.b/5,1,2\n6,,1,2\n7,http:///x,1,2\n'
        "8,file:///etc/passwd,1,2\n9,http://a.b/9\x07,1,2\n"
    )
    read = photo_tables.read(table(tmp_path, text), "url")
    assert read.rows["id"].tolist() == ["1", "4", "5"]
    assert read.left_out == {
        "id with a control character": ["4\t5"],
        "no http or https URL": ["5", "6", "7", "8", "9"],
        "no id": ["row 4"],
        "the id of an earlier row": ["1"],
        "the url of an earlier row": ["2"],
    }


def test_a_table_of_paths_keeps_what_its_owner_must_mend(tmp_path):
    read = photo_tables.read(table(tmp_path, "path,lat,lon\na.jpg,1,2\na.jpg,1,2\n,1,2\n../b.jpg,1,2\n"), "path")
    assert read.rows["path"].tolist() == ["a.jpg", "a.jpg", "", "../b.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,lat,lon\n", "no row that can be used: give one with rows below the headings"),
        ("path,lat,lon", "no row that can be used: give one"),
        ("path,lat,lon\na.jpg,1\nb,95,200\n", r"1 wrong number of columns \('line 2'\), 1 latitude beyond ±90 \('b'\)"),
    ],
)
def test_a_table_without_a_usable_row_is_an_error(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        photo_tables.read(table(tmp_path, text), "path")


@pytest.mark.parametrize("block", [16, 37, 64])
def test_rows_do_not_depend_on_where_a_piece_ends(tmp_path, monkeypatch, block):
    text = "path,lat,lon,title\n" + "".join(f'{n}.jpg,1,2,"a\n""{n}"",\n"\n"{n}b.jpg,1,2,t\n' for n in range(30))
    whole = photo_tables.read(table(tmp_path, text), "path")
    monkeypatch.setattr(photo_tables, "_BLOCK", block)
    pieces = photo_tables.read(table(tmp_path, text), "path")
    pd.testing.assert_frame_equal(pieces.rows, whole.rows)
    assert pieces.left_out == whole.left_out
    assert whole.left_out == {"unbalanced quotes": [f"line {5 + 4 * n}" for n in range(30)]}
    assert len(whole.rows) == 30


def test_quotes_within_quoted_values_do_not_make_lines_be_read_again_and_again(tmp_path, monkeypatch):
    rows = "".join(f'{n}.jpg,1,2,"a 5" wide"\n' for n in range(500))
    read_lines = 0
    reader = csv.reader

    def counting(lines, **options):
        def counted():
            nonlocal read_lines
            for line in lines:
                read_lines += 1
                yield line

        return reader(counted(), **options)

    monkeypatch.setattr(csv, "reader", counting)
    monkeypatch.setattr(photo_tables, "_BLOCK", 100)
    sizes = []
    has_open_quotes = photo_tables._has_open_quotes
    monkeypatch.setattr(photo_tables, "_has_open_quotes", lambda text: sizes.append(len(text)) or has_open_quotes(text))
    read = photo_tables.read(table(tmp_path, f"path,lat,lon,title\n{rows}b.jpg,1,2,t\n"), "path")
    assert read.rows["path"].tolist() == ["b.jpg"]
    assert read.left_out == {"unbalanced quotes": [f"line {2 + n}" for n in range(500)]}
    assert read_lines < 1100
    assert max(sizes) < 200  # no piece waits for the next one


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=6).map(str.strip)


@given(st.lists(st.tuples(cell, cell), min_size=1, max_size=20), st.sampled_from(",;\t"), st.integers(80, 200))
@settings(max_examples=100, deadline=None)
def test_what_the_csv_module_writes_is_read_whole(tmp_path_factory, rows, separator, block):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    writer.writerow(["author", "path", "licence", "latitude", "longitude"])
    for number, (author, licence) in enumerate(rows):
        writer.writerow([author, f"{number}.jpg", licence, 1, number + 2])
    file = table(tmp_path_factory.mktemp("tables"), buffer.getvalue())
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setattr(photo_tables, "_BLOCK", block)
        read = photo_tables.read(file, "path")
    assert read.left_out == {}
    assert list(zip(read.rows["author"], read.rows["licence"], strict=True)) == rows


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_rows_or_an_error_that_names_the_table(tmp_path_factory, noise):
    file = table(tmp_path_factory.mktemp("tables"), b"path,lat,lon\na.jpg,1,2\n" + noise + b"\nb.jpg,3,4\n")
    try:
        read = photo_tables.read(file, "path")
    except ValueError as error:
        problem = error
    else:
        problem = None
        assert read.rows["path"].iloc[0] == "a.jpg"
    assert problem is None or "table.csv" in str(problem)


@given(st.lists(st.text("a./\n", max_size=6), unique=True, max_size=12))
@settings(deadline=None)
def test_ids_are_paths_without_suffixes_where_these_are_not_needed(names):
    stems = [posixpath.splitext(name)[0] for name in names]
    ids = photo_tables.ids(pd.Series(names, dtype=str)).tolist()
    assert len(set(ids)) == len(names)
    assert all(found in pair for found, pair in zip(ids, zip(names, stems, strict=True), strict=True))
    if len(set(stems)) == len(stems):
        assert ids == stems


# Two tables


def test_urls_and_truth_are_joined_by_id(tmp_path):
    urls = photo_tables.read(
        table(tmp_path, "a/1.jpg,http://x.y/1\na/2.jpg,http://x.y/2\na/3.jpg,http://x.y/3\n", "urls.csv"), "url"
    )
    truth = photo_tables.read(
        table(
            tmp_path,
            "IMG_ID,AUTHOR,LAT,LON,S3_Label\na/3.jpg,c,5,6,0\na/1.JPG,a,1,2,1\na/9.jpg,d,7,8,2\nb,b,99,100,0\n",
        ),
        "id",
    )
    both = photo_tables.joined(urls, truth)
    assert both.rows[["id", "url", "latitude", "longitude", "author"]].to_numpy().tolist() == [
        ["a/1", "http://x.y/1", 1, 2, "a"],
        ["a/3", "http://x.y/3", 5, 6, "c"],
    ]
    assert both.left_out == {"latitude beyond ±90": ["b"], "no coordinates": ["a/2"], "no URL": ["a/9"]}
    assert both.notes == ["urls.csv has no headings: it was read as ids and URLs"]


def test_what_the_truth_does_not_know_stays_as_the_urls_have_it(tmp_path):
    urls = photo_tables.read(
        table(tmp_path, "id,url,author,licence\n1,http://x/1,ann,CC0\n2,http://x/2,bob,CC0\n"), "url"
    )
    truth = photo_tables.read(table(tmp_path, "id,lat,lon,author,country\n1,1,2,,FR\n2,3,4,joe,DE\n"), "id")
    rows = photo_tables.joined(urls, truth).rows
    assert rows["author"].tolist() == ["ann", "joe"]
    assert rows["licence"].tolist() == ["CC0", "CC0"]
    assert rows["country"].tolist() == ["FR", "DE"]


def test_tables_that_do_not_belong_together_are_an_error(tmp_path):
    urls = photo_tables.read(table(tmp_path, "id,url\n1,http://x/1\n", "urls.csv"), "url")
    truth = photo_tables.read(table(tmp_path, "id,lat,lon\n2,3,4\n"), "id")
    with pytest.raises(ValueError, match="no id in common: one has '1', the other '2'"):
        photo_tables.joined(urls, truth)


# JSON


@pytest.mark.parametrize(
    "document",
    [
        '{"lat": 48.5, "lng": 2.25}',
        '{"latitude": "48.5", "longitude": "2.25", "image": "a.jpg"}',
        '{"position": {"lat": 48.5, "lon": 2.25}}',
        '\ufeff {"lat": 48.5, "lng": 2.25}'.replace("\ufeff", ""),
    ],
)
def test_positions_are_found_in_json(document):
    assert photo_tables.from_json(document.encode()) == {"latitude": 48.5, "longitude": 2.25}


def test_what_json_knows_beside_the_position_is_text():
    document = (
        b'{"lat": 1, "lon": 2, "creator_id": 7, "captured_at": 1551265433000, "country": "F\\nR", "id": "x", "a": []}'
    )
    assert photo_tables.from_json(document) == {
        "latitude": 1.0,
        "longitude": 2.0,
        "author": "7",
        "captured_at": "2019-02-27T11:03:53Z",
        "country": "F R",
    }


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "broken JSON"),
        (b"[1, 2]", "broken JSON"),
        (b'{"lat": 1', "broken JSON"),
        (b"\xff\xfe", "broken JSON"),
        (b"[" * 100_000, "broken JSON"),
        (b"9" * 5000, "broken JSON"),
        (b'{"lat": 1}', "no coordinates"),
        (b'{"lat": null, "lon": 2}', "no coordinates"),
        (b'{"lat": NaN, "lon": 2}', "coordinates missing or no numbers"),
        (b'{"lat": "north", "lon": 2}', "coordinates missing or no numbers"),
        (b'{"lat": 1' + b"0" * 400 + b', "lon": 2}', "coordinates missing or no numbers"),
        (b'{"lat": 95, "lon": 2}', "latitude beyond ±90"),
        (b'{"lat": 1, "lon": -200}', "longitude beyond ±180"),
        (b'{"lat": 0, "lon": 0.0}', "0° N 0° E, which means unknown"),
    ],
)
def test_json_without_a_position_gives_the_reason(document, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        photo_tables.from_json(document)


def test_problems_of_positions_have_the_shape_of_the_positions():
    problems = photo_tables.position_problems(np.zeros((2, 3)), np.ones((2, 3)))
    assert problems.shape == (2, 3)
    assert (problems == "").all()
