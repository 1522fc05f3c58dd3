import ast
import dataclasses
import inspect
import re
import subprocess
import sys

import nbformat
import pytest

from helpers import (
    balancing,
    cleaning,
    datasets,
    download,
    manifests,
    notebooks,
    paths,
    places,
    recipe,
    sources,
    street_photos,
)

SOURCES = sorted(path for stage in paths.SOURCE.glob("0?_*") for path in stage.glob("*.ipynb"))
NAMES = [f"{path.parent.name}/{path.stem}" for path in SOURCES]
NEW_DATASETS = ("rehearsal", "street-photos")  # that a notebook with its own parameters makes
DEMO = ("make_list", "classify_scenes", "build_cells", "train", "evaluate")


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_the_runner_knows_every_notebook():
    assert set(NAMES) - {"06_demo/demo"} == set(notebooks.OUTPUTS)  # that one serves a page, and writes nothing


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
class TestSource:
    def test_it_is_committed_without_outputs(self, path):
        assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(path))

    def test_it_has_one_cell_of_plain_parameters_before_any_other_code(self, path):
        cells = code_cells(path)
        assert ["parameters" in cell.metadata.get("tags", []) for cell in cells] == [True] + [False] * (len(cells) - 1)
        parameters = notebooks.defaults(f"{path.parent.name}/{path.stem}")
        assert parameters.get("dataset", "toy-earth") in ("toy-earth", *NEW_DATASETS)

    def test_it_checks_its_parameters_before_it_works(self, path):
        name = f"{path.parent.name}/{path.stem}"
        assert f'notebooks.parameters("{name}", globals()' in code_cells(path)[1].source

    def test_it_holds_no_logic(self, path):
        trees = [ast.parse(cell.source) for cell in code_cells(path)]
        nodes = [node for tree in trees for node in ast.walk(tree)]
        assert not [node for node in nodes if isinstance(node, ast.ClassDef | ast.While)]
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.For)]
        assert all(node.end_lineno - node.lineno < 4 for node in functions)

    def test_it_runs_from_anywhere(self, path):
        text = path.read_text()
        assert not re.search(r"sys\.path|os\.chdir|%cd", text)
        words = [
            node.value
            for cell in code_cells(path)
            for node in ast.walk(ast.parse(cell.source))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [word for word in words if word.startswith(("/", "~", "..")) or re.match(r"[A-Za-z]:\\", word)]

    def test_it_explains_itself(self, path):
        cells = nbformat.read(path, as_version=4).cells
        assert cells[0].cell_type == "markdown"
        assert cells[0].source.startswith("# ")
        assert cells[-1].source.startswith("## Next")


def test_parameters_of_training_are_its_settings():
    parameters = notebooks.defaults("04_training/train")
    halves = recipe.of(parameters)
    kinds = {field.name: field.type for half in halves for field in dataclasses.fields(half)}
    assert {name: type(value) for name, value in parameters.items()} == kinds
    assert set(recipe.CHOICES) <= set(parameters)


def test_parameters_of_a_data_list_are_those_of_its_call():
    call = inspect.signature(datasets.make_list).parameters
    assert list(notebooks.defaults("01_data/make_list")) == list(call)


def test_parameters_of_a_download_are_its_settings():
    parameters = notebooks.defaults("01_data/download")
    settings = {field.name: field.default for field in dataclasses.fields(download.Settings)}
    assert {name: parameters[name] for name in settings} == settings
    assert parameters["kind"] in sources.KINDS
    assert set(inspect.signature(sources.find).parameters) <= set(parameters)


def test_parameters_of_a_collection_are_those_of_its_call():
    parameters = notebooks.defaults("01_data/collect")
    assert set(inspect.signature(street_photos.collect).parameters) <= set(parameters)
    assert parameters["provider"] in street_photos.PROVIDERS


def test_parameters_of_cleaning_are_its_settings():
    parameters = notebooks.defaults("01_data/clean")
    settings = {field.name: field.default for field in dataclasses.fields(cleaning.Settings)}
    assert {name: parameters[name] for name in settings} == settings
    assert notebooks.defaults("01_data/explore")["near_identical_bits"] == settings["near_identical_bits"]


def test_parameters_of_balancing_are_those_of_its_call():
    assert set(inspect.signature(balancing.balance).parameters) - {"rows", "shares"} <= set(
        notebooks.defaults("01_data/balance")
    )


def test_the_limit_off_a_coast_is_that_of_places():
    assert notebooks.defaults("01_data/enrich")["offshore_km"] == places.OFFSHORE_KM


def test_the_demo_runs_the_line_in_order():
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (paths.SOURCE / "Makefile").read_text(), re.MULTILINE)[1]
    line = [name for name in notebooks.OUTPUTS if name.partition("/")[2] in DEMO]
    assert re.findall(r"\$\(NOTEBOOK\) (\S+)", recipe) == line


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("partitions = 'multi'", "no parameter 'partitions', did you mean 'partition'"),
        ("epoch = 3", "did you mean 'epochs'"),
        ("partition = 'mutli'", "partition cannot be 'mutli', did you mean 'multi'"),
        ("scene = 'outdoor'", "scene cannot be 'outdoor'"),
        ("objective = 'haversine'", "did you mean 'haversine_smoothed'"),
        ("epochs = 'many'", "epochs takes a whole number, not negative, such as 15, not 'many'"),
        ("epochs = 2.5", "epochs takes a whole number"),
        ("epochs = True", "epochs takes a whole number"),
        ("dataset = None", "dataset takes text"),
        ("dataset = 1e3", "dataset takes text .with papermill's -r"),
        ("seed = -1", "seed takes a whole number, not negative"),
        ("learning_rate = float('nan')", "learning_rate takes a number"),
        ("preset = 'serch'", "did you mean 'search'"),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_nearest_valid_one(injected, message):
    variables = notebooks.defaults("04_training/train")
    variables["In"] = ["", "partition = 'multi'", f"# Parameters\n{injected}\n", "notebooks.parameters(...)"]
    exec(injected, variables)
    with pytest.raises(notebooks.ParameterError, match=message):
        notebooks.parameters("04_training/train", variables, **recipe.CHOICES)


