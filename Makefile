# make demo, make run, make test: each sets up what it needs first.
PYTHON ?= python3
BIN := .venv/bin

# Everything that is tried out here is a developer's machine.
export DEBUG ?= true
# Tests and demo start many processes, each of which would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo run test test-sqlite test-postgresql bench size faults kills clients walk api-fuzz bounce-score lint format messages

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: .venv/installed ## virtual environment with all that MailHub runs on

demo: .venv/installed ## send a campaign of 1,000 and a few transactional mails for real, and reconcile
	$(BIN)/python manage.py demo

run: .venv/installed ## pages on 127.0.0.1:8000, workers and a receiving mail server, until Ctrl-C
	$(BIN)/python manage.py run

test: .venv/dev ## the whole suite, on SQLite and on PostgreSQL side by side
	scripts/install_packages
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-sqlite test-postgresql

# Many tests wait for processes, most of them on PostgreSQL: so many at a time keep two cores busy.
PYTEST := $(BIN)/pytest --dist loadfile --no-loadscope-reorder --numprocesses

test-sqlite: .venv/dev
	$(PYTEST) 2

test-postgresql: .venv/dev
	FSYNC=off scripts/with_postgresql $(PYTEST) 3

bounce-score: .venv/installed ## how much of real bounce mail is understood, where there are samples of it
	$(BIN)/python -m tests.feedback.score $(BOUNCES)

lint: .venv/dev ## style, types, migrations, deployment checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/python manage.py makemigrations --check --dry-run
	scripts/check_deploy

bench: .venv/dev ## what this machine can do, beside the least that any program does and beside others; BENCH="--rounds 1" for less
	scripts/install_packages
	scripts/with_postgresql $(BIN)/python manage.py benchmark $(BENCH)

size: .venv/dev ## what becomes of it with ten million messages and two million contacts; SIZE="--messages 1000000" for less
	scripts/install_packages
	scripts/with_postgresql $(BIN)/python manage.py benchmark_size $(SIZE)

faults: .venv/dev ## kills, cuts off and starves everything at random points, and counts what is lost or doubled; FAULTS="--points 5" for less
	scripts/install_packages
	scripts/with_postgresql $(BIN)/python -m tests.faults $(FAULTS)

kills: .venv/dev ## kills the web server and the SMTP server while 5,000 mails are handed in at each, and counts what arrives; KILLS=500 for fewer
	scripts/install_packages
	KILLS_MAILS=$(or $(KILLS),5000) scripts/with_postgresql $(BIN)/pytest -q -s tests/transactional/test_api_process.py

# What is not installed fails here, and is not skipped.
clients: .venv/dev ## programs of others (WordPress, nodemailer, PHPMailer, Symfony Mailer, ActionMailer, Postfix, swaks, curl ...) send by what the page Connect says
	scripts/install_packages
	scripts/install_clients build/clients
	CI=true CLIENTS=build/clients $(BIN)/pytest -m '' tests/transactional/test_connect_clients.py tests/transactional/test_smtpd_clients.py \
		tests/transactional/test_foreign_clients.py

api-fuzz: .venv/dev ## asks the HTTP API for long whatever its document allows, and what it forbids
	API_QUESTIONS=200 $(BIN)/pytest -q tests/test_api_document.py

walk: .venv/dev ## relays, a domain, its keys, an own address and a relay that fails, in a browser; SCREENSHOTS=FOLDER keeps pictures
	scripts/install_packages
	$(BIN)/pytest -m 'browser and long'

format: .venv/dev ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

messages: .venv/dev ## collect the words that people see, and compile their translations
	scripts/install_packages
	$(BIN)/python manage.py makemessages --locale ja --no-obsolete --add-location file --ignore '.venv/*' --ignore 'build/*' --ignore 'tests/*'
	$(BIN)/python manage.py compilemessages --locale ja --ignore .venv

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("MailHub needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@

.venv/dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	touch $@
