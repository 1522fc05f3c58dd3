"""A list gets the shares of a target: as many photos as that allows, always the same ones."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers import balancing, data_lists, exploring, places

NO_LIMITS = {"min_share": 0.0, "slack": 1.0, "max_photos_per_country": 0, "seed": 7}
CODES = ["DE", "FR", "GB", "JP", "KR", "NA", "NE", "NG", "US", "XK"]
SOME_PHOTOS = st.dictionaries(st.sampled_from(CODES), st.integers(1, 60), min_size=1)


def photos(counts, split="train"):
    """Rows of a list with so many photos of each country."""
    country = np.repeat(np.array(list(counts), dtype=object), list(counts.values()))
    identity = [f"photo-{number:04d}" for number in range(len(country))]
    rows = pd.DataFrame({"id": identity, "path": identity, "latitude": 10.0, "longitude": 20.0, "author": ""})
    rows = rows.assign(split=split, sha256="0" * 64, country=country)
    rows.attrs[data_lists.LOCATED] = "by hand"
    return rows


def in_splits(**counts):
    """Rows of a list with so many photos of each country in each split."""
    parts = [photos(of_split, split) for split, of_split in counts.items()]
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(id=[f"photo-{number:04d}" for number in range(len(rows))])


def uniform(rows):
    return balancing.target_shares("uniform", rows["country"])


def after(balanced):
    return balanced.table.set_index("country")["photos_after"].to_dict()


def written(tmp_path, text):
    file = tmp_path / "wanted.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_the_rarest_country_decides_and_each_gets_its_share():
    rows = photos({"US": 70, "FR": 20, "NG": 10})
    shares = pd.Series({"US": 0.5, "FR": 0.3, "NG": 0.2})
    balanced = balancing.balance(rows, shares, **NO_LIMITS)
    assert after(balanced) == {"US": 25, "FR": 15, "NG": 10}  # 10 / 0.2 = 50 photos
    assert balanced.rows["country"].value_counts().to_dict() == after(balanced)
    assert balanced.table.set_index("country")["limits"].to_dict() == {"US": False, "FR": False, "NG": True}
    assert balanced.left_out == {balancing.BEYOND_SHARE: 50}


def test_a_rare_country_takes_no_part_and_the_others_have_its_share():
    rows = photos({"US": 70, "FR": 29, "NG": 1})
    balanced = balancing.balance(rows, uniform(rows), **{**NO_LIMITS, "min_share": 0.05})
    assert after(balanced) == {"US": 29, "FR": 29, "NG": 0}
    row = balanced.table.set_index("country").loc["NG"]
    assert (row["left_out"], row["share_sought"]) == (balancing.TOO_RARE, 0)
    assert row["target_share"] == pytest.approx(1 / 3)
    assert balanced.left_out == {balancing.TOO_RARE: 1, balancing.BEYOND_SHARE: 41}


def test_a_country_just_short_of_the_minimum_gives_all_it_has_and_limits_nobody_else():
    rows = photos({"US": 70, "FR": 22, "NG": 8})
    balanced = balancing.balance(rows, uniform(rows), **{**NO_LIMITS, "min_share": 0.1, "slack": 0.8})
    assert after(balanced) == {"US": 10, "FR": 10, "NG": 8}  # as if Niger had its 10 per cent
    strict = balancing.balance(rows, uniform(rows), **{**NO_LIMITS, "min_share": 0.1, "slack": 0.81})
    assert after(strict) == {"US": 22, "FR": 22, "NG": 0}


def test_the_cap_comes_last_and_lowers_only_those_above_it():
    rows = photos({"US": 70, "FR": 20, "NG": 10})
    shares = pd.Series({"US": 0.5, "FR": 0.3, "NG": 0.2})
    balanced = balancing.balance(rows, shares, **{**NO_LIMITS, "max_photos_per_country": 12})
    assert after(balanced) == {"US": 12, "FR": 12, "NG": 10}
    assert balanced.left_out == {balancing.BEYOND_SHARE: 50, balancing.BEYOND_CAP: 16}


def test_photos_without_a_place_in_the_target_are_counted_by_reason():
    rows = photos({"US": 6, "FR": 3, "": 2})
    balanced = balancing.balance(rows, pd.Series({"US": 1.0, "JP": 0.0}), **NO_LIMITS)
    assert balanced.left_out == {balancing.NO_COUNTRY: 2, balancing.NOT_IN_TARGET: 3}
    assert after(balanced) == {"US": 6, "FR": 0, "JP": 0}
    assert balanced.table["share_before"].tolist() == pytest.approx([6 / 9, 3 / 9, 0])


def test_training_decides_and_the_other_splits_follow_as_far_as_they_can():
    rows = in_splits(train={"US": 60, "FR": 20}, validation={"US": 8, "FR": 8}, test={"US": 30, "FR": 1, "JP": 9})
    balanced = balancing.balance(rows, pd.Series({"US": 0.5, "FR": 0.25, "JP": 0.25}), **NO_LIMITS)
    # Japan has no training photo, so two thirds and one third are sought: 20 / (1/3) = 60 photos in training, and in
    # the others 60 / 80 of their 16 and 40.
    by_split = balanced.rows.groupby(["split", "country"]).size()
    assert by_split.to_dict() == {
        ("train", "US"): 40, ("train", "FR"): 20,
        ("validation", "US"): 8, ("validation", "FR"): 4,
        ("test", "US"): 20, ("test", "FR"): 1,
    }  # fmt: skip
    table = balanced.table.set_index("country")
    assert table.loc["FR", ["photos_after", "held_out_before", "held_out_after"]].tolist() == [20, 9, 5]
    assert table.loc["JP", "left_out"] == balancing.TOO_RARE
    assert balanced.left_out == {balancing.TOO_RARE: 9, balancing.BEYOND_SHARE: 20 + 4 + 10}


def test_the_cap_is_of_all_splits_together():
    rows = in_splits(train={"US": 60, "FR": 20}, test={"US": 20, "FR": 20})
    balanced = balancing.balance(rows, uniform(rows), **{**NO_LIMITS, "max_photos_per_country": 10})
    by_split = balanced.rows.groupby(["split", "country"]).size()
    assert by_split.to_dict() == {("train", "US"): 7, ("train", "FR"): 7, ("test", "US"): 3, ("test", "FR"): 3}


def test_without_training_photos_all_of_them_decide():
    rows = in_splits(validation={"US": 5, "FR": 1}, test={"US": 5, "FR": 2})
    assert after(balancing.balance(rows, uniform(rows), **NO_LIMITS)) == {"US": 3, "FR": 3}


def test_a_list_without_countries_is_located():
    rows = photos({"": 3}).drop(columns="country")
    rows.attrs.clear()
    rows[["latitude", "longitude"]] = [[48.86, 2.35], [35.68, 139.69], [0.0, -30.0]]
    balanced = balancing.balance(exploring.located(rows), pd.Series({"FR": 0.5, "JP": 0.5}), **NO_LIMITS)
    assert balanced.rows["id"].tolist() == ["photo-0000", "photo-0001"]
    assert balanced.rows["region"].tolist() == ["Paris, France", "Tokyo, Japan"]


def test_the_photos_that_stay_are_always_the_same():
    rows = photos({"US": 40, "FR": 3})
    balanced = balancing.balance(rows, uniform(rows), **NO_LIMITS)
    american = balanced.rows["id"][balanced.rows["country"] == "US"]
    # Of `printf "7 photo-0000" | sha256sum` and so on, the three smallest.
    assert american.tolist() == ["photo-0013", "photo-0016", "photo-0028"]


@given(SOME_PHOTOS, st.randoms(), st.integers(0, 2**32))
def test_neither_the_order_of_rows_nor_other_photos_change_what_stays(counts, random, seed):
    rows = photos({**counts, "BR": 5})
    shares = pd.Series({code: 1 / len(counts) for code in counts})
    order = random.sample(range(len(rows)), len(rows))
    settings = {**NO_LIMITS, "seed": seed}
    ids = set(balancing.balance(rows, shares, **settings).rows["id"])
    assert set(balancing.balance(rows.iloc[order], shares, **settings).rows["id"]) == ids
    assert set(balancing.balance(rows[rows["country"] != "BR"], shares, **settings).rows["id"]) == ids


@given(SOME_PHOTOS, st.floats(0, 0.3), st.floats(0.05, 1), st.integers(0, 30), st.data())
def test_shares_are_met_by_the_countries_that_can(counts, min_share, slack, cap, data):
    weights = {code: data.draw(st.integers(0, 9), label=code) for code in counts}
    assume(sum(weights.values()))
    rows, total = photos(counts), sum(counts.values())
    shares = pd.Series(weights) / sum(weights.values())
    taking_part = [code for code in counts if weights[code] and counts[code] >= slack * min_share * total - 1e-6]
    settings = {"min_share": min_share, "slack": slack, "max_photos_per_country": cap, "seed": 7}
    if not taking_part:
        with pytest.raises(ValueError, match="no country of the target has"):
            balancing.balance(rows, shares, **settings)
        return
    balanced = balancing.balance(rows, shares, **settings)
    table = balanced.table.set_index("country")
    assert len(balanced.rows) == table["photos_after"].sum()
    assert len(balanced.rows) + sum(balanced.left_out.values()) == len(rows)
    assert set(table.index[table["left_out"] == ""]) == set(taking_part)
    assert table["share_sought"].sum() == pytest.approx(1)
    size = min(max(counts[code], min_share * total) / table["share_sought"][code] for code in taking_part)
    for code in taking_part:
        goal = table["share_sought"][code] * size
        got = table["photos_after"][code]
        assert got <= min(counts[code], cap or 10**9)
        assert got >= min(slack * goal, cap or 10**9) - 0.51
        if counts[code] >= min_share * total and not cap:
            assert abs(got - goal) <= 0.51


@given(SOME_PHOTOS, st.integers(1, 40), st.integers(1, 40))
def test_fewer_photos_are_some_of_more(counts, one, other):
    rows = photos(counts)
    kept = [
        set(balancing.balance(rows, uniform(rows), **{**NO_LIMITS, "max_photos_per_country": cap}).rows["id"])
        for cap in sorted((one, other))
    ]
    assert kept[0] <= kept[1]


@given(SOME_PHOTOS, st.floats(0, 0.3), st.floats(0, 0.3))
def test_a_higher_minimum_leaves_fewer_countries_with_no_fewer_photos_each(counts, one, other):
    rows = photos(counts)
    low, high = sorted((one, other))
    assume(high * sum(counts.values()) <= max(counts.values()))
    few, many = (
        balancing.balance(rows, uniform(rows), **{**NO_LIMITS, "min_share": min_share}).table.set_index("country")
        for min_share in (high, low)
    )
    staying = few.index[few["photos_after"] > 0]
    assert set(staying) <= set(many.index[many["photos_after"] > 0])
    assert (few["photos_after"][staying] >= many["photos_after"][staying]).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"min_share": 1.0}, "min_share is 1.0"),
        ({"min_share": -0.1}, "min_share is -0.1"),
        ({"min_share": float("nan")}, "min_share is nan"),
        ({"slack": 0.0}, "slack is 0.0"),
        ({"slack": 1.2}, "slack is 1.2"),
        ({"max_photos_per_country": -1}, "max_photos_per_country is -1"),
    ],
)
def test_a_parameter_out_of_range_is_refused(setting, message):
    rows = photos({"US": 2})
    with pytest.raises(ValueError, match=message):
        balancing.balance(rows, uniform(rows), **{**NO_LIMITS, **setting})


def test_what_would_leave_nothing_shows_the_largest_countries():
    rows = photos({"US": 12, "FR": 9, "DE": 3, "JP": 30})
    shares = pd.Series({"US": 0.4, "FR": 0.4, "DE": 0.2})
    with pytest.raises(
        ValueError,
        match=r"no country of the target has 30 % .* of the 54 training photos .*: US 22 %, FR 17 %, DE 5\.6 %\. Lower",
    ):
        balancing.balance(rows, shares, **{**NO_LIMITS, "min_share": 0.3})


def test_a_list_that_lies_at_sea_is_refused():
    with pytest.raises(ValueError, match=r"no training photo of the list has a country.*01_data/enrich"):
        balancing.balance(photos({"": 3}), pd.Series({"US": 1.0}), **NO_LIMITS)


def test_uniform_is_over_the_countries_of_the_list():
    shares = balancing.target_shares("uniform", ["US", "US", "NA", "", "XK"])
    assert shares.to_dict() == pytest.approx({"NA": 1 / 3, "US": 1 / 3, "XK": 1 / 3})
    with pytest.raises(ValueError, match="'uniform' has no photo with a country"):
        balancing.target_shares("uniform", [""])


def test_a_target_can_be_another_list(root):
    wanted = photos({"": 4}).assign(latitude=[-22.56, -22.57, 0.0, 42.66], longitude=[17.08, 17.08, -30.0, 21.17])
    data_lists.write(wanted, {"dataset": "wanted"}, root / "data-lists" / "wanted.csv")
    assert balancing.target_shares("wanted", []).to_dict() == pytest.approx({"NA": 2 / 3, "XK": 1 / 3})
    assert balancing.sources("wanted") == {"target": root / "data-lists" / "wanted.csv"}
    with pytest.raises(data_lists.MissingList, match="Did you mean 'wanted'"):
        balancing.target_shares("wnated", [])


@pytest.mark.parametrize(
    "text",
    [
        "country,share\nNA,0.5\nKosovo,0.25\nBurma,0.25\nTonga,0\n",
        "Country , Share\nNamibia,50\nXK,25.02\nMyanmar,25\n",
        "country,photos\nNA,2e6\nKosova,1000000\nMM,1000000\n",
        "\ufeffphotos,note,country\n2,,NA\n1,,Kosovo\n1,,Myanmar (Burma)\n",
    ],
)
def test_a_target_can_be_a_table(tmp_path, text):
    target = written(tmp_path, text)
    assert balancing.target_shares(target, []).to_dict() == pytest.approx({"NA": 0.5, "XK": 0.25, "MM": 0.25}, abs=1e-3)
    assert balancing.target_shares(target, []).sum() == pytest.approx(1, abs=1e-12)
    assert balancing.sources(target) == {"target": tmp_path / "wanted.csv"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("country,share\nFrance,0.5\nSlovania,0.5\n", r"row 3 of .*names no country .*'Slovania', did you"),
        ("country,share\nFrance,0.5\n,0.5\n", "row 3 .* names no country that is known, ''"),
        ("country,share\nFR,0.5\nJP,0.2\nLa France,0.3\n", "row 4 .* second time, 'La France', which is FR as 'FR'"),
        ("country,share\nFR,0.5\nJP,0.4\n", "add up to 0.9: .* 1, or to 100"),
        ("country,share\nFR,50\nJP,60\n", "add up to 110"),
        ("country,share\nFR,1.5\nJP,-0.5\n", "row 3 .* the share '-0.5' of 'JP': it must be a number"),
        ("country,share\nFR,1\nJP,much\n", "row 3 .* the share 'much' of 'JP'"),
        ("country,share\nFR,1\nJP,\n", "row 3 .* the share '' of 'JP'"),
        ("country,share\nFR,inf\n", "the share 'inf' of 'FR'"),
        ("country,photos\nFR,0\n", "no photo with a country"),
        ("country,share\n", "add up to 0"),
        ("country,weight\nFR,1\n", "has the columns country, weight: it needs country, and share or photos"),
        ("country,share,photos\nFR,1,1\n", "needs country, and share or photos"),
        ("country,share,Share\nFR,1,1\n", "needs country, and share or photos"),
        ("country,photos,photos\nFR,1,1\n", "needs country, and share or photos"),
        ("country,share\nFR,0.5\n\n\nJP,x\n", "row 5 .* the share 'x' of 'JP'"),
        ("", "cannot be read as a CSV file"),
        ("country,share\nFR,1,2\n\"", "cannot be read as a CSV file"),
    ],
)  # fmt: skip
def test_a_table_that_is_no_target_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        balancing.target_shares(written(tmp_path, text), [])


def test_a_misspelt_country_of_a_target_is_told(tmp_path, capsys):
    target = written(tmp_path, "country,photos\nGermny,1\nFrance,1\n")
    assert balancing.target_shares(target, []).to_dict() == {"DE": 0.5, "FR": 0.5}
    assert capsys.readouterr().out == "row 2 of the target wanted.csv: 'Germny' is taken for Germany\n"


def test_a_header_names_a_target_by_its_hash(tmp_path):
    target = written(tmp_path, "country,photos\nFR,1\n")
    assert balancing.described(target).startswith("wanted.csv, SHA-256 ")
    assert balancing.described("uniform") == "uniform"
    assert balancing.sources("uniform") == {}


def test_a_table_in_another_encoding_or_none_at_all_is_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes("country,share\nTürkiye,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.csv cannot be read as a CSV file in UTF-8"):
        balancing.target_shares(str(tmp_path / "latin.csv"), [])
    with pytest.raises(ValueError, match=r"there is no target .*absent\.csv"):
        balancing.target_shares(str(tmp_path / "absent.csv"), [])


def test_splits_are_counted_before_and_after():
    rows = in_splits(train={"US": 8, "FR": 3, "": 1}, validation={"US": 2, "FR": 2})
    balanced = balancing.balance(rows, pd.Series({"US": 1.0}), **{**NO_LIMITS, "max_photos_per_country": 4})
    table = balancing.splits(rows, balanced.rows)
    assert table.index.tolist() == ["train", "validation"]
    assert table["photos_before"].tolist() == [12, 4]
    assert table["countries_before"].tolist() == [2, 2]
    assert table["photos_after"].tolist() == [3, 1]
    assert table.loc["train", "countries_after"] == 1


def test_every_country_of_a_coordinate_can_be_balanced():
    rows = photos(dict.fromkeys(places.countries().index, 2))
    balanced = balancing.balance(rows, uniform(rows), **NO_LIMITS)
    assert len(balanced.rows) == len(rows)
    assert balanced.left_out == {}
