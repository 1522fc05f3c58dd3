import numpy as np
import pandas as pd
import pytest

from helpers import cluster, data_lists, enriching, places, toy_earth

HOUSTON, OFF_MARSEILLE, MID_ATLANTIC, BERLIN = (29.76, -95.37), (43.2, 5.2), (0.0, -30.0), (52.52, 13.4)


def photos(*coordinates, **columns):
    latitude, longitude = np.array(coordinates, dtype=float).T
    names = [f"photo-{number}" for number in range(len(coordinates))]
    rows = pd.DataFrame({"id": names, "latitude": latitude, "longitude": longitude, "split": "train"})
    return rows.assign(**columns)


def test_each_photo_gets_its_country_and_region_and_none_is_dropped():
    enriched = enriching.enrich(photos(HOUSTON, OFF_MARSEILLE, MID_ATLANTIC))
    assert enriched.rows["country"].tolist() == ["US", "FR", ""]
    assert enriched.rows["region"].tolist() == ["Texas, United States", "Bouches-du-Rhône, France", ""]
    assert enriched.state.tolist() == [enriching.INSIDE, enriching.OFFSHORE, enriching.NONE]
    assert enriched.offshore_km[0] == 0
    assert 5 < enriched.offshore_km[1] < 20
    assert np.isinf(enriched.offshore_km[2])
    assert list(enriching.counts(enriched).values()) == [1, 1, 0, 1, 0, 0]


def test_the_limit_says_how_far_off_a_coast_a_photo_belongs_to_it():
    enriched = enriching.enrich(photos(HOUSTON, OFF_MARSEILLE), offshore_km=5)
    assert enriched.rows["country"].tolist() == ["US", ""]


def test_a_photo_without_coordinates_is_kept_and_has_no_country():
    enriched = enriching.enrich(photos(HOUSTON, (np.nan, np.nan)))
    assert enriched.rows["country"].tolist() == ["US", ""]
    assert enriched.state[1] == enriching.NONE


def test_names_of_any_language_are_compared_with_the_coordinates():
    named = ["Vereinigte Staaten", "Frankreich", "Portugal", "Polen"]
    enriched = enriching.enrich(photos(HOUSTON, OFF_MARSEILLE, MID_ATLANTIC, BERLIN, country=named))
    # In the middle of an ocean the name is all there is; elsewhere the coordinate decides.
    assert enriched.rows["country"].tolist() == ["US", "FR", "PT", "DE"]
    assert enriched.rows["region"].tolist()[2:] == ["", "Berlin, Germany"]
    assert enriched.state[2] == enriching.NAMED
    assert enriched.disagreeing[["id", "named", "named_code", "country"]].to_numpy().tolist() == [
        ["photo-3", "Polen", "PL", "DE"]
    ]
    assert enriching.counts(enriched)["another country is named"] == 1


def test_a_name_that_no_country_goes_by_is_counted():
    enriched = enriching.enrich(photos(HOUSTON, MID_ATLANTIC, BERLIN, country=["Atlantis", "Atlantis", ""]))
    assert enriched.rows["country"].tolist() == ["US", "", "DE"]
    assert enriched.unknown_names.to_dict() == {"Atlantis": 2}
    assert enriching.counts(enriched)["the name is not known"] == 2


def test_countries_that_were_found_before_are_no_names():
    once = enriching.enrich(photos(HOUSTON, OFF_MARSEILLE, region=["elsewhere", "elsewhere"]))
    again = enriching.enrich(once.rows, offshore_km=0)
    assert once.rows["region"].tolist() == ["Texas, United States", "Bouches-du-Rhône, France"]
    assert again.rows["country"].tolist() == ["US", ""]
    assert again.state.tolist() == [enriching.INSIDE, enriching.NONE]
    assert again.rows.attrs[data_lists.LOCATED] == "by coordinate, up to 0 km off a coast"


def test_the_order_of_rows_changes_nothing():
    rows = photos(HOUSTON, OFF_MARSEILLE, MID_ATLANTIC, BERLIN)
    straight = enriching.enrich(rows).rows.set_index("id")
    reverse = enriching.enrich(rows[::-1]).rows.set_index("id")
    pd.testing.assert_frame_equal(straight, reverse[::-1])


def test_toy_earth_agrees_with_its_coarser_map_but_near_borders():
    rows = toy_earth.sample(2000, seed=1).assign(split="train")
    enriched = enriching.enrich(rows)
    assert len(enriched.disagreeing) < 0.01 * len(rows)
    assert (enriched.rows["country"] != "").all()


def test_a_killed_worker_changes_nothing(scheduler, monkeypatch):
    generator = np.random.default_rng(2)
    latitude, longitude = generator.uniform(-60, 75, 2000), generator.uniform(-180, 180, 2000)
    rows = photos(*zip(latitude, longitude, strict=True))
    with pytest.MonkeyPatch.context() as alone:
        alone.delenv(cluster.SCHEDULER)
        expected = enriching.enrich(rows)
    doomed, _ = scheduler(), scheduler()
    monkeypatch.setattr(places, "_COORDINATES_PER_TASK", 50)
    mapped = cluster.mapped
    killed: list[int] = []

    def killing(*arguments):
        for done, result in enumerate(mapped(*arguments)):
            if done == 5:
                doomed.kill()
                killed.append(doomed.wait())
            yield result

    monkeypatch.setattr(cluster, "mapped", killing)
    enriched = enriching.enrich(rows)
    assert killed == [-9]
    pd.testing.assert_frame_equal(enriched.rows, expected.rows)
    pd.testing.assert_series_equal(enriched.offshore_km, expected.offshore_km)
