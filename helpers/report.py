"""A report about a run on a dataset: one HTML file to share, which asks for nothing outside of itself.

What comes from files is escaped, figures are in the page, and a policy in its head forbids scripts and requests. Photos
have owners, so none is in it, and no figure of a single photo.
"""

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mistune
from PIL import Image, UnidentifiedImageError

from helpers import breakdown, model_cards, run_results
from helpers.model_cards import Card
from helpers.run_results import Results, Table

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content security policy: inline style, figures as data, and nothing else."""

SECTIONS = {
    "short": "In short",
    "use": "Responsible use",
    "accuracy": "How far off it is",
    "uncertainty": "How sure it is",
    "breakdown": "Where it is right and wrong",
    "leakage": "What it owes to photos that it has nearly seen",
    "calibration": "How it was calibrated",
    "model": "The model",
    "glossary": "Words",
    "citation": "Citation",
    "made": "What this was made from",
}
"""Sections of a report, by the name that links lead to."""

_SHOWN = 0.68
"""Pixels of the page for each of a figure: two columns of a paper are then as wide as the page."""
_PHONE = 600  # pixels across, and more than any phone has
_TOLD_IN = {
    "accuracy": "accuracy",
    "baselines": "accuracy",
    "radii": "uncertainty",
    "surest": "uncertainty",
    "continents": "breakdown",
    "training": "leakage",
}
_CAPTIONS = {
    "accuracy": "Share of the photos within each distance, for every answer of the run and every baseline.",
    "map": "From where photos were taken to where the run puts them, along great circles.",
    "reliability": "How often guesses are right that are about equally sure. On the diagonal, as often as they say.",
    "coverage": "Share of the photos within the radius, over what was promised. On the diagonal, as promised.",
    "abstention": "Accuracy over the share of the photos that are answered, the surest first.",
    "breakdown": "Share of the photos of each group within 200 and 750 km; the dashed line is that of all photos.",
    "countries": "The same for the countries with most photos.",
    "regions": "The same for the regions with most photos.",
    "error map": "Median distance between guess and truth in hexagons of equal area.",
    "confusion": "The country that is named, by the true country, ordered by continent.",
    "confused": "The pairs of countries that are taken for one another most often.",
    "nearest training": "Distance from the test photos to the nearest training photo.",
    "calibration": "How often guesses are right on the validation photos that the run was calibrated on.",
}
_ALTERNATIVES = {
    "accuracy": "Dots with whiskers: accuracy with 95 % intervals at five distances. The table above has the numbers.",
    "map": "World map with arcs from true places to guesses, coloured by how long they are.",
    "reliability": "Share of right guesses over confidence, before and after calibration. "
    "The table of confidences has the mean of each.",
    "coverage": "Share of photos held over share promised, before and after calibration. "
    "The table above has the numbers for 50 and 90 %.",
    "abstention": "Lines of accuracy over the share of photos answered. The table above has five points of each.",
    "breakdown": "Dots with whiskers for groups of photos by scene, continent, distance to a town and training photos. "
    "The tables above have the numbers.",
    "countries": "Dots with whiskers for countries. The table of countries has the numbers.",
    "regions": "Dots with whiskers for states and provinces.",
    "error map": "World map of hexagons, coloured by the median distance of the guesses for the photos in them.",
    "confusion": "Matrix of true against named countries; a dark diagonal would be right.",
    "confused": "Bars of the pairs of countries most often confused. The table above has the first of them.",
    "nearest training": "Cumulative share of the test photos over the distance to the nearest training photo.",
    "calibration": "Share of right guesses over confidence on validation photos, before and after calibration.",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1e21; --soft: #50575e; --paper: #ffffff; --tint: #f1f4f7; --line: #c9d0d6;
  --link: #0a58a6; --warn: #8a3b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaed; --soft: #b3bbc3; --paper: #15181b; --tint: #20262b;
  --line: #454d55; --link: #8fc1ff; --warn: #ffb782; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 1rem 0 .5rem; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.12rem; margin: 2rem 0 .5rem; }
h4, h5, h6 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p, ul, dl { margin: .6rem 0; max-width: 46rem; }
ul { padding-left: 1.3rem; }
a { color: var(--link); }
a:focus-visible, .scroll:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ul { columns: 2 16rem; list-style: none; padding: 0; max-width: none; }
nav li { padding: .15rem 0; }
.soft, figcaption, .number span { color: var(--soft); }
.missing, .warning { border-left: 4px solid var(--warn); padding: .5rem .9rem; background: var(--tint); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; max-width: none; }
.tiles div { background: var(--tint); border: 1px solid var(--line); border-radius: .4rem; padding: .7rem .9rem; }
.tiles dt { color: var(--soft); font-size: .9rem; }
.tiles dd { margin: 0; font-size: 1.5rem; font-weight: 600; }
.tiles dd span { display: block; color: var(--soft); font-size: .85rem; font-weight: 400; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: normal; }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 7rem; }
th:first-child { position: sticky; left: 0; background: var(--paper); }
.number { text-align: right; white-space: nowrap; }
thead .number { white-space: normal; }
.number span { display: block; font-size: .85em; }
figure { margin: 1.25rem 0; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); }
figcaption { font-size: .9rem; padding-top: .4rem; max-width: 46rem; }
code, pre { font-family: ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", Menlo, monospace; font-size: .88em; }
code { overflow-wrap: anywhere; }
pre { background: var(--tint); border: 1px solid var(--line); padding: .7rem .9rem; white-space: pre-wrap; }
@media (max-width: 40rem) { body { padding: .5rem .9rem 3rem; } h1 { font-size: 1.45rem; } h2 { font-size: 1.25rem; }
  .wide img { max-width: none; width: 40rem; } }
@media print { :root { --ink: #000000; --soft: #333333; --paper: #ffffff; --tint: #ffffff; --line: #999999;
  --link: #000000; --warn: #000000; } body { max-width: none; font-size: 10pt; padding: 0; } nav { display: none; }
  h2, h3, h4 { break-after: avoid; } img, tr, .tiles { break-inside: avoid; }
  img, .wide img { max-height: 20cm; max-width: 100%; object-fit: contain; }
  .scroll { overflow: visible; } table { font-size: 8pt; } }
"""


