"""What is explained is what the run answers, by the networks that placed a photo, and the check of a map can fail."""

import dataclasses
import shutil

import finished_run
import numpy as np
import pandas as pd
import pytest
import torch

from helpers import (
    activation_maps,
    data_lists,
    explaining,
    exploring,
    fetch,
    inputs,
    map_checks,
    objectives,
    paths,
    places,
    plots,
    predict,
    read_outs,
    regions,
)
from helpers.models import Geolocator

DATASET = "toy-earth-tiny"
SMALL = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def copied(tiny, tmp_path_factory):
    """A copy of the tiny toy-earth, since runs are made in it: other tests share the first."""
    return shutil.copytree(tiny, tmp_path_factory.mktemp("explained"), dirs_exist_ok=True)


@pytest.fixture
def root(copied, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(copied))
    return copied


def loaded(name, image_size=64, seed=1, **given):
    torch.manual_seed(seed)
    if not (paths.run(name) / "manifest.json").exists():
        finished_run.made(name, architecture=SMALL, image_size=image_size, weights="none", **given)
    return paths.run(name)


@pytest.fixture
def run(root):
    return predict.load({"all": [loaded("first")]})["all"]


@pytest.fixture
def photos(root):
    rows = data_lists.read(DATASET)
    rows = exploring.located(rows[rows["split"] == "test"].reset_index(drop=True).assign(scene="urban"))
    return rows, fetch.ensure(rows, DATASET, "")


@pytest.mark.parametrize("level", ["auto", "f*", "coarse", "middle", "fine"])
def test_the_score_is_the_probability_that_the_run_answers_with(run, photos, level):
    explained = explaining.explainer(run, level)
    rows, root = photos
    views = torch.stack([inputs.PhotoViews(rows, root, 64, view="centre")[number] for number in range(6)])
    with torch.inference_mode():
        outputs = {name: scores[:, None] for name, scores in run.networks[0].model(views).items()}
    shares = explained.read_out.shares(read_outs.fuse(outputs))["f*" if level == "auto" else level]
    best = shares.max(dim=1)
    answers = explained.read_out({level: shares})[level] if level != "auto" else pd.DataFrame({"cell": best.indices})
    named = explained.named(answers)
    torch.testing.assert_close(named, best.indices)
    torch.testing.assert_close(explained.scores(views, named), best.values, rtol=1e-4, atol=1e-6)
    evidence, maps = explained.evidence(views, named), explained.maps(views, named)
    assert maps.shape == evidence.shape == (6, 64, 64)
    assert (evidence.abs().amax(dim=(1, 2)) == 1).all()
    assert ((maps > 0) == (evidence > 0)).all()


def test_a_single_photo_of_any_shape_gets_the_map_that_it_has_among_others(run, photos):
    rows, root = photos
    explained = explaining.explainer(run, "coarse")
    answers = pd.DataFrame({"id": rows["id"], "cell": 0})
    all_of_them = explaining.explain({"all": explained}, rows, root, answers, batch_size=4)
    path = rows["path"][3]
    view = explained.view(inputs.decode((root / path).read_bytes(), path, 64))
    np.testing.assert_array_equal(view[0].movedim(0, -1), all_of_them.views[3])
    alone = explained.maps(view, explained.named(answers[3:4]))[0]
    np.testing.assert_allclose(alone, all_of_them.maps[3], atol=1e-4)
    image = plots.overlaid(all_of_them.views[3], all_of_them.maps[3])
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)


def test_networks_that_answer_together_are_explained_together_at_the_largest_size(root, photos):
    folders = [loaded("first"), loaded("second", image_size=96, seed=2)]
    rows, root = photos
    answers = pd.DataFrame({"id": rows["id"], "cell": 1})
    both, first, second = (
        explaining.explainer(predict.load({"all": chosen})["all"], "fine")
        for chosen in (folders, folders[:1], folders[1:])
    )
    assert (both.image_size, [layer.grid for layer in both.layers]) == (96, [(2, 2), (3, 3)])
    found = explaining.explain({"all": both}, rows, root, answers, 8)
    assert {evidence.shape for evidence in found.evidence} == {(96, 96)}
    views = torch.from_numpy(np.stack(found.views)).movedim(-1, 1)
    named = both.named(answers)
    one = activation_maps.resized(first.evidence(inputs.photos.resize(views, 64), named), 96)
    expected = activation_maps.scaled((one + second.evidence(views, named)) / 2)
    np.testing.assert_allclose(np.stack(found.evidence), expected, atol=1e-4)


