"""A model card tells what the files of a run and of its results tell, in the sections that a hub asks for."""

import dataclasses
import re

import finished_run
import mistune
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from helpers import footprint, model_cards, paths, run_results

SPEED = footprint.Speed(12.5, "cpu, 4 threads", "float32", 4, 5)
# That may be left out, and that none of the files tells of.
OPTIONAL = {"Model Examination", "More Information"}


def card_of(name="first", results=None, **given):
    return model_cards.model_card(model_cards.trained(finished_run.made(name, **given)), results)


def headings(markdown):
    """Levels and texts of headings, without those in code."""
    text = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    return [(len(level), words) for level, words in re.findall(r"^(#+) (.+)$", text, flags=re.MULTILINE)]


def front_matter(card):
    assert card.text.startswith("---\n")
    return yaml.safe_load(card.text.split("---\n")[1])


def test_sections_are_those_of_the_hub_in_its_order(root):
    hub = pytest.importorskip("huggingface_hub.repocard")
    template = hub.TEMPLATE_MODELCARD_PATH.read_text(encoding="utf-8")
    wanted = [
        (level, words.removesuffix(" [optional]")) for level, words in headings(template.split("---\n", 2)[2])[1:]
    ]
    found = headings(card_of(results=finished_run.evaluated()).text.split("---\n", 2)[2])[1:]
    assert found == [heading for heading in wanted if heading[1] not in OPTIONAL]


def test_the_hub_reads_its_head(root):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(card_of(results=finished_run.evaluated()).text)
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-classification"
    found = {each.metric_name: each.metric_value for each in card.data.eval_results}
    assert found["within 750 km"] == 0.25
    assert {each.dataset_name for each in card.data.eval_results} == {"holidays"}


def test_its_head_is_yaml_before_and_after_evaluation(root):
    before, after = (
        front_matter(card_of(name, results)) for name, results in [("a", None), ("b", finished_run.evaluated("b"))]
    )
    assert before["library_name"] == after["library_name"] == "photo-geolocation-lab"
    assert before["tags"] == ["photo-geolocation", "geolocalization", "efficientnet_lite0"]
    assert "model-index" not in before
    assert after["model-index"][0]["name"] == "b"


def test_a_licence_is_not_made_up(root):
    assert front_matter(card_of("random", architecture="resnet18", weights="none"))["license"] == "apache-2.0"
    card = card_of("theirs", architecture="resnet18")
    assert front_matter(card)["license"] == "other"
    assert "under a licence of their own" in card.sections["Model Details"]


def test_before_evaluation_it_tells_of_validation_and_of_what_would_evaluate_it(root):
    card = card_of()
    command = "papermill 05_evaluation/report.ipynb out.ipynb -p run first -p dataset holidays"
    assert f"not evaluated yet**: `{command}`" in card.lead
    validated = "25.0 % within 750 km, 50.0 % within 2,500 km; half of the guesses are more than 1,234 km off"
    assert validated in card.sections["Evaluation"]
    assert validated in card.sections["Bias, Risks, and Limitations"]
    assert "kept were the weights of epoch 2 of 3" in card.sections["Training Details"]


def test_without_validation_photos_it_says_so(root):
    curves = finished_run.epochs()[["epoch", "best", "seconds", "photos_per_second", "unreadable_photos"]]
    assert "no validation photos that could tell" in card_of(curves=curves).sections["Evaluation"]


def test_training_is_told_as_the_folder_has_it(root):
    text = card_of().sections["Training Details"]
    assert "300 photos of dataset `holidays`" in text
    assert "25 more have no class" in text
    assert "2 photos could not be read" in text
    assert "| Europe | 225 | 75.0 |\n| Asia | 75 | 25.0 |" in text
    assert "| `weight_decay` | `0.1` |" in text
    assert "10 photos/s in the first epoch, of which 1,700 s went into features; 300 photos/s in the later ones" in text
    assert "not measured yet" in text
    assert "photo_root" not in text