def page(results: Results, cards: Mapping[str, Card], run_folders: Mapping[str, Sequence[Path]]) -> str:
    """Make the report.

    Parameters
    ----------
    results : Results
        From `run_results.read`. Of what is not there, the report says which notebook makes it.
    cards : mapping of str to Card
        Of the networks, from `model_cards.of_runs`.
    run_folders : mapping of str to sequence of Path
        From `notebooks.require_runs`.

    Returns
    -------
    str
        A whole HTML document, to be written in UTF-8.
    """
    title = f"{results.run} on {results.dataset}"
    bodies = {
        "short": _short(results),
        "use": _use(),
        "accuracy": _accuracy(results),
        "uncertainty": _uncertainty(results),
        "breakdown": _breakdown(results),
        "leakage": _leakage(results),
        "calibration": _calibration(results),
        "model": _model(cards, run_folders),
        "glossary": _of_markdown(next(iter(cards.values())).sections["Glossary"]),
        "citation": _of_markdown(next(iter(cards.values())).sections["Citation"]),
        "made": _made(results, cards),
    }
    links = "\n".join(f'<li><a href="#{name}">{_text(heading)}</a></li>' for name, heading in SECTIONS.items())
    sections = "\n".join(
        f'<section id="{name}">\n<h2>{_text(heading)}</h2>\n{bodies[name]}\n</section>'
        for name, heading in SECTIONS.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_text(title)}: report</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>Where was it taken? {_text(title)}</h1>
