"""A report is one page that asks for nothing, runs nothing, and says everything in text too."""

import base64
import html
import io
import itertools
import re
from html.parser import HTMLParser

import finished_run
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import footprint, model_cards, paths, report, run_results

VOID = {"meta", "img", "br", "hr"}
ASKING = ("src", "srcset", "href", "action", "data", "poster", "background", "formaction", "cite", "ping")


class Page(HTMLParser):
    """Elements with their attributes, the text in them, and what is wrong with how they are nested."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.wrong = [], [], [], []
        self.feed(text)
        self.close()
        self.wrong += [f"<{name}> is not closed" for name in self.open]

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes something else")

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return "".join(text for tag, text in self.texts if tag != "style")


def page_of(run="first", folders=None, results=None, **given):
    """The report on a run, or on several, that was made."""
    run_folders = folders or {"all": [finished_run.made(run, **given)]}
    found = finished_run.evaluated(run) if results is None else results
    speed = footprint.Speed(12.5, "cpu, 4 threads", "float32", 4, 5)
    cards = model_cards.of_runs(run_folders, found, {"first": speed})
    return report.page(found, cards, run_folders)


def levels(page):
    return [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]


@pytest.fixture
def text(root):
    return page_of()


@pytest.fixture
def page(text):
    return Page(text)


def test_it_is_whole_and_well_nested(text, page):
    assert text.startswith("<!DOCTYPE html>\n")
    assert page.wrong == []
    assert page.of("html") == [{"lang": "en"}]
    assert len(page.of("title")) == len(page.of("main")) == len(page.of("h1")) == 1
    assert page.of("meta")[0] == {"charset": "utf-8"}
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")


def test_it_asks_for_nothing_and_runs_nothing(text, page):
    assert {tag for tag, _ in page.elements} & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "svg",
    } == set()
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in set(attributes) & set(ASKING):
            assert (tag, name) in {("img", "src"), ("a", "href")}
    style = "".join(text for tag, text in page.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert not any("style" in attributes for _, attributes in page.elements)
    policy = next(each["content"] for each in page.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy == report.POLICY
    assert "default-src 'none'" in policy
    assert re.findall(r"https?:", policy) == []


def test_links_lead_into_the_page_or_tell_nobody_where_they_come_from(page):
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert set(report.SECTIONS) <= set(names)
    outside = [link for link in page.of("a") if not link["href"].startswith("#")]
    assert {link["href"] for link in outside} == {model_cards.PAPER}
    assert all(link["rel"] == "noreferrer" for link in outside)
    assert {link["href"][1:] for link in page.of("a") if link["href"].startswith("#")} <= set(names)
    assert set(report.SECTIONS) == {link["href"][1:] for link in page.of("a")[: len(report.SECTIONS)]}


def test_figures_are_in_it_and_described(page):
    images = page.of("img")
    assert len(images) == len(run_results.FIGURES) + 1  # and the curves of the training
    for image in images:
        assert len(image["alt"]) > 20
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as opened:
            assert abs(opened.width / opened.height - int(image["width"]) / int(image["height"])) < 0.5
    assert set(report._ALTERNATIVES) == set(report._CAPTIONS) == set(run_results.FIGURES)


def test_headings_and_tables_are_in_order(page):
    assert levels(page)[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels(page)))
    assert all(heading.get("scope") in ("col", "row") for heading in page.of("th"))
    assert len(page.of("table")) > 10
    assert all(region["aria-label"] for region in page.of("div") if region.get("role") == "region")


def test_its_colours_can_be_told_apart():
    def brightness(colour):
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    schemes = re.findall(r":root \{([^}]*)\}", report._STYLE)
    assert len(schemes) == 3  # light, dark and print
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink, paper in itertools.product(("ink", "soft", "link"), ("paper", "tint")):
            bright, dark = sorted((brightness(colours[ink]), brightness(colours[paper])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, paper, colours)


def test_it_says_what_the_results_say(page):
    text = " ".join(page.text.split())
    assert "25.0 %" in text
    assert "Of 240 test photos of holidays by 24 authors" in text
    assert "3 of the test photos are by authors of training photos" in text
    for words in ("surveillance", "where a person lives", "low confidence is no evidence of anything"):
        assert words in text
    assert "12.5 photos/s" in text
    assert "2.50" in text  # the temperature


def test_hostile_names_are_text(text, page):
    for name in finished_run.HOSTILE:
        assert name in page.text
        assert html.escape(name) in text
    assert "<script" not in text
    assert "evil.example" not in " ".join(str(attributes) for _, attributes in page.elements)


def test_no_photo_nor_its_id_nor_a_folder_is_in_it(text):
    assert f"{finished_run.HOSTILE[0]}0001" not in html.unescape(text)
    assert base64.b64encode(finished_run.GALLERY).decode()[:20] not in text
    assert "/home/somebody" not in text
    assert "photo_root" not in text


def test_a_run_without_results_says_what_makes_them(root):
    page = Page(page_of(results=run_results.read("first", finished_run.DATASET)))
    assert page.wrong == []
    for notebook in ("evaluate", "uncertainty", "breakdown", "leakage"):
        assert f"papermill 05_evaluation/{notebook}.ipynb out.ipynb -p run first -p dataset holidays" in page.text
    assert "papermill 05_evaluation/calibrate.ipynb out.ipynb -p run first makes it" in page.text
    assert len(page.of("img")) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels(page)))


@pytest.mark.parametrize("stage", run_results.NOTEBOOKS)
def test_a_page_is_whole_whatever_is_there(root, stage):
    page = Page(page_of(results=finished_run.evaluated(stages=[stage])))
    assert page.wrong == []
    assert page.text.count("is not there yet") + page.text.count("was not evaluated") >= 4


def test_a_run_on_coordinates_without_confidence(root):
    results = finished_run.evaluated(confident=False)
    page = Page(page_of(results=results, partition="coordinates", objective="degrees_mse"))
    assert page.wrong == []
    text = " ".join(page.text.split())
    assert "It names no classes, so it gives no probabilities to be judged." in text
    assert "Its guesses have no confidence to be sorted by" in text
    assert "Not calibrated, all: too few photos." in text
    assert "It names no classes, which would have temperatures." in text
    assert "It gives no confidence: it names one place for every photo" in text
    assert report._CAPTIONS["abstention"] not in [words for tag, words in page.texts if tag == "figcaption"]


def test_each_of_several_networks_is_described(root):
    folders = {scene: [finished_run.made(f"net-{scene}", scene=scene)] for scene in ("indoor", "natural", "urban")}
    page = Page(page_of("net-{scene}", folders))
    assert page.wrong == []
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels(page)))
    assert "The 3 networks answer together" in page.text
    for scene in folders:
        assert f"for photos of {scene} scenes" in page.text
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))


def test_a_figure_that_is_none_is_refused(root):
    results = finished_run.evaluated()
    results.figures["map"].write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(ValueError, match=r"map\.png is no PNG: make it again"):
        page_of(results=results)
    Image.new("RGB", (9, 9)).save(results.figures["map"], format="JPEG")
    with pytest.raises(ValueError, match=r"map\.png is no PNG: make it again"):
        page_of(results=results)


def test_rendered_photos_are_called_so(root):
    assert "These photos are rendered" not in page_of()
    results = run_results.Results("first", "toy-earth", finished_run.evaluated().tables)
    assert "These photos are rendered" in page_of(results=results)
    assert paths.run("first").exists()


@given(st.text(alphabet="<>[]()!`*_|\\\n &\"'#-=:/.ahtpsx", max_size=60))
def test_markdown_of_a_card_never_becomes_more_than_text_and_links(words):
    page = Page(report._of_markdown(words, 1))
    assert page.wrong == []
    allowed = {"p", "a", "code", "pre", "em", "strong", "ul", "ol", "li", "hr", "br", "blockquote", "div", "table"}
    allowed |= {"thead", "tbody", "tr", "th", "td", "h2", "h3", "h4", "h5", "h6", "h7"}
    assert {tag for tag, _ in page.elements} <= allowed
    for link in page.of("a"):
        assert link["href"].startswith(("http://", "https://"))
        assert link["rel"] == "noreferrer"
