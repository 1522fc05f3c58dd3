"""A page of guesses holds what it may hold, shows it rightly, and asks nobody for anything, in a real browser."""

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import shutil
from pathlib import Path

import browsing
import gradio
import numpy as np
import pandas as pd
import pytest
from finished_run import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import app, data_lists, datasets, manifests, metrics, notebooks, paths, shared_pages, web_maps
from helpers.app_share import Refusal, Share

RUN, DATASET = "first", "holidays"
SECRET = "Anna in her garden"
CUT, MISSING = "photo 03", "photo 05"
OWNER = {
    "author": HOSTILE[0],
    "licence": "CC BY 4.0 </script><img src=x onerror=alert(1)>\u2028${data}",
    "url": "https://photos.example/1?a=<b>&c='",
}


def photo(number, orientation=1, size=(640, 480)):
    """JPEG with a position, a description and a thumbnail's worth of EXIF."""
    rng = np.random.default_rng(number)
    pixels = np.full((size[1], size[0], 3), rng.integers(0, 255, 3), np.uint8)
    pixels[:, : size[0] // 4] = 255 - pixels[:, : size[0] // 4]
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = SECRET, orientation
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.99), 3: "E", 4: (2.0, 17.0, 40.2)}
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", exif=exif, comment=SECRET.encode(), quality=90)
    return file.getvalue()


