# make demo    set up .venv and draft reports for a real and some synthetic ECGs -> demo/index.html
# make test    set up .venv and run the tests
# make check   what CI and a contributor run before a commit: lint, types, tests, wheel
# make starter DATA=folder   rebuild the bundled starter from a PTB-XL download
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRA ?= cpu
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test check lint types wheel starter clean
.DEFAULT_GOAL := demo

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRA),dev]"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/regen demo --out demo --force

test: $(VENV)/.ready
	$(BIN)/python -m pytest

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/python -m mypy -p regen

wheel: $(VENV)/.ready
	PYTHON=$(PYTHON) tests/wheel.sh $(BIN)/python

check: lint types test wheel
	$(BIN)/python -m pip check

# DATA: an unpacked PTB-XL 1.0.3 (ptbxl_database.csv, records500/). REPORTS: a further table of reports without recordings, if there is one.
BUILD := build/starter
starter: $(VENV)/.ready
	@test -f "$(DATA)/ptbxl_database.csv" || { echo "give the unpacked PTB-XL folder: make starter DATA=folder" >&2; exit 2; }
	mkdir -p $(BUILD)
	test -d $(BUILD)/data || $(BIN)/regen prepare ptb-xl "$(DATA)" --out $(BUILD)/data $(if $(REPORTS),--extra-reports "$(REPORTS)") || test -d $(BUILD)/data
	test -d $(BUILD)/bundle || $(BIN)/regen train all configs/starter.yaml --data $(BUILD)/data --out $(BUILD)/bundle --threads 2 --device cpu
	test -d $(BUILD)/random || $(BIN)/regen train encoder configs/ecg.yaml --data $(BUILD)/data --out $(BUILD)/random --threads 2 --device cpu --set pretrain_epochs=0
	$(BIN)/regen eval report --studies $(BUILD)/data --bundle $(BUILD)/bundle --random-init $(BUILD)/random --out $(BUILD)/report.md --force
	sed -e '/^METRICS$$/{r $(BUILD)/report.md' -e 'd}' configs/starter_card.md > $(BUILD)/card.md
	cd $(BUILD)/bundle && $(abspath $(BIN))/regen bundle --encoder encoder --index index --generator generator --card ../card.md --out ../starter --force
	rm -rf regen/starter.new && cp -r $(BUILD)/starter regen/starter.new && rm -rf regen/starter && mv regen/starter.new regen/starter

clean:
	rm -rf $(VENV) build dist demo *.egg-info
