# make help tells what there is.

GO ?= go
STATICCHECK_VERSION ?= v0.8.2
# Every module: this one, and those nested in it.
MODULES := $(sort $(patsubst %/go.mod,%,$(shell find . -name go.mod -not -path './.git/*')))
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
# What the torture is of, and more flags for it, such as -seed 404.
STORE ?= redlock
TORTURE ?=

# each runs a command in every module. Those that are never published are not in go.work.
each = @set -e; for m in $(MODULES); do echo "== $$m: $(1)"; (cd "$$m"; case $$m in ./internal/*) export GOWORK=off;; esac; $(1)); done

.PHONY: help
help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

.PHONY: test
test: servers ## every test, with -race and real servers (installs redis-server if missing)
	$(call each,LOCKKEEPER_REQUIRE_SERVERS=1 $(GO) test -race -count=1 -timeout=15m ./...)

.PHONY: servers
servers: ## install the servers that the tests need, if missing
	@./internal/scripts/install-servers.sh

.PHONY: compat
compat: ## redlock's tests on other versions of Redis and Valkey: SERVERS, or what can be fetched
	@./internal/scripts/compat.sh $(SERVERS)

.PHONY: bench
bench: servers ## the benchmarks, those against other libraries included
	$(GO) test -run='^$$' -bench='$(BENCH)' -benchtime=$(BENCHTIME) -benchmem ./...
	cd internal/peerbench && GOWORK=off $(GO) run ./cmd/peerbench -csv ../docs/handoff.csv
	cd internal/peerbench && GOWORK=off $(GO) run ./cmd/handoffplot ../docs/handoff.csv ../docs/handoff.svg

.PHONY: storebench
storebench: servers ## each store beside the lock recipe that it is known for
	cd internal/peerbench && GOWORK=off $(GO) run ./cmd/storebench

.PHONY: model
model: ## search the models of the algorithm, and one counterexample for each rule left out
	$(GO) run ./internal/model/check

.PHONY: simulate
simulate: ## the real code on fake time against simulated nodes: HOURS and SEED
	$(GO) run ./internal/simulation/simulate -hours $(HOURS) -seed $(SEED)

.PHONY: mutants
mutants: ## put mistakes into the code, each of which the simulation or the tests must find
	$(GO) run ./internal/mutants

.PHONY: fuzz
fuzz: ## hostile input: each fuzz target for FUZZTIME
	@set -e; packages=$$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs dirname | sort -u); \
	found=$$($(GO) test -list '^Fuzz' $$packages); \
	echo "$$found" | awk '/^Fuzz/ {name[n++] = $$1} /^ok/ {for (i = 0; i < n; i++) print $$2, name[i]; n = 0}' | \
	while read -r pkg name; do echo "== $$pkg $$name"; $(GO) test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "$$pkg"; done

.PHONY: torture
torture: servers ## faults on real servers and processes: STORE=redlock (half an hour), file, sqlite, postgres, mysql, etcd (10 minutes); TORTURE='-seed 404'
	cd internal/torture && GOWORK=off $(GO) run ./cmd/torture -store $(STORE) -clients 8 $(if $(filter redlock,$(STORE)),-duration 30m -nodes 5,-duration 10m) $(TORTURE)

.PHONY: check
check: fmt vet lint imports tidy cross test fuzz model simulate mutants ## everything that CI checks

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

.PHONY: tidy
tidy: ## fail if go.mod or go.sum are not tidy
	$(call each,$(GO) mod tidy -diff)

.PHONY: cross
cross: ## vet this module for the other systems
	@set -e; for os in $(SYSTEMS); do echo "== GOOS=$$os go vet"; GOOS=$$os CGO_ENABLED=0 $(GO) vet ./...; done
