# make help tells what there is.

GO ?= go
STATICCHECK_VERSION ?= v0.8.2
# Every module: those of the workspace, which are published, and those beside it, which have
# a workspace each.
MODULES := $(sort $(patsubst %/go.mod,%,$(shell find . -name go.mod -not -path './.git/*')))
BESIDE := $(sort $(patsubst %/go.work,%,$(shell find . -mindepth 2 -name go.work)))
PUBLISHED := $(filter-out $(BESIDE),$(MODULES))
# Systems that the module builds for, besides the one at hand.
SYSTEMS ?= linux darwin windows freebsd
BENCH ?= .
BENCHTIME ?= 1s
# Server programs for make compat, '/path/to/one /path/to/another'; those of Debian if empty.
SERVERS ?=
# Simulated, and the seed of the first run.
HOURS ?= 10000
SEED ?= 1000
# For each fuzz target.
FUZZTIME ?= 10s
# Flags for the mutants.
MUTANTS ?=
# What the torture is of, and more flags for it, such as -seed 404.
STORE ?= redlock
TORTURE ?=
# Packages tested at the same time: most of their time is waiting.
PACKAGES ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((2 * n)))
# For make release-test: -all, or nothing.
ALL ?=
# The version to release, and the empty directory for what is built of it.
VERSION ?=
DIST ?= dist/$(VERSION)
# What searches, simulates or tortures for minutes is tested by make check: make model,
# make simulate and make torture-short run the tests of these. make release-test runs those of
# the release, which is built twice, and make browser those that need a browser.
EVIDENCE := /internal/(model|simulation|torture/cmd|release|serve/browser)(/|$$)

# tests runs the tests of these packages but the evidence. Without a package left it runs none:
# go test would take the folder that it is in.
tests = all=$$($(GO) list $(1)); packages=$$(echo "$$all" | grep -vE '$(EVIDENCE)' || true); \
	if [ -n "$$packages" ]; then LOCKKEEPER_REQUIRE_SERVERS=1 $(GO) test -race -count=1 -timeout=15m -p $(PACKAGES) $$packages; fi

# each runs a command in every module. Those that are never published are not in go.work.
each = @set -e; for m in $(MODULES); do echo "== $$m: $(1)"; (cd "$$m" && $(1)); done

.PHONY: help
help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: test
test: servers ## all tests but the evidence of make check, with -race and real servers (installs what is missing)
	@set -e; echo "== go test -race: $(PUBLISHED)"; $(call tests,$(addsuffix /...,$(PUBLISHED)))
	@set -e; for m in $(BESIDE); do echo "== $$m: go test -race"; (cd "$$m"; $(call tests,./...)); done

.PHONY: servers
servers: ## install the servers that the tests need, if missing
	@./internal/scripts/install-servers.sh

.PHONY: conformance
conformance: servers ## write the tables of what each store has shown, in backends/README.md
	LOCKKEEPER_UPDATE_CONFORMANCE=1 LOCKKEEPER_REQUIRE_SERVERS=1 $(GO) test -count=1 -p 1 -run='^(TestStore|Test(Real)?Conformance.*)$$' $$($(GO) list $(addsuffix /...,$(PUBLISHED)) | grep -E '/(backends|redlock)/?')

.PHONY: kubernetes
kubernetes: servers ## backends/kubernetes on Kubernetes' own API server, which is built once, in ten minutes
	@set -e; LOCKKEEPER_KUBE_APISERVER=$$(./internal/scripts/build-kube-apiserver.sh); export LOCKKEEPER_KUBE_APISERVER LOCKKEEPER_REQUIRE_SERVERS=1; \
		$(GO) test -race -count=1 -timeout=15m ./backends/kubernetes; \
		cd internal/clientgo; $(GO) test -race -count=1 .; $(GO) run ./measure

.PHONY: browser
browser: servers ## lockkeeper serve in a real Chromium, which is installed if missing; the pictures of its page are made anew
	./internal/scripts/install-chromium.sh
	cd internal/serve/browser && LOCKKEEPER_REQUIRE_SERVERS=1 LOCKKEEPER_PICTURES="$$PWD/pictures" $(GO) test -count=1 -timeout=15m .

.PHONY: compat
compat: ## redlock's tests on other versions of Redis and Valkey: SERVERS, or what can be fetched
	@./internal/scripts/compat.sh $(SERVERS)

.PHONY: bench
bench: servers ## the benchmarks, those against other libraries included
	$(GO) test -run='^$$' -bench='$(BENCH)' -benchtime=$(BENCHTIME) -benchmem ./...
	cd internal/peerbench && $(GO) run ./cmd/peerbench -csv handoff.csv
	cd internal/peerbench && $(GO) run ./cmd/handoffplot handoff.csv handoff.svg

.PHONY: storebench
storebench: servers ## each store beside the lock recipe that it is known for
	cd internal/peerbench && $(GO) run ./cmd/storebench

.PHONY: model
model: ## search the models of the algorithm, and one counterexample for each rule left out
	$(GO) test -count=1 ./internal/model/...
	$(GO) run ./internal/model/check