<p class="soft">What a network that guesses the places of photos is worth, on photos whose places are known.</p>
<nav aria-label="Sections">
<ul>
{links}
</ul>
</nav>
</header>
<main>
{sections}
</main>
</body>
</html>
"""


def _short(results: Results) -> str:
    best = results.best
    if best is None:
        return _missing(results, "evaluate", "This run was not evaluated on this dataset yet.")
    tiles = []
    for km in (25, 200, 750, 2500):
        low, high = (100 * best[f"within_{km}km_{end}"] for end in ("low", "high"))
        interval = f"{low:.1f} to {high:.1f} %" if low <= high else "no interval"
        tiles.append((f"within {km:,} km", f"{100 * best[f'within_{km}km']:.1f} %", interval))
    tiles.append(("half are farther off than", f"{best['median_km']:,.0f} km", f"of {best['photos']:,} photos"))
    shown = "\n".join(
        f"<div><dt>{_text(what)}</dt><dd>{_text(number)}<span>{_text(beside)}</span></dd></div>"
        for what, number, beside in tiles
    )
    told = "\n".join(
        f"<li>{_text(sentence)} ({_link(_TOLD_IN[about])})</li>"
        for about, sentence in run_results.summary(results).items()
    )
    rendered = ""
    if run_results.rendered(results.dataset):
        rendered = (
            '<p class="warning">These photos are rendered: <code>toy-earth</code> is a known world to develop and test '
            "on, and nothing that is said here of accuracy holds for real photos.</p>"
        )
    return f"""{rendered}
<dl class="tiles">
{shown}
</dl>
<p class="soft">Below the figures and in brackets: 95 % intervals, from drawing the authors of the photos again and
again. The answer is that of {_text(best["model"])}.</p>
<ul>
{told}
</ul>
<p>Most guesses of any such network are far off, and it may not be used to find people: {_link("use")}.</p>"""


def _use() -> str:
    intended = f"<h3>Intended use</h3>\n<p>{_text(model_cards.INTENDED)}</p>"
    out_of_scope = f"<h3>Out of scope</h3>\n{_list(model_cards.OUT_OF_SCOPE)}"
    dual_use = f"<h3>Dual use</h3>\n<p>{_text(model_cards.DUAL_USE)}</p>"
    return f"{intended}\n{out_of_scope}\n{dual_use}\n<h3>Recommendations</h3>\n{_list(model_cards.RECOMMENDATIONS)}"


def _accuracy(results: Results) -> str:
    if results.best is None:
        return _missing(results, "evaluate")
    baselines = "".join(f"<li>{_text(name)}</li>" for name in results.baselines)
    beside = f"""<p>Beside the answers of the run stand baselines. What the run knows is what it has beyond them:</p>