def evaluated(folder, count=24):
    """Predictions and list of photos in a folder: one of them cut off, one missing, the last ones hostile."""
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({"id": [f"photo {number:02d}" for number in range(count)]})
    rows.loc[count - 3 :, "id"] = [f"z{name}" for name in HOSTILE]
    rows["path"] = [f"anna-{number}.jpg" for number in range(count)]
    rows["latitude"], rows["longitude"] = rng.uniform(-60, 70, count), rng.uniform(-180, 180, count)
    rows = rows.assign(author="Jo", split="test", licence="", url="").astype({"author": object})
    rows.loc[count - 1, list(OWNER)] = list(OWNER.values())
    rows.loc[count - 2, "url"] = "javascript:alert(1)"
    folder.mkdir(parents=True, exist_ok=True)
    data = [photo(number) for number in range(count)]
    for path, each in zip(rows["path"], data, strict=True):
        (folder / path).write_bytes(each)
    cut = data[3][:900]
    (folder / "anna-3.jpg").write_bytes(cut)
    (folder / "anna-5.jpg").unlink()
    data[3] = cut
    rows["sha256"] = [hashlib.sha256(each).hexdigest() for each in data]
    predictions = rows[["id", "author", "latitude", "longitude"]].copy()
    step = np.geomspace(0.001, 60, count)
    predictions["predicted_latitude"] = rows["latitude"].to_numpy() + np.where(rows["latitude"] > 0, -step, step)
    predictions["predicted_longitude"] = rows["longitude"]
    predictions["distance_km"] = metrics.great_circle_km(
        *predictions[["latitude", "longitude", "predicted_latitude", "predicted_longitude"]].to_numpy().T
    )
    predictions["confidence"] = rng.uniform(0, 1, count)
    predictions["radius_50_km"] = np.geomspace(0.2, 9000, count)
    predictions["radius_90_km"] = predictions["radius_50_km"] * 2
    predictions["scene"] = np.array(["natural", "urban", None], dtype=object)[np.arange(count) % 3]
    return predictions, rows


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Folder of a page, and what it shows."""
    root = tmp_path_factory.mktemp("shared")
    predictions, rows = evaluated(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        found = shared_pages.drawn(predictions, rows, 300, seed=7)
        written = shared_pages.write(found, root / "photos", root / "page", RUN, DATASET)
    return root / "page", written, predictions


def told(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def test_nothing_but_the_page_and_numbered_copies_is_there(page):
    folder, written, _ = page
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert files == sorted(["index.html", *(f"photos/{number}.jpg" for number in written.shown["number"])])
    assert written.shown["number"].tolist() == list(range(1, len(written.shown) + 1))
    assert written.size == sum((folder / file).stat().st_size for file in files)


def test_no_file_holds_exif_a_secret_an_id_or_a_path(page):
    folder, _, predictions = page
    for file in folder.rglob("*.*"):
        data = file.read_bytes()
        assert not [word for word in (SECRET.encode(), b"anna-", b"photo 00", b"photo 1", b"zx") if word in data]
        if file.suffix == ".jpg":
            assert not [word for word in (b"Exif", b"http", b"ICC_PROFILE", b"8BIM") if word in data]
            image = Image.open(file)
            assert max(image.size) == shared_pages.LONG_SIDE
            assert not image.getexif()
            assert not {"exif", "comment", "icc_profile"} & set(image.info)
    text = (folder / "index.html").read_text(encoding="utf-8")
    exact = predictions[["latitude", "longitude", "predicted_latitude", "distance_km"]].to_numpy().ravel()
    assert not [value for value in exact if f"{value:.6f}"[:-1] in text]
    near = [value for photo in told(folder)["photos"] for name in ("guess", "truth") for value in photo[name]]
    assert near == [round(value, 2) for value in near]


def test_photos_that_cannot_be_read_are_counted_on_the_page(page):
    folder, written, predictions = page
    assert written.unread == {"truncated": [CUT], "missing": [MISSING]}
    assert len(written.shown) == len(predictions) - 2
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "2 of 24 photos that were drawn cannot be read, and are not shown: missing (1), truncated (1)." in text


def test_a_photo_that_is_not_that_of_the_list_is_not_shown_under_its_author(tmp_path):
    predictions, rows = evaluated(tmp_path / "photos")
    (tmp_path / "photos" / "anna-8.jpg").write_bytes(photo(99))
    found = shared_pages.drawn(predictions, rows, 300, seed=7)
    written = shared_pages.write(found, tmp_path / "photos", tmp_path / "page", RUN, DATASET)
    assert written.unread[shared_pages.CHANGED] == ["photo 08"]


def test_missing_photos_are_said_and_changed_ones_refused(root, capsys):
    _, rows = evaluated(root / "photos")
    assert shared_pages.find_photos(rows, DATASET, str(root / "photos")) == root / "photos"
    assert "1 of 24 photos of the list cannot be read" in capsys.readouterr().out
    (root / "photos" / "anna-8.jpg").write_bytes(photo(99))
    with pytest.raises(data_lists.ChangedPhoto, match="anna-8"):
        shared_pages.find_photos(rows[rows["id"] != MISSING], DATASET, str(root / "photos"))


def test_no_photo_at_all_is_an_error_that_names_the_remedy(tmp_path):
    predictions, rows = evaluated(tmp_path / "photos")
    found = shared_pages.drawn(predictions, rows, 300, seed=7)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"none of 24 photos can be read.*photo_root"):
        shared_pages.write(found, tmp_path / "empty", tmp_path / "page", RUN, DATASET)


def test_the_same_seed_gives_the_same_bytes_whatever_the_order(tmp_path):
    predictions, rows = evaluated(tmp_path / "photos")
    mixed = predictions.sample(frac=1, random_state=1), rows.sample(frac=1, random_state=2)
    for name, tables in (("one", (predictions, rows)), ("other", mixed)):
        found = shared_pages.drawn(*tables, 10, seed=7)
        assert len(found) == 10
        shared_pages.write(found, tmp_path / "photos", tmp_path / name, RUN, DATASET)
    files = [file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*.*")]
    assert len(files) >= 9
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes() for file in files)
    assert set(shared_pages.drawn(predictions, rows, 10, seed=8)["id"]) != set(found["id"])


def test_a_list_that_lacks_a_photo_is_an_error(tmp_path):
    predictions, rows = evaluated(tmp_path / "photos")
    with pytest.raises(ValueError, match=r"does not have 1 photos.*'photo 02'.*05_evaluation/evaluate"):
        shared_pages.drawn(predictions, rows[rows["id"] != "photo 02"], 300, seed=7)
    with pytest.raises(ValueError, match="at least one"):
        shared_pages.drawn(predictions, rows, 0, seed=7)


def test_attribution_is_that_of_the_list_and_else_the_author(tmp_path):
    predictions, rows = evaluated(tmp_path / "photos")
    rows["attribution"] = ""
    rows.loc[0, "attribution"] = "Jo, via Commons"
    found = shared_pages.drawn(predictions, rows, 300, seed=7).set_index("id")["attribution"]
    assert found["photo 00"] == "Jo, via Commons"
    assert found["photo 01"] == "Jo"


@pytest.mark.parametrize(
    "url",
    [
        *("javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "//a.example", "http:", "https://a b"),
        *("https://[", "ftp://a.example", " https://a.example", "", "https://a.example/\u2028"),
    ],
)
def test_only_addresses_of_pages_become_links(url):
    assert shared_pages.link(url) == ""


@given(st.text() | st.text().map("https://{}".format) | st.text().map("https://a.example/{}".format))
def test_what_becomes_a_link_is_left_as_it_is(url):
    assert shared_pages.link(url) in ("", url)
    if shared_pages.link(url):
        assert re.match(r"https?://[^\s/]", url, re.IGNORECASE)
        assert url.isascii()
        assert not re.search(r"[\s\x00-\x1f\x7f]", url)


def test_numbers_of_the_summary_are_those_of_the_predictions(page):
    _, written, predictions = page
    readable = predictions[~predictions["id"].isin([CUT, MISSING])]
    table = shared_pages.summary(written.shown)
    expected = metrics.accuracy(readable["distance_km"])
    assert table.loc["all", list(metrics.SHARES)].to_numpy(float) == pytest.approx(expected)
    assert table.loc["all", "median_km"] == pytest.approx(readable["distance_km"].median(), abs=0.051)
    urban = readable[readable["scene"] == "urban"]
    assert table.loc["urban", "photos"] == len(urban)
    assert table.loc["urban", "within_750km"] == pytest.approx(metrics.accuracy(urban["distance_km"])[3])
    assert set(table.index) == {"all", "natural", "urban", shared_pages.UNKNOWN_SCENE}


def test_a_photo_lies_on_its_side_no_more(tmp_path):
    predictions, rows = evaluated(tmp_path / "photos")
    turned = photo(1, orientation=6)
    (tmp_path / "photos" / "anna-1.jpg").write_bytes(turned)
    rows.loc[1, "sha256"] = hashlib.sha256(turned).hexdigest()
    found = shared_pages.drawn(predictions, rows, 300, seed=7)
    written = shared_pages.write(found, tmp_path / "photos", tmp_path / "page", RUN, DATASET)
    number = written.shown.set_index("id")["number"]["photo 01"]
    assert Image.open(tmp_path / "page" / "photos" / f"{number}.jpg").size == (360, 480)


@contextlib.contextmanager
def opened(folder, anchor="", **context):
    """A page in a browser, whose errors and requests to other machines are failures."""
    with browsing.chromium() as (browser, asked):
        tab = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}).new_page()
        wrong = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("dialog", lambda dialog: wrong.append(dialog.message))
        tab.goto((folder / "index.html").as_uri() + anchor)
        tab.wait_for_selector("#list button")
        yield tab
        assert wrong == []
        assert asked == []


def listed(tab):
    return [int(number) for number in tab.eval_on_selector_all("#list button", "all => all.map(b => b.dataset.number)")]


def in_sight(tab, number):
    """Whether a photo is where the list is scrolled to."""
    top, bottom = tab.evaluate(
        """number => {
          const [item, list] = [`#list [data-number="${number}"]`, "#list"]
            .map((selector) => document.querySelector(selector).getBoundingClientRect());
          return [item.top - list.top, list.bottom - item.bottom];
        }""",
        int(number),
    )
    return top > -2 and bottom > -2


def numbers(tab):
    return dict(
        zip(tab.locator("#numbers dt").all_inner_texts(), tab.locator("#numbers dd").all_inner_texts(), strict=True)
    )


def as_shown(photos):
    """What the page has to say of photos, by pandas."""
    median = photos["km"].median()
    shares = metrics.accuracy(photos["distance_km"])
    names = [f"within {km:,} km" for km in metrics.THRESHOLDS_KM]
    within = {name: f"{100 * share:.1f} %" for name, share in zip(names, shares, strict=True)}
    return {"median error": f"{median:,.1f} km" if median < 10 else f"{median:,.0f} km", **within}


def test_filters_and_order_change_list_map_and_numbers(page):
    folder, written, predictions = page
    photos = written.shown.merge(predictions[["id", "distance_km"]], on="id")
    with opened(folder) as tab:
        assert listed(tab) == photos["number"].tolist()
        assert numbers(tab) == as_shown(photos)
        assert tab.locator("#map path.leaflet-interactive").count() == len(photos)

        tab.get_by_label("worst first").check()
        assert listed(tab) == photos["number"].tolist()[::-1]

        tab.get_by_label("natural").uncheck()
        tab.get_by_label("unknown").uncheck()
        urban = photos[photos["scene"] == "urban"]
        assert listed(tab) == urban["number"].tolist()[::-1]
        assert numbers(tab) == as_shown(urban)
        assert tab.locator("#map path.leaflet-interactive").count() == len(urban)
        assert tab.locator("#count").inner_text() == f"{len(urban)} of {len(photos)} photos are shown"

        tab.get_by_label("within 25 km").uncheck()
        tab.get_by_label("farther").uncheck()
        left = urban[urban["distance_km"].between(25, 2500, inclusive="right")]
        assert 0 < len(left) < len(urban)
        assert sorted(listed(tab)) == left["number"].tolist()
        assert numbers(tab) == as_shown(left)

        tab.get_by_label("urban").uncheck()
        assert listed(tab) == []
        assert tab.locator("#count").inner_text().startswith("None of 22 photos")


def test_the_keyboard_goes_from_photo_to_photo(page):
    folder, _, _ = page
    with opened(folder) as tab:
        tab.locator("input[value=worst]").focus()
        for _ in range(12):  # through the map and the buttons to the list
            tab.keyboard.press("Tab")
            if tab.evaluate("document.activeElement.closest('#list') !== null"):
                break
        focused = "Number(document.activeElement.dataset.number)"
        assert tab.evaluate(focused) == 1
        tab.keyboard.press("Enter")
        assert tab.locator("#chosen-title").inner_text() == "Photo 1"
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate(focused) == 3
        assert tab.url.endswith("#photo-3")
        assert tab.locator("#list [aria-current]").get_attribute("data-number") == "3"
        assert in_sight(tab, 3)
        assert "Photo 3: guess" in tab.locator("#told").text_content()
        tab.keyboard.press("End")
        assert tab.evaluate(focused) == 22
        assert in_sight(tab, 22)
        assert tab.locator("#next").is_disabled()
        tab.keyboard.press("ArrowUp")
        assert tab.evaluate(focused) == 21
        tab.keyboard.press("Escape")
        assert tab.locator("#facts").is_hidden()
        assert "#" not in tab.url


def test_a_chosen_photo_shows_its_guess_its_truth_and_its_owner(page):
    folder, written, _ = page
    hostile = written.shown.set_index("id")["number"][f"z{HOSTILE[2]}"]
    with opened(folder, f"#photo-{hostile}") as tab:
        assert tab.locator("#chosen-title").inner_text() == f"Photo {hostile}"
        assert in_sight(tab, hostile)
        row = written.shown.set_index("number").loc[hostile]
        about = tab.locator("#about").inner_text()
        assert row["guess"] in about
        assert row["truth"] in about
        assert tab.locator("#map .place.guess").count() == tab.locator("#map .place.truth").count() == 1
        owner = tab.locator("#owner")
        assert HOSTILE[0] in owner.inner_text()
        assert "<img src=x onerror=alert(1)>" in owner.inner_text()
        link = owner.locator("a")
        assert link.get_attribute("href") == OWNER["url"]
        assert set(link.get_attribute("rel").split()) == {"noopener", "noreferrer", "nofollow"}
        assert tab.locator("#owner img, #owner script, #list script").count() == 0
        tab.locator("#previous").click()
        assert owner.locator("a").count() == 0
        assert tab.locator("img").evaluate_all("all => all.every(i => !i.complete || i.naturalWidth > 0)")
        assert tab.locator("#large").evaluate("image => image.decode().then(() => image.naturalWidth)") == 480


def test_a_dot_on_the_map_chooses_its_photo(page):
    folder, _, _ = page
    with opened(folder) as tab:
        dots = tab.locator("#map path.leaflet-interactive")
        dots.last.click()  # the best guess, which lies on top
        assert tab.locator("#chosen-title").inner_text() == "Photo 1"
        tab.locator("#all").click()
        assert tab.locator("#map .place").count() == 0


def test_a_link_to_a_photo_that_a_filter_hides_shows_it(page):
    folder, written, _ = page
    number = written.shown.loc[written.shown["scene"] == "natural", "number"].iloc[0]
    with opened(folder, "#photo-999999") as tab:
        assert tab.locator("#facts").is_hidden()
        tab.get_by_label("natural").uncheck()
        tab.evaluate(f"location.hash = '#photo-{number}'")
        tab.wait_for_selector(f"#list [data-number='{number}'][aria-current]")
        assert tab.get_by_label("natural").is_checked()


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_fits_the_screen_in_any_scheme(page, width):
    folder, _, _ = page
    with opened(folder, "#photo-21", viewport={"width": width, "height": 740}, color_scheme="dark") as tab:
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        top = "document.querySelector('footer').getBoundingClientRect().top + scrollY"
        before = tab.evaluate(top)
        tab.locator("#previous").click()
        assert tab.evaluate(top) == pytest.approx(before, abs=75)  # three lines of names


def test_what_can_be_used_has_a_name_and_what_can_be_seen_a_text(page):
    folder, _, _ = page
    with opened(folder, "#photo-1") as tab:
        assert tab.evaluate("document.documentElement.lang") == "en"
        assert tab.locator("h1").count() == 1
        assert tab.evaluate("[...document.images].every(image => image.alt)")
        assert tab.evaluate("[...document.querySelectorAll('input')].every(input => input.labels[0].innerText.trim())")
        assert tab.evaluate("[...document.querySelectorAll('button, a')].every(e => e.textContent.trim())")
        assert tab.evaluate("[...document.querySelectorAll('fieldset')].every(f => f.querySelector('legend'))")
        levels = tab.eval_on_selector_all("h1, h2, h3", "all => all.map(h => Number(h.tagName[1]))")
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))


CONTRAST = """(selectors) => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parse(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if ((parse(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return selectors.filter((selector) => [...document.querySelectorAll(selector)].some((element) => {
    if (element.disabled) return false;
    const [one, other] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    return (one + 0.05) / (other + 0.05) < 4.5;
  }));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(page, scheme):
    folder, _, _ = page
    with opened(folder, "#photo-2", color_scheme=scheme) as tab:
        selectors = ["#count", ".warning", "#about dt", "#about dd", "#owner", "legend", "label", "#numbers dt"]
        assert tab.evaluate(CONTRAST, [*selectors, "#list .soft", "#list .off", "footer li", "button"]) == []


def test_no_script_but_its_own_runs_and_nothing_is_fetched(page, tmp_path):
    folder, _, _ = page
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "'unsafe-inline'" not in re.search(r"script-src ([^;]*)", text)[1]
    take = "document.title = 'taken'"
    bad = f'<script>{take}</script><img src=https://evil.example/x.png onerror="{take}">'
    (tmp_path / "index.html").write_text(text.replace("<main>", f"{bad}<main>"), encoding="utf-8")
    with browsing.chromium() as (browser, asked):
        tab = browser.new_page()
        tab.goto((tmp_path / "index.html").as_uri())
        tab.wait_for_selector("#list button")
        assert tab.title().startswith("Where was it taken?")
        assert asked == []


def test_of_a_thousand_photos_those_in_sight_are_read(page, tmp_path):
    folder, _, _ = page
    data = told(folder)
    many = [{**data["photos"][number % 22], "number": number + 1} for number in range(1000)]
    text = (folder / "index.html").read_text(encoding="utf-8")
    old = web_maps.in_script(data["photos"])
    assert old in text
    (tmp_path / "index.html").write_text(text.replace(old, web_maps.in_script(many)), encoding="utf-8")
    with browsing.chromium() as (browser, _):
        tab = browser.new_page()
        tab.goto((tmp_path / "index.html").as_uri())
        tab.wait_for_selector("#list button")
        assert tab.locator("#map path.leaflet-interactive").count() == 1000
        tab.locator("#list button").first.click()
        tab.keyboard.press("ArrowDown")
        assert tab.evaluate("[...document.querySelectorAll('#list button')].indexOf(document.activeElement)") == 1
        # The copies of photos that are out of sight are not read.
        assert tab.evaluate("[...document.images].filter(image => image.complete).length") < 200


def test_the_notebook_makes_a_page_of_rendered_photos_from_an_evaluated_run(root):
    pictured = os.environ.get("SCREENSHOTS")  # a folder: then of more photos, for the picture that the README shows
    dataset, count = "toy-earth-shared", 2400 if pictured else 60
    made = datasets.make_list(dataset, photo_count=count, seed=7, validation_share=0.1, test_share=0.2)
    data_lists.write(made.rows, made.header, paths.data_list(dataset))
    most = {"coarse": count // 15, "middle": count // 20, "fine": count // 30}
    sizes = {"min_photos": 1, **{f"max_photos_{name}": photos for name, photos in most.items()}}
    notebooks.run("02_scenes/classify_scenes", {"dataset": dataset})
    notebooks.run("03_partitioning/build_cells", {"dataset": dataset, **sizes})
    learn = {"image_size": 112, "epochs": 12} if pictured else {"image_size": 32, "epochs": 1}
    notebooks.run("04_training/train", {"dataset": dataset, **learn})
    asked = {"dataset": dataset, "run": f"{dataset}-multi"}
    notebooks.run("05_evaluation/evaluate", {**asked, "resamples": 20})
    folder = notebooks.run("06_demo/share", {**asked, "most_photos": 150 if pictured else 5})

    manifest = manifests.read(paths.page(asked["run"], dataset))
    shown = pd.read_csv(folder / "photos.csv")
    assert manifest["counts"]["photos shown"] == len(shown) == manifest["counts"]["photos drawn"]
    assert manifest["counts"]["could not be read"] == {}
    assert {file.name for file in (folder / "page").iterdir()} == {"index.html", "photos"}
    text = (folder / "page" / "index.html").read_text(encoding="utf-8")
    assert str(root) not in text
    assert "These pictures are rendered, they are not photographs" in text
    assert "attribution" not in told(folder / "page")["photos"][0]
    with opened(folder / "page", f"#photo-{max(len(shown) // 5, 1)}", device_scale_factor=1) as tab:
        assert "Rendered, not a photograph" in tab.locator("#owner").inner_text()
        if pictured:
            tab.wait_for_timeout(1000)
            Path(pictured).mkdir(parents=True, exist_ok=True)
            tab.screenshot(path=Path(pictured) / "app-share.png", full_page=True)

    with gradio.Blocks(analytics_enabled=False) as part:
        Share().part()
    address = app.serve(part, browsing.free_port(), wait=False)
    with browsing.chromium() as (browser, elsewhere):
        tab = browser.new_page(viewport={"width": 360, "height": 740})
        tab.goto(address)
        tab.wait_for_selector(".share[data-ready]")
        offered = tab.locator("[name=results] option").all_inner_texts()
        assert [name.rpartition(" (")[0] for name in offered] == [f"{dataset}-multi on {dataset}"]
        tab.get_by_label("Photos at most").fill("0")
        tab.get_by_role("button", name="Make the page").click()
        tab.get_by_text("a page has 1 to 1000 photos").wait_for()
        tab.get_by_label("Photos at most").fill("3")
        tab.get_by_role("button", name="Make the page").click()
        tab.get_by_text("The page is there: 3 photos").wait_for(timeout=120_000)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360
        tab.goto(tab.locator(".where code").inner_text())
        assert tab.locator("#list button").count() == 3
        assert elsewhere == []
    part.close()
    assert "no such results" in app.answering(Share().make, Refusal)({"name": "../..", "photos": 3})["error"]


def test_results_that_are_not_whole_are_no_choice(root, tmp_path):
    folder = paths.results("first", "broken")
    folder.mkdir(parents=True)
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    try:
        assert "first on broken" not in [each["name"] for each in Share().evaluated({})["evaluated"]]
    finally:
        shutil.rmtree(folder)


def test_photos_that_are_not_here_are_not_fetched_for_a_button(root, monkeypatch):
    rows = pd.DataFrame({"id": ["a"], "path": ["a.jpg"], "split": ["test"]})
    monkeypatch.setattr(data_lists, "read", lambda dataset: rows)
    known = {"run": "first", "dataset": "holidays", "photo_root": "", "name": "first on holidays", "photos": 1}
    monkeypatch.setattr(Share, "evaluated", lambda self, _: {"evaluated": [known]})
    paths.photos("holidays").mkdir(parents=True, exist_ok=True)
    told = app.answering(Share().make, Refusal)({"name": "first on holidays", "photos": 3})
    assert told["error"].startswith("1 photos are not on this machine")