def test_a_run_that_does_not_search_has_a_name_of_its_own_which_tells_how_to_make_it(root):
    names = {each: notebooks.default_run_name("toy-earth", "multi", preset=each) for each in recipe.PRESETS}
    assert names == {"auto": "toy-earth-multi", "search": "toy-earth-multi", "plain": "toy-earth-multi-plain"}
    defaults = notebooks.defaults("04_training/train")
    assert defaults["preset"] == "auto"
    made = notebooks.OUTPUTS["04_training/train"](defaults | {"preset": "plain"})
    assert made == paths.run("toy-earth-multi-plain")
    known = [notebooks._default_run(name) for name in ("toy-earth-multi", "toy-earth-multi-plain")]
    assert [each["preset"] for each in known] == ["auto", "plain"]
    assert all(each["partition"] == "multi" for each in known)


def test_values_take_the_type_of_their_default():
    variables = {**notebooks.defaults("04_training/train"), "run_name": 5, "learning_rate": 1, "photo_root": 25}
    checked = notebooks.parameters("04_training/train", variables, **recipe.CHOICES)
    assert (checked.run_name, checked.learning_rate, checked.photo_root) == ("5", 1.0, "25")


def test_what_a_reader_defines_later_is_no_parameter():
    variables = {**notebooks.defaults("04_training/train"), "figure": 1, "In": ["", "figure = 1"]}
    assert not hasattr(notebooks.parameters("04_training/train", variables), "figure")


def test_a_missing_input_names_the_command(root):
    with pytest.raises(
        notebooks.MissingInput, match=r"papermill 03_partitioning/build_cells\.ipynb .* -p dataset mine"
    ):
        notebooks.require("03_partitioning/build_cells", dataset="mine")


def test_a_stale_input_names_the_command(root):
    source = paths.data_list("mine")
    source.parent.mkdir()
    source.write_text("one")
    name, parameters = "03_partitioning/build_cells", {"dataset": "mine"}
    manifests.finish(manifests.begin(paths.cells("mine"), name, parameters, {"data list": source}))
    assert notebooks.require(name, dataset="mine") == paths.cells("mine")
    source.write_text("two")
    with pytest.raises(notebooks.MissingInput, match=r"has changed since.*papermill 03_partitioning/build_cells"):
        notebooks.require(name, dataset="mine")


def test_the_command_line_refuses_an_unknown_parameter_before_it_starts(root):
    command = [sys.executable, "-m", "helpers.notebooks", "04_training/train", "-p", "partitoin", "multi"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "did you mean 'partition'?" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(root.iterdir()) == []