def test_a_photo_is_explained_by_the_network_of_its_scene(root, photos):
    rows, root = photos
    rows = rows.assign(scene=["indoor", "urban"] * (len(rows) // 2) + ["urban"] * (len(rows) % 2))
    runs = {"indoor": [loaded("first")], "urban": [loaded("second", image_size=96, seed=2)]}
    explainers = explaining.explainers(predict.load(runs))
    placed = predict.locate({scene: each.run for scene, each in explainers.items()}, rows, root, 8)
    found = explaining.explain(explainers, rows, root, placed.answers["f*"], 8)
    assert [len(view) for view in found.views] == [64 if scene == "indoor" else 96 for scene in rows["scene"]]
    facts = explaining.facts(explainers, rows, placed)
    assert facts["id"].tolist() == rows["id"].tolist()
    np.testing.assert_allclose(facts["confidence"], placed.answers["f*"]["confidence"])
    np.testing.assert_allclose(facts["radius_50_km"], placed.spread["radius_50_km"])
    assert facts["named"].str.match("cell [0-9a-f]+$").all()
    lines = explaining.described(explainers).splitlines()
    assert lines[1] == f"urban: {SMALL}, features of conv5 at 3 x 3 places, a photo's 96 pixels across"


def test_radii_are_told_of_the_best_founded_answer_alone(run, photos):
    rows, root = photos
    placed = predict.locate({"all": run}, rows[::-1], root, 8)
    facts = explaining.facts({"all": explaining.explainer(run, "coarse")}, rows[::-1], placed)
    assert facts["id"].tolist() == rows["id"].tolist()[::-1]
    assert facts["radius_50_km"].isna().all()
    np.testing.assert_allclose(facts["confidence"], placed.answers["coarse"]["confidence"])


def of_heads(outputs, classes, **settings):
    device = torch.device("cpu")
    model = Geolocator(SMALL, outputs, weights="none").eval()
    network = predict.Network({"image_size": 64, "classes": outputs, **settings}, model, device)
    return predict.Run((network,), classes, pd.DataFrame({"latitude": [1.0], "longitude": [2.0]}))


def test_a_vector_is_explained_by_how_far_it_reaches_towards_the_place():
    torch.manual_seed(1)
    explained = explaining.explainer(of_heads({"coordinates": 3}, {}))
    answers = pd.DataFrame({"predicted_latitude": [10.0, -40.0], "predicted_longitude": [100.0, -170.0]})
    named, views = explained.named(answers), torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(named, objectives.unit_vectors(torch.tensor(answers.to_numpy())).float())
    with torch.inference_mode():
        vectors = explained.run.networks[0].model(views)["coordinates"]
    torch.testing.assert_close(explained.scores(views, named), (vectors * named).sum(1))
    assert explained.maps(views, named).shape == (2, 64, 64)
    assert explained.score == "reach towards the place"


def test_two_plain_numbers_are_not_explained_and_it_is_said_why():
    with pytest.raises(ValueError, match=r"nothing says how sure.*explain a run with classes.*unit_vector_mse"):
        explaining.explainer(of_heads({"coordinates": 2}, {}))


def test_a_level_that_the_run_has_not_is_refused_with_the_nearest(run):
    with pytest.raises(
        ValueError, match=r"no level 'midle', did you mean 'middle'\? It has: coarse, middle, fine, f\*"
    ):
        explaining.explainer(run, "midle")


def test_a_network_without_places_is_refused_before_a_photo_is_read(run):
    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3 * 64 * 64, run.networks[0].model.feature_count)

        def forward(self, photos):
            return self.layer(photos.flatten(1))

    run.networks[0].model.backbone = Flat()
    with pytest.raises(ValueError, match=f"{SMALL} has no features or tokens that lie somewhere in a photo of 64"):
        explaining.explainers({"all": run})


def test_countries_are_called_by_name_and_regions_with_their_country():
    world = places.regions()
    table = pd.concat([world[world["country"] == code][["country", "region"]].head(1) for code in ("FR", "DE")])
    for name, expected in (("country", {"France", "Germany"}), ("region", set(table["region"]))):
        classes = regions.build(table, name, min_photos=1)
        explained = explaining.explainer(of_heads({name: 2}, {name: classes}))
        assert set(explaining._names(explained, pd.DataFrame({"cell": [0, 1]}))) == expected


PLACED = pd.DataFrame({"id": list("abcdef"), "confidence": [0.1, 0.6, 0.3, 0.6, 0.2, 0.1], "distance_km": range(6)})


def test_photos_are_chosen_whatever_the_order_of_the_rows():
    for which, count in (("random", 3), ("surest", 2), ("worst", 2)):
        one = explaining.choose(PLACED, PLACED, which, count, seed=7)["id"].tolist()
        two = explaining.choose(PLACED[::-1], PLACED.iloc[[3, 1, 5, 0, 2, 4]], which, count, seed=7)["id"].tolist()
        assert one == two
        assert len(one) == count
    assert explaining.choose(PLACED, PLACED, "surest", 2, seed=7)["id"].tolist() == ["b", "d"]
    assert explaining.choose(PLACED, PLACED, "f, a,f", 1, seed=7)["id"].tolist() == ["f", "a"]


@pytest.mark.parametrize(
    ("which", "count", "message"),
    [
        ("surst", 3, "'surst' is no test photo, did you mean 'surest'"),
        ("a,bb", 3, "'bb' is no test photo, did you mean 'b'"),
        ("", 3, "'' is no test photo"),
        ("random", 0, "0 photos to explain: take at least one"),
    ],
)
def test_photos_that_are_not_there_are_refused_with_the_nearest(which, count, message):
    with pytest.raises(ValueError, match=message):
        explaining.choose(PLACED, PLACED, which, count, seed=7)


class Brightness(torch.nn.Module):
    """Names the first class the more surely, the brighter the photo is: every place counts by its brightness alone."""

    architecture, has_map_branch, channels = "brightness", False, 3

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        self.heads = torch.nn.ModuleDict({"country": torch.nn.Linear(3, 2)})
        self.heads["country"].weight.data = torch.tensor([[1.0] * 3, [-1.0] * 3])
        self.register_buffer("mean", torch.full((3, 1, 1), 127.0))

    def features(self, photos):
        return self.backbone((photos - self.mean) / 128).flatten(1)

    def forward(self, photos):
        return {"country": self.heads["country"](self.features(photos))}


@pytest.fixture
def by_brightness():
    classes = regions.build(pd.DataFrame({"country": ["FR", "DE"], "region": ""}), "country", min_photos=1)
    run = of_heads({"country": 2}, {"country": classes})
    network = dataclasses.replace(run.networks[0], model=Brightness().eval())
    return {"all": explaining.explainer(dataclasses.replace(run, networks=(network,)))}


def test_what_the_map_points_to_counts_and_what_it_does_not_point_to_does_not(by_brightness, photos):
    rows, root = photos
    answers = pd.DataFrame({"id": rows["id"], "cell": 0})
    found = explaining.explain(by_brightness, rows, root, answers, 8)
    table = map_checks.deletion(by_brightness, rows, found, answers, 8, seed=7)
    assert len(table) == len(rows) * (1 + len(map_checks.GREYED) * len(map_checks.PLACES))
    wide = table.pivot(index="id", columns=["greyed", "places"], values="score")
    for share in map_checks.GREYED:
        assert (wide[share, "most"] < wide[share, "random"] + 1e-3).all()
        assert (wide[share, "most"] < wide[share, "least"]).all()
        assert wide[share, "most"].mean() < wide[share, "random"].mean()
    again = map_checks.deletion(
        by_brightness,
        rows[::-1],
        explaining.Explained(found.views[::-1], found.evidence[::-1]),
        answers[::-1],
        3,
        seed=7,
    )
    pd.testing.assert_frame_equal(again.pivot(index="id", columns=["greyed", "places"], values="score"), wide)
    upside_down = explaining.Explained(found.views, [-evidence for evidence in found.evidence])
    summary = map_checks.deletion_summary(
        map_checks.deletion(by_brightness, rows, upside_down, answers, 8, seed=7), 50, seed=7
    )
    assert "the maps are wrong" in map_checks.in_words(summary)


@pytest.mark.parametrize("where", map_checks.PLACES)
def test_as_much_is_greyed_out_wherever_it_is(where):
    maps = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(1)) - 0.5
    mask = map_checks._mask(maps, 0.2, where, np.array([[0.1, 0.2], [0.5, 0.0], [0.9, 0.9]]))
    assert mask.shape == (3, 1, 20, 20)
    assert mask.flatten(1).sum(1).tolist() == [80, 80, 80]
    ends = maps[mask[:, 0]], maps[~mask[:, 0]]
    if where != "random":
        low, high = ends if where == "least" else ends[::-1]
        assert low.median() < high.median()
    for found, one in zip(maps, mask[:, 0], strict=True):
        if where == "most":
            assert found[one].min() >= found[~one].max()


