# make demo    the whole line on the embedded dataset, from photos to an accuracy plot
# make app     the page: place photos on the map, play against the model; RUN= which run, PORT= where
# make test    the tests
# make lint    style and types
# make bench   speed, beside a plain reference in the same run
# make scale   what 100 thousand to 100 million photos cost, from what a photo costs here
# make pack    a dataset in a few large files: make pack DATASET=toy-earth TO=FOLDER [PHOTO_ROOT=] [SHORT_SIDE=] [MEGABYTES=]
# make unpack  the photos of such files, loose: make unpack FROM=FOLDER TO=FOLDER
# make install the environment in .venv, which every other target makes sure of

.PHONY: demo app figures screenshots test lint bench scale pack unpack install
.DELETE_ON_ERROR:
# Else every process that is started would compile its libraries anew, seconds each time.
unexport PYTHONDONTWRITEBYTECODE

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(firstword $(foreach python,python3 python3.13 python3.12 python3.11,\
	$(shell $(python) -c "$(SUPPORTED)" 2>/dev/null && echo $(python))))
NOTEBOOK := .venv/bin/python -m helpers.notebooks

demo: install
	@$(NOTEBOOK) 01_data/make_list
	@$(NOTEBOOK) 02_scenes/classify_scenes
	@$(NOTEBOOK) 03_partitioning/build_cells
	@$(NOTEBOOK) 04_training/train
	@$(NOTEBOOK) 05_evaluation/evaluate
	@echo
	@echo "accuracy plot:        05_evaluation/results/toy-earth-multi/toy-earth/accuracy.png"
	@echo "radii of four photos: 05_evaluation/results/toy-earth-multi/toy-earth/radii.png"
	@echo "map of predictions:   05_evaluation/results/toy-earth-multi/toy-earth/map.png"
	@echo "result table:         05_evaluation/results/toy-earth-multi/toy-earth/accuracy.md (and .csv)"

app: install
	@.venv/bin/python -m helpers.demo $(if $(RUN),--run "$(RUN)") $(if $(PORT),--port $(PORT))

# The figures that the READMEs show.
figures: demo
	@$(NOTEBOOK) 01_data/enrich
	@mkdir -p docs
	@cp 01_data/enriched/toy-earth-enriched/regions.png docs/toy-earth-regions.png
	@cp 01_data/lists/toy-earth/photos.png 01_data/toy-earth.png
	@cp 03_partitioning/cells/toy-earth/cells.png docs/toy-earth-cells.png
	@cp 05_evaluation/results/toy-earth-multi/toy-earth/accuracy.png docs/toy-earth-accuracy.png
	@cp 05_evaluation/results/toy-earth-multi/toy-earth/map.png docs/toy-earth-map.png
	@cp 05_evaluation/results/toy-earth-multi/toy-earth/radii.png docs/toy-earth-radii.png

# The pictures of the apps that the READMEs show, made by their tests.
screenshots: demo
	@SCREENSHOTS=docs .venv/bin/python -m pytest -q tests/test_demo.py tests/test_shared_pages.py \
		-k "pictures_of_the_page or page_of_rendered_photos"

# Tests that run side by side must not each take all cores: with a thread each they are done in half the time.
test: install
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder -m "not alone"
	@.venv/bin/python -m pytest -m alone

lint: install
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

bench: install
	@.venv/bin/python -m benchmarks

scale: install
	@.venv/bin/papermill benchmarks/scale.ipynb /dev/null

pack: install
	@test -n "$(DATASET)" -a -n "$(TO)" || { echo "say what and where: make pack DATASET=toy-earth TO=FOLDER"; exit 1; }
	@.venv/bin/python -m helpers.packing pack "$(DATASET)" "$(TO)" --photo-root "$(PHOTO_ROOT)" \
		--short-side $(or $(SHORT_SIDE),0) --megabytes $(or $(MEGABYTES),2000)

unpack: install
	@test -n "$(FROM)" -a -n "$(TO)" || { echo "say from where and where to: make unpack FROM=FOLDER TO=FOLDER"; exit 1; }
	@.venv/bin/python -m helpers.packing unpack "$(FROM)" "$(TO)"

install: .venv/.installed

# Poetry asks an index for JSON, which some mirrors do not speak. Through this plug-in it reads the HTML that every index
# has, from the index that pip itself uses here; the lock stays free of hosts.
.venv/.installed: pyproject.toml poetry.lock poetry.toml .poetry/.installed
	@echo "installing the environment into .venv (the first time this takes a few minutes)"
	@POETRY_PYPI_MIRROR_URL="$${PIP_INDEX_URL:-$$(.poetry/bin/pip config get global.index-url 2>/dev/null \
		|| .poetry/bin/python -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)')}" \
		env -u VIRTUAL_ENV .poetry/bin/poetry install --no-interaction
	@.venv/bin/python -m ipykernel install --sys-prefix --display-name "Photo geolocation lab" >/dev/null
	@touch $@

.poetry/.installed:
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found (3.14 is too new): install one, or name it with PYTHON=..."; exit 1; }
	@echo "installing Poetry into .poetry"
	@$(PYTHON) -m venv .poetry
	@.poetry/bin/python -m pip install --quiet "poetry==2.5.1" "poetry-plugin-pypi-mirror==0.6.5"
	@touch $@