def test_results_are_told_by_continent_and_scene(root):
    card = card_of(results=finished_run.evaluated())
    limits = card.sections["Bias, Risks, and Limitations"]
    assert re.search(r"^\| Europe \| 160 \| 24 \|", limits, flags=re.MULTILINE)
    assert re.search(r"^\| indoor \| \d+ \| 24 \|", limits, flags=re.MULTILINE)
    assert "Of 240 test photos of holidays by 24 authors" in limits
    evaluation = card.sections["Evaluation"]
    assert "#### Summary" in evaluation
    assert re.search(r"^\| f\\\* \| 240 \|", evaluation, flags=re.MULTILINE)
    assert re.search(r"^\| 90 % \| ", evaluation, flags=re.MULTILINE)


def test_it_says_what_it_must_not_be_used_for_and_what_the_folder_tells(root):
    card = card_of()
    uses = card.sections["Uses"]
    for words in ("surveillance", "where a person lives", "Security-sensitive", "decision about a person", "Dual use"):
        assert words in uses
    limits = card.sections["Bias, Risks, and Limitations"]
    assert "No photo is in it, and nothing of the EXIF data" in limits
    assert "rounded to 0.01 degrees" in limits
    assert "mean coordinate of the training photos of each cell" in limits
    coordinates = card_of("second", partition="coordinates").sections["Bias, Risks, and Limitations"]
    assert "of each cell" not in coordinates


def test_energy_is_the_longer_time_at_the_power_of_the_device(root):
    text = card_of(trained_on={"device": "NVIDIA H100 80GB HBM3", "processes": 2}).sections["Environmental Impact"]
    assert "- **Hardware Type:** 2 x `NVIDIA H100 80GB HBM3`" in text
    assert "1.000 h in the epochs" in text
    assert "1,400 W, an estimate: 700 W for each of 2 boards" in text
    assert "about 1.4 kWh, an estimate" in text
    assert "carbon intensity of the grid" in text
    assumed = card_of("slow").sections["Environmental Impact"]
    assert "60 W, an estimate: 15 W for each of 4 cores, which is an assumption" in assumed
    assert "about 0.06 kWh" in assumed


def test_of_an_unknown_device_it_gives_no_number(root):
    text = card_of(trained_on={"device": "NVIDIA A10G"}).sections["Environmental Impact"]
    assert text.count("not known: the power of a device 'NVIDIA A10G' is not known here") == 2
    assert "kWh, an estimate" not in text


def test_before_the_folder_is_finished_its_name_is_given_and_versions_are_in_the_manifest(root):
    folder = finished_run.made()
    (folder / "manifest.json").unlink()
    card = model_cards.model_card(model_cards.trained(folder, "later"))
    assert card.text.count("# Model Card for later\n") == 1
    assert "in `manifest.json`" in card.sections["Technical Specifications"]
    assert "commit" not in card.sections["Model Details"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"objective": "degrees_mse", "partition": "coordinates"}, "It gives no confidence"),
        ({"partition": "coordinates"}, "the length of the vector"),
        ({}, "the probability that it gives to the class"),
    ],
)
def test_a_run_says_what_its_confidence_is(root, given, said):
    card = card_of(results=finished_run.evaluated(confident=False), **given)
    assert said in card.sections["Model Details"]
    assert "does not know how sure it may be: too few photos" in card.sections["Bias, Risks, and Limitations"]


def test_what_it_says_to_run_in_python_runs(root, monkeypatch, tmp_path):
    finished_run.made()
    monkeypatch.chdir(root)
    (root / "folder-of-photos").mkdir()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (50, 60, 3), dtype=np.uint8)).save(
        root / "folder-of-photos" / "first.jpg"
    )
    code = re.search(r"```python\n(.*?)```", card_of("second").sections["How to Get Started with the Model"], re.DOTALL)
    found = {}
    exec(code[1].replace("/second", "/first"), found)
    assert found["guesses"]["predicted_latitude"].between(40, 50).all()
    assert (found["radii"]["radius_90_km"] >= found["radii"]["radius_50_km"]).all()