def measured(most, random, least):
    """Scores of ten photos by ten authors with these left of 0.5."""
    noise = np.linspace(-0.01, 0.01, 10)
    table = pd.DataFrame(
        {"id": list("abcdefghij"), "author": list("abcdefghij"), "greyed": 0.0, "places": "", "score": 0.5}
    )
    left = {"most": most + noise, "random": random - noise, "least": least + 2 * noise}
    parts = [table.assign(greyed=0.2, places=places, score=scores) for places, scores in left.items()]
    return pd.concat([table, *parts], ignore_index=True)


def test_the_summary_compares_the_same_photos_and_says_what_holds():
    summary = map_checks.deletion_summary(measured(0.3, 0.3, 0.2), 200, seed=7).set_index("places")
    assert summary.loc["", ["photos", "score"]].tolist() == [10, 0.5]
    np.testing.assert_allclose(summary.loc[["random", "least"], "more"], [0, -0.1], atol=1e-12)
    assert summary.loc["least", "more_low"] < -0.1 < summary.loc["least", "more_high"] < 0
    words = map_checks.in_words(summary.reset_index())
    assert "mean score of 10 photos: 0.500; 0.300 without the most important, 0.300 without the random" in words
    assert "beside random places the maps are not proved: " in words
    assert "beside least important places the maps are wrong: -0.100" in words
    good = map_checks.deletion_summary(measured(0.1, 0.3, 0.4), 200, seed=7)
    assert "beside random places the maps hold: +0.200" in map_checks.in_words(good)
    page = map_checks.markdown(good)
    assert "| 0 % | none | 10 | 0.500 [0.500, 0.500] |  |" in page
    assert "| 20 % | least important | 10 | 0.400 [" in page


def test_heads_of_random_weights_change_the_maps_and_leave_the_run_as_it_was(run, photos):
    rows, root = photos
    explainers = {"all": explaining.explainer(run, "fine")}
    before = {name: tensor.clone() for name, tensor in run.networks[0].model.state_dict().items()}
    answers = pd.DataFrame({"id": rows["id"], "cell": 1})
    found, unlearned, again = (
        explaining.explain(each, rows, root, answers, 8)
        for each in (
            explainers,
            map_checks.with_random_heads(explainers, seed=7),
            map_checks.with_random_heads(explainers, seed=7),
        )
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.networks[0].model.state_dict().items())
    np.testing.assert_allclose(map_checks.agreement(found, found), 1)
    np.testing.assert_allclose(map_checks.agreement(unlearned, again), 1)
    assert np.abs(map_checks.agreement(found, unlearned)).max() < 0.999
    flat = explaining.Explained(found.views, [np.zeros_like(evidence) for evidence in found.evidence])
    assert np.isnan(map_checks.agreement(found, flat)).all()
