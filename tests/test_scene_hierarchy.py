import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import scene_hierarchy


def test_the_hierarchy_has_the_published_sums():
    table = scene_hierarchy.categories()
    assert table.index.tolist() == list(range(365))
    assert table["category"].is_unique
    groups, in_scenes = scene_hierarchy.group_memberships(), scene_hierarchy.scene_memberships()
    assert groups.sum(axis=0).tolist() == [44, 35, 31, 16, 17, 30, 33, 14, 31, 32, 25, 31, 36, 11, 37, 37]
    assert in_scenes.sum(axis=0).tolist() == [159, 80, 159]
    assert ((groups.sum(axis=1) > 1).sum(), (in_scenes.sum(axis=1) > 1).sum()) == (63, 33)
    assert groups.any(axis=1).all()
    assert (groups.sum(axis=1) == table["groups"].str.count("; ") + 1).all()  # no group is misspelt


@given(seed=st.integers(0, 2**32 - 1), evenness=st.floats(0.01, 10))
def test_every_level_sums_to_one_and_levels_agree_where_categories_have_one_scene(seed, evenness):
    one_scene = scene_hierarchy.scene_memberships().sum(axis=1) == 1
    shares = np.random.default_rng(seed).dirichlet([evenness] * 365, 4)
    for level in scene_hierarchy.aggregated(shares):
        np.testing.assert_allclose(level.sum(axis=1), 1)
    levels = scene_hierarchy.aggregated((shares + 1e-9) * one_scene)
    for scene in range(3):
        of_scene = levels.s16[:, scene == scene_hierarchy.SCENE_OF_GROUP].sum(axis=1)
        np.testing.assert_allclose(of_scene, levels.s3[:, scene], atol=1e-12)


def test_a_category_of_two_scenes_is_halved_whatever_its_groups():
    botanical_garden = int(scene_hierarchy.categories().query("category == 'botanical_garden'").index[0])
    levels = scene_hierarchy.aggregated(np.eye(365)[[botanical_garden]])
    assert levels.s3.tolist() == [[0, 0.5, 0.5]]
    assert levels.s16[0, [8, 9, 14]] == pytest.approx(1 / 3)


def test_labels_that_do_not_nest_are_listed_most_frequent_first():
    labels = pd.DataFrame({"s365_label": [40, 40, 40, 0], "s16_label": [0, 0, 14, 10], "s3_label": [0, 2, 2, 2]})
    found = scene_hierarchy.agreement(labels)
    assert found.shares == {"S365 to S16": 0.5, "S16 to S3": 0.75, "S365 to S3": 0.75}
    assert found.other_groups.to_numpy().tolist() == [["barn", "shopping and dining", 2]]
    assert found.other_scenes.to_numpy().tolist() == [["shopping and dining", "urban", 1]]
    pairs = scene_hierarchy.agreement(labels.assign(s16_label=[9, 8, 8, 0], s3_label=[0, 2, 2, 1])).other_scenes
    assert pairs["photos"].tolist() == [2, 1, 1]
    assert pairs["group"].tolist()[1:] == ["man-made elements in nature", "shopping and dining"]


def test_the_command_says_how_far_labels_follow_the_hierarchy(tmp_path, monkeypatch, capsys):
    (tmp_path / "truth.csv").write_text("id,s3_label,s16_label,s365_label\na,0,0,40\nb,1,14,40\n")
    monkeypatch.setattr(sys, "argv", ["scene_hierarchy", str(tmp_path / "truth.csv")])
    scene_hierarchy.main()
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[:2] == [["S365", "to", "S16:", "0.5000"], ["S16", "to", "S3:", "0.5000"]]
    assert ["barn", "shopping", "and", "dining", "1"] in said
    assert said[-1] == ["houses,", "gardens,", "farms", "natural", "1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,s3_label\na,0\n", r"truth\.csv lacks the column\(s\) s16_label, s365_label: add them"),
        (
            "s3_label,s16_label,s365_label\n0,0,0\n2,16,1\n",
            "the s16_label of row 2 below the headings is '16'.*0 to 15",
        ),
        ("s3_label,s16_label,s365_label\n-1,0,0\n", "the s3_label of row 1 below the headings is '-1'"),
        ("s3_label,s16_label,s365_label\n0,0,\n", "the s365_label of row 1 below the headings is 'nan'"),
    ],
)
def test_labels_that_are_none_are_named(tmp_path, content, message):
    (tmp_path / "truth.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        scene_hierarchy.read_labels(tmp_path / "truth.csv")


def test_the_official_labels_of_real_photos_follow_the_hierarchy(shared):
    shares, other_groups, other_scenes = scene_hierarchy.agreement(
        scene_hierarchy.read_labels(shared / "photos" / "photos.csv")
    )
    assert shares["S365 to S16"] == pytest.approx(0.9155, abs=5e-5)
    assert shares["S16 to S3"] == pytest.approx(0.9665, abs=5e-5)
    assert other_groups["photos"].sum() == 3883 - round(0.9155 * 3883)
    assert other_scenes["photos"].sum() == 130