def test_each_of_several_networks_says_that_the_figures_are_of_all_of_them(root, tmp_path):
    folders = {
        "indoor": [finished_run.made("net-indoor", scene="indoor"), finished_run.made("other")],
        "urban": [finished_run.made("net-urban", scene="urban"), paths.run("other")],
    }
    results = finished_run.evaluated("net-{scene}+other")
    cards = model_cards.of_runs(folders, results, {"other": SPEED})
    assert list(cards) == ["net-indoor", "other", "net-urban"]
    card = cards["net-indoor"]
    assert "**It answers together with** `other`, `net-urban`, as run `net-{scene}+other`; each photo goes" in card.lead
    assert "not of this network alone" in card.lead
    assert "for photos of indoor scenes" in card.lead
    assert "model-index" not in front_matter(card)
    assert "12.5 photos/s, the network alone on five crops each" in cards["other"].sections["Training Details"]
    written = model_cards.renew(cards, folders, tmp_path)
    assert set(written.values()) == {paths.run(name) / "MODEL_CARD.md" for name in cards}
    assert (paths.run("other") / "MODEL_CARD.md").read_text(encoding="utf-8") == cards["other"].text
    assert sorted(file.name for file in tmp_path.glob("MODEL_CARD*")) == sorted(
        f"MODEL_CARD-{name}.md" for name in cards
    )


def test_one_network_has_one_card_beside_its_weights_and_a_copy(root, tmp_path):
    folders = {"all": [finished_run.made()]}
    cards = model_cards.of_runs(folders, finished_run.evaluated(), {"first": SPEED})
    written = model_cards.renew(cards, folders, tmp_path)
    assert written == {"model card of first": paths.run("first") / "MODEL_CARD.md"}
    assert (tmp_path / "MODEL_CARD.md").read_bytes() == (paths.run("first") / "MODEL_CARD.md").read_bytes()
    assert "answers together" not in cards["first"].text


def test_no_name_from_a_file_becomes_markup(root):
    run = model_cards.trained(finished_run.made())
    hostile = "`x` <script>alert(1)</script>\n![x](https://evil.example/x.png) | *"
    names = ("architecture", "weights", "scene", "augmentation", "objective", "best_by", "train_layers")
    config = (
        run.config | dict.fromkeys(names, hostile) | {"trained_on": dict.fromkeys(("device", "number_format"), hostile)}
    )
    manifest = run.manifest | {"processor": hostile, "python": hostile, "code": {"commit": hostile}}
    run = dataclasses.replace(run, config=config | {"classes": {hostile: 5}}, manifest=manifest)
    results = finished_run.evaluated()
    card = model_cards.model_card(run, results)
    for text in (card.body, model_cards.model_card(run, dataclasses.replace(results, tables={})).body):
        page = mistune.create_markdown(escape=False, plugins=["table"])(text)
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page
    assert yaml.safe_load(card.front_matter)["tags"][-1] == hostile


def test_a_card_shows_itself_without_its_head(root):
    card = card_of()
    assert card._repr_markdown_().startswith("# Model Card for first\n")
    assert card.text.endswith(card.body)


def test_results_of_another_dataset_are_called_so(root):
    run = model_cards.trained(finished_run.made())
    results = finished_run.evaluated()
    assert "of the same list as the training photos" in model_cards.model_card(run, results).sections["Evaluation"]
    other = dataclasses.replace(results, dataset="elsewhere")
    assert "of another list than the training photos" in model_cards.model_card(run, other).sections["Evaluation"]


def test_rendered_photos_are_called_so(root):
    assert "It learned from rendered photos" in card_of(dataset="toy-earth-tiny").lead
    run = model_cards.trained(finished_run.made("real"))
    results = run_results.Results("real", "toy-earth")
    card = model_cards.model_card(run, results)
    assert "holds for real photos" in card.lead
    assert "rendered" not in card.lead


def test_the_epoch_that_is_kept_is_the_last_that_was_better():
    assert model_cards.best_epoch(pd.DataFrame({"epoch": [1, 2, 3], "best": [True, True, False]})) == 2