<ul>{baselines}</ul>
<p>What they are is among the {_link("glossary", "words")}.</p>"""
    return "\n".join(
        [
            "<p>A guess is judged by the great-circle distance between it and the place where the photo was taken.</p>",
            _table(run_results.accuracy(results)),
            _figure(results, "accuracy"),
            beside if baselines else "",
            _figure(results, "map"),
        ]
    )


def _uncertainty(results: Results) -> str:
    if "uncertainty" not in results.manifests:
        return _missing(results, "uncertainty")
    named, sorted_by = run_results.errors(results), run_results.abstention(results)
    parts = ["<h3>What radii promise, and what they hold</h3>"]
    held = run_results.coverage(results)
    parts += [_table(held), _figure(results, "coverage")] if held.rows else ["<p>It gives no radii.</p>"]
    parts.append("<h3>Confidence, and how often it is right</h3>")
    if named.rows:
        parts += [_table(named), _figure(results, "reliability")]
    else:
        parts.append("<p>It names no classes, so it gives no probabilities to be judged.</p>")
    parts.append("<h3>If only the surest guesses are given</h3>")
    if sorted_by.rows:
        parts += [_table(sorted_by), _figure(results, "abstention")]
    else:
        parts.append("<p>Its guesses have no confidence to be sorted by, or there are too few of them.</p>")
    parts.append(f"<p>These photos had no part in calibration: {_link('calibration')}.</p>")
    return "\n".join(parts)


def _breakdown(results: Results) -> str:
    if "breakdown" not in results.manifests:
        return _missing(results, "breakdown")
    parts = [
        "<p>The smaller a group, the more its share moves by chance, and of twenty true values one lies outside of its "
        "interval. A group that does badly may have few training photos: see the last table here, and "
        f"{_link('leakage')}.</p>"
    ]
    for factor, title in breakdown.FACTORS.items():
        table = run_results.by_factor(results, factor, shown=15)
        if title and table.rows:
            parts += [f"<h3>{_text(title)}</h3>", _table(table)]
    left_out = results.counts("breakdown").get("left out") or {}
    parts += [f"<p>Not by {_text(factor)}: {_text(reason)}.</p>" for factor, reason in left_out.items()]
    parts.append("<h3>Drawn</h3>")
    parts += [_figure(results, name) for name in ("breakdown", "countries", "regions", "error map")]
    pairs = run_results.confused(results)
    if pairs.rows:
        parts += ["<h3>Countries taken for one another</h3>", _table(pairs)]
        parts += [_figure(results, name) for name in ("confused", "confusion")]
    return "\n".join(parts)


def _leakage(results: Results) -> str:
    if "leakage" not in results.manifests:
        return _missing(results, "leakage")
    return "\n".join(
        [
            "<p>A test photo measures what a run knows of the world only if the run has not seen its neighbour. "
            "Without those that share something with training, the figures fall for another reason, too: where there "
            "are few training photos, there is less to learn from.</p>",
            _table(run_results.leakage(results)),
            _figure(results, "nearest training"),
            "<h3>Photos that look alike</h3>",
            _table(run_results.similarity(results)),
        ]
    )


def _calibration(results: Results) -> str:
    if "calibrate" not in results.manifests:
        return _missing(results, "calibrate")
    reasons = results.counts("calibrate").get("not calibrated") or {}
    fitted = run_results.calibrations(results)
    parts = [
        "<p>Temperatures, the share of photos outside of all classes and the levels of radii were fitted on validation "
        f"photos, and change no place that is named. Whether it helped, test photos say: {_link('uncertainty')}.</p>"
    ]
    parts += [f"<p>Not calibrated, {_text(scene)}: {_text(reason)}.</p>" for scene, reason in reasons.items()]
    parts += [_table(fitted)] if fitted.rows else ["<p>It names no classes, which would have temperatures.</p>"]
    return "\n".join([*parts, _figure(results, "calibration") if fitted.rows else ""])


def _model(cards: Mapping[str, Card], run_folders: Mapping[str, Sequence[Path]]) -> str:
    several = len(cards) > 1
    folders = {folder.name: folder for each in run_folders.values() for folder in each}
    parts = [f"<p>The {len(cards)} networks answer together; each is described by itself.</p>"] if several else []
    for name, card in cards.items():
        parts += [f"<h3>{_text(name)}</h3>"] if several else []
        level = 4 if several else 3
        for heading in ("Model Details", "Training Details", "Environmental Impact", "Technical Specifications"):
            parts.append(f"<h{level}>{_text(heading)}</h{level}>")
            parts.append(_of_markdown(card.sections[heading], level - 2))
            curves = folders[name] / "curves.png"
            if heading == "Training Details" and curves.exists():
                alternative = "Curves of loss and accuracy over the epochs of the training."
                parts.append(_image(curves, alternative, f"How the training of {name} went, epoch by epoch."))
    return "\n".join(parts)


def _made(results: Results, cards: Mapping[str, Card]) -> str:
    rows = [
        (f"05_evaluation/{name}", str(manifest["finished"])[:16].replace("T", " "), str(manifest["code"]["commit"]))
        for name, manifest in results.manifests.items()
    ]
    table = Table(("notebook", "finished (UTC)", "code"), rows, "Results that this was made from.", names=3)
    return "\n".join(
        [
            _table(table) if rows else "",
            f"<p>The model {'card' if len(cards) == 1 else 'cards'} beside the weights and this report are made by "
            f"<code>{_text(results.command('report'))}</code>.</p>",
            "<p>No photo is in this report, because photos have owners; the galleries of the best and the worst "
            "guesses, and maps of single photos, stay with the results. Maps and tables tell roughly where test photos "
            "were taken. The page holds no script and asks for nothing outside of itself.</p>",
        ]
    )


def _missing(results: Results, notebook: str, said: str = "This is not there yet.") -> str:
    return f'<p class="missing">{_text(said)} <code>{_text(results.command(notebook))}</code> makes it.</p>'


def _figure(results: Results, name: str) -> str:
    return _image(results.figures[name], _ALTERNATIVES[name], _CAPTIONS[name]) if name in results.figures else ""


def _image(file: Path, alternative: str, caption: str) -> str:
    """A figure whose pixels are in the page."""
    try:
        with Image.open(file, formats=["PNG"]) as opened:
            width, height = (round(_SHOWN * side) for side in opened.size)
    except UnidentifiedImageError:
        raise ValueError(f"{file} is no PNG: make it again with the notebook that wrote it") from None
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{_text(alternative)}" width="{width}" height="{height}">'
    if width > _PHONE:  # too small to read there, unless it is looked at part by part
        image = f'<div class="scroll wide" role="region" aria-label="{_text(caption)}" tabindex="0">{image}</div>'
    return f"<figure>\n{image}\n<figcaption>{_text(caption)}</figcaption>\n</figure>"


def _table(table: Table) -> str:
    headings = "".join(
        f'<th scope="col"{_aligned(number >= table.names)}>{_text(heading)}</th>'
        for number, heading in enumerate(table.headings)
    )
    rows = "\n".join(f"<tr>{''.join(_cells(row, table.names))}</tr>" for row in table.rows)
    return (
        f'<figure>\n<div class="scroll" role="region" aria-label="{_text(table.caption)}" tabindex="0">\n<table>\n'
        f"<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n"
        f"<figcaption>{_text(table.caption)}</figcaption>\n</figure>"
    )


def _cells(row: Sequence[str], names: int) -> Iterable[str]:
    for number, cell in enumerate(row):
        if number == 0:
            yield f'<th scope="row">{_text(cell)}</th>'
        elif number < names:
            yield f"<td>{_text(cell)}</td>"
        else:  # an interval stands below its figure, or the table would be too wide for a page
            figure, bracket, interval = cell.partition(" [")
            below = f"<span>{_text(bracket.strip() + interval)}</span>" if bracket else ""
            yield f'<td class="number">{_text(figure)} {below}</td>'.replace(" </td>", "</td>")


def _aligned(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _list(items: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{_text(item)}</li>" for item in items) + "\n</ul>"


def _link(section: str, words: str = "") -> str:
    return f'<a href="#{section}">{_text(words or SECTIONS[section][0].lower() + SECTIONS[section][1:])}</a>'


def _text(words: Any) -> str:
    return html.escape(str(words))


class _Renderer(mistune.HTMLRenderer):
    """Markdown of a card as HTML that can do no more than the rest of the page: HTML in it is text, and so are images.

    Parameters
    ----------
    shift : int
        Added to the level of headings.
    """

    def __init__(self, shift: int) -> None:
        super().__init__(escape=True)
        self.shift = shift

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        return f"<h{level + self.shift}>{text}</h{level + self.shift}>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if not url.startswith(("https://", "http://")):
            return text
        return f'<a href="{html.escape(url)}" rel="noreferrer">{text}</a>'

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return text

    def table(self, text: str) -> str:
        return f'<div class="scroll" role="region" aria-label="Table" tabindex="0"><table>\n{text}</table></div>\n'

    def table_row(self, text: str) -> str:
        named = re.sub(r"^<td[^>]*>(.*?)</td>", r'<th scope="row">\1</th>', text, count=1)
        return f"<tr>{named}</tr>\n"

    def table_cell(self, text: str, align: str | None = None, head: bool = False) -> str:
        opened = '<th scope="col"' if head else "<td"
        return f"{opened}{_aligned(align == 'right')}>{text}</{'th' if head else 'td'}>"


def _of_markdown(text: str, shift: int = 0) -> str:
    rendered = mistune.create_markdown(renderer=_Renderer(shift), plugins=["table"])(text)
    return str(rendered)
