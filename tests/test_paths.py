import errno

import pytest

from helpers import paths


def test_outputs_go_below_the_override(root):
    assert paths.run("mine") == root / "04_training" / "runs" / "mine"
    assert paths.data_list("mine") == root / "data-lists" / "mine.csv"


def test_outputs_go_beside_the_notebooks_by_default(monkeypatch):
    monkeypatch.delenv("PHOTO_GEOLOCATION_ROOT", raising=False)
    assert paths.results("run", "list") == paths.SOURCE / "05_evaluation" / "results" / "run" / "list"
    assert paths.notebook("04_training/train").is_file()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "x" * 101, "a b", "a\n"])
def test_a_name_cannot_leave_its_folder(name):
    with pytest.raises(ValueError, match="cannot name a dataset or a run"):
        paths.run(name)


def write_and_fail(target):
    with paths.replacing(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")


def write_to_a_full_disk(target):
    with paths.replacing(target) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("rows")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_and_fail(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("letter", ["a", "é", "李"])
def test_a_name_as_long_as_a_file_system_allows_is_written(tmp_path, letter):
    first, second = (tmp_path / f"{letter * (250 // len(letter.encode()))}{end}.jpg" for end in "12")
    with paths.replacing(first) as one, paths.replacing(second) as other:
        one.write_text("first")
        other.write_text("second")
        assert all(file.name.startswith(".") and file.name.endswith(".partial") for file in (one, other))
    assert [first.read_text(), second.read_text()] == ["first", "second"]
    assert sorted(tmp_path.iterdir()) == [first, second]


@pytest.mark.skipif(not paths.Path("/dev/full").exists(), reason="no /dev/full here to stand for a full disk")
def test_a_full_disk_leaves_nothing_behind(tmp_path):
    target = tmp_path / "table.csv"
    with pytest.raises(OSError, match="No space left"):
        write_to_a_full_disk(target)
    assert list(tmp_path.iterdir()) == []


def test_two_lists_of_one_dataset_are_an_error(root):
    (root / "data-lists").mkdir()
    for suffix in (".csv", ".csv.gz"):
        (root / "data-lists" / f"mine{suffix}").touch()
    with pytest.raises(ValueError, match=r"two lists of 'mine'.*keep one"):
        paths.data_list("mine")