.PHONY: simulate
simulate: servers ## the real code on fake time against simulated nodes: HOURS and SEED
	LOCKKEEPER_REQUIRE_SERVERS=1 $(GO) test -race -count=1 ./internal/simulation/...
	$(GO) run ./internal/simulation/simulate -hours $(HOURS) -seed $(SEED)
	$(GO) test -count=1 ./backends/record -run=Conformance -every
	$(GO) test -count=1 -timeout=0 ./internal/simulation/records -v -hours $(HOURS) -seed $(SEED)
	$(GO) test -count=1 -timeout=0 ./internal/simulation/moves -v -runs 500 -seed $(SEED)

.PHONY: mutants
mutants: ## put mistakes into the code, each of which the simulation or the tests must find; MUTANTS=-stores: those of single stores, too
	$(GO) run ./internal/mutants $(MUTANTS)

.PHONY: fuzz
fuzz: ## hostile input: each fuzz target for FUZZTIME
	@set -e; packages=$$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs dirname | sort -u); \
	found=$$($(GO) test -list '^Fuzz' $$packages); \
	echo "$$found" | awk '/^Fuzz/ {name[n++] = $$1} /^ok/ {for (i = 0; i < n; i++) print $$2, name[i]; n = 0}' | \
	while read -r pkg name; do echo "== $$pkg $$name"; $(GO) test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "$$pkg"; done

.PHONY: torture
torture: servers ## faults on real servers and processes: STORE=redlock (half an hour), file, sqlite, mysql, postgres, etcd, nats, s3, kubernetes (10 minutes); TORTURE='-seed 404'
	cd internal/torture && $(GO) run ./cmd/torture -store $(STORE) -clients 8 $(if $(filter redlock,$(STORE)),-duration 30m -nodes 5,-duration 10m) $(TORTURE)

.PHONY: allocs
allocs: servers ## what acquire, extend and release allocate: the race detector of make test allocates, too
	LOCKKEEPER_REQUIRE_SERVERS=1 $(GO) test -count=1 -run=Allocations ./backends/... ./redlock

.PHONY: torture-short
torture-short: servers ## two minutes of it, and that it sees what is put in
	cd internal/torture && LOCKKEEPER_REQUIRE_SERVERS=1 $(GO) test -race -count=1 -timeout=15m ./cmd/...

.PHONY: pictures
pictures: ## draw the pictures of the pages anew; their recording: go run ./internal/pictures -record
	$(GO) run ./internal/pictures

.PHONY: release
release: ## build all that VERSION=v0.x.y is given to people as, from the commit, into DIST (dist/VERSION)
	cd internal/release && $(GO) run . -version '$(VERSION)' -out '$(abspath $(DIST))'

.PHONY: release-test
release-test: ## a release for this machine, built twice and installed: minutes; ALL=-all: for every system, from nothing
	cd internal/release && $(GO) test -count=1 -timeout=60m . $(if $(ALL),-args $(ALL))

.PHONY: set-version
set-version: ## have the modules require VERSION=v0.x.y of each other, the next to be published
	cd internal/rehearsal && $(GO) run . -set '$(VERSION)'

.PHONY: check
check: fmt vet lint imports api tidy alone cross test allocs fuzz model simulate mutants torture-short ## everything that CI checks

.PHONY: fmt
fmt: ## fail if a file is not gofmt-ed
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not gofmt-ed:"; echo "$$out"; exit 1; fi

.PHONY: vet
vet: ## go vet
	$(call each,$(GO) vet ./...)

.PHONY: lint
lint: ## staticcheck, with the checks of staticcheck.conf
	$(call each,$(GO) run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION) ./...)

.PHONY: imports
imports: ## the test that forbids imports
	$(GO) test -count=1 ./internal/deps

.PHONY: api
api: ## fail if what is exported changed since the last version and internal/api does not say so
	$(GO) run ./internal/api

.PHONY: api-update
api-update: ## say in internal/api what changed since the last version
	$(GO) run ./internal/api -update

.PHONY: tidy
tidy: ## fail if go.mod or go.sum are not tidy, or a module can't be used as its users do
	@set -e; for m in $(BESIDE); do echo "== $$m: go mod tidy -diff"; (cd "$$m" && GOWORK=off $(GO) mod tidy -diff); done
	cd internal/rehearsal && $(GO) run . -check

.PHONY: tidy-write
tidy-write: ## make them tidy
	@set -e; for m in $(BESIDE); do (cd "$$m" && GOWORK=off $(GO) mod tidy); done
	cd internal/rehearsal && $(GO) run . -tidy

.PHONY: alone
alone: ## the library with its own requirements, without those of the workspace
	GOWORK=off $(GO) vet ./...
	GOWORK=off $(GO) test -count=1 -short ./lock ./keepalive ./leader/... ./backends ./backends/memory ./backends/record

.PHONY: cross
cross: ## vet this module for the other systems
	@set -e; for os in $(SYSTEMS); do echo "== GOOS=$$os go vet"; GOOS=$$os CGO_ENABLED=0 $(GO) vet ./... ./backends/sqlite ./backends/mysql ./backends/postgres ./backends/etcd ./backends/nats ./backends/s3; done
