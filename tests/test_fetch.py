import hashlib
import os
import shutil

import numpy as np
import pandas as pd
import photo_server
import pytest

from helpers import cluster, data_lists, datasets, download, fetch, paths, toy_earth


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A list of twelve photos of toy-earth, and the folder they lie in."""
    folder = tmp_path_factory.mktemp("rendered")
    sample = toy_earth.sample(12, seed=4)
    photos = sample[["id", "path", "latitude", "longitude", "author"]].assign(sha256=fetch.render(sample, folder))
    return data_lists.build(photos, seed=4, validation_share=0, test_share=0), folder


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_absent_photos_are_rendered_as_the_list_names_them(rendered, tmp_path, capsys):
    rows, folder = rendered
    assert fetch.ensure(rows, "toy-earth", tmp_path / "new") == tmp_path / "new"
    assert contents(tmp_path / "new") == contents(folder)
    assert "rendering 12 photos of toy-earth" in capsys.readouterr().out


def test_photos_that_are_there_stay_as_they_are(rendered, tmp_path, capsys):
    rows, _ = rendered
    fetch.ensure(rows, "toy-earth", tmp_path)
    (tmp_path / rows["path"][7]).unlink()
    kept = tmp_path / rows["path"][3]
    os.utime(kept, (1, 1))
    capsys.readouterr()
    fetch.ensure(rows, "toy-earth", tmp_path)
    assert "rendering 1 photos" in capsys.readouterr().out
    assert kept.stat().st_mtime == 1
    fetch.ensure(rows, "toy-earth", tmp_path)
    assert capsys.readouterr().out == ""


def test_photos_go_into_the_folder_of_the_dataset_by_default(rendered, root):
    assert fetch.ensure(rendered[0], "toy-earth", "") == paths.photos("toy-earth")
    assert len(contents(paths.photos("toy-earth"))) == 12


def test_processes_render_what_one_does(rendered, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(cluster, "_ITEMS_PER_TASK", 5)
    rows, folder = rendered
    assert fetch.render(rows, tmp_path) == rows["sha256"].tolist()
    assert contents(tmp_path) == contents(folder)


def test_a_photo_that_comes_out_differently_is_an_error_and_not_kept(rendered, tmp_path):
    rows = rendered[0].copy()
    rows.loc[2, "sha256"] = hashlib.sha256(b"other libraries").hexdigest()
    with pytest.raises(
        data_lists.ChangedPhoto, match=rf"1 of 12 rendered .*'{rows['id'][2]}'.*library versions"
    ) as caught:
        fetch.ensure(rows, "toy-earth", tmp_path)
    assert "papermill 01_data/make_list.ipynb out.ipynb -p dataset toy-earth" in str(caught.value)
    assert sorted(contents(tmp_path)) == sorted(rows["path"].drop(2))


def test_a_changed_photo_is_an_error_and_not_replaced(rendered, tmp_path):
    rows, _ = rendered
    fetch.ensure(rows, "toy-earth", tmp_path)
    (tmp_path / rows["path"][0]).write_bytes(b"edited")
    with pytest.raises(data_lists.ChangedPhoto, match=rows["path"][0]):
        fetch.ensure(rows, "toy-earth", tmp_path)
    assert (tmp_path / rows["path"][0]).read_bytes() == b"edited"


def test_an_absent_photo_of_a_folder_is_an_error_that_names_it(rendered, tmp_path):
    rows, _ = rendered
    with pytest.raises(data_lists.MissingPhotos, match=rf"12 of 12 photos .*'{rows['path'][0]}'"):
        fetch.ensure(rows, "mine", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_outside_the_photo_root(rendered, tmp_path):
    rows = pd.DataFrame(rendered[0]).assign(path=lambda table: "../" + table["path"])
    with pytest.raises(ValueError, match="escapes the photo root"):
        fetch.ensure(rows, "toy-earth", tmp_path / "photos")
    assert list(tmp_path.iterdir()) == []


def test_a_list_with_addresses_brings_its_photos_into_a_clone_that_has_none(root, capsys):
    with photo_server.running() as server:
        names = [f"photos/{number}.jpg" for number in range(20)]
        table = pd.DataFrame({"id": names, "url": [server.url(name) for name in names]})
        table = table.assign(latitude=41.9, longitude=np.linspace(0, 90, 20), author="")
        settings = download.Settings(short_side=48)
        download.run(download.Found("urls", table, local=True), paths.photos("mine"), settings)
        made = datasets.make_list("mine", seed=1)
        data_lists.write(made.rows, made.header | fetch.recipe("urls", settings), paths.data_list("mine"))
        shutil.rmtree(paths.photos("mine"))
        assert fetch.ensure(data_lists.read("mine"), "mine") == paths.photos("mine")
        assert "fetching 20 photos of the list" in capsys.readouterr().out
        fetch.ensure(data_lists.read("mine"), "mine")
        assert "fetching" not in capsys.readouterr().out
        assert set(server.requests().values()) == {2}


def test_a_header_that_says_nonsense_of_fetching_is_named(rendered, root):
    rows = rendered[0].assign(url="http://127.0.0.1:9/a.jpg")
    rows.attrs["fetched with"] = '{"short_side": "small"'
    with pytest.raises(ValueError, match=r"nothing sound under 'fetched with' .*restore the list"):
        fetch.ensure(rows, "mine")
