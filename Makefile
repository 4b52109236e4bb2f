# `make help` lists what there is.

GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Tests may start real servers and wait for real timeouts. Those under test/ run one package after the other, and always (-count=1):
# they build the binaries themselves, so the test cache does not see a change of the server.
TEST_TIMEOUT = 15m
# How long `make soak` injects faults; PERDURE_SOAK_SEED draws the faults of an earlier run again.
SOAK ?= 1h
# What `make faults-short` injects: kill -9 of each kind of process and of all, freezes, graceful stops, PostgreSQL restarts, a soak.
FAULTS_SHORT = ^Test(Link|Kill|KillEverything|Freeze|GracefulStopsAreNotSeen|GracefulStopOfAFrontend|PostgresRestarts|Soak)$$

.PHONY: help build run test test-packages test-binaries faults faults-short race check vet generated tidy proto compose-test chart-test soak bench clean postgres

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

build: ## build the binaries into bin/
	$(GO) build -o bin/ ./cmd/...

run: ## run the development server with the example's worker: API on :7233, Web UI on :8233
	$(GO) run ./cmd/perdure server start-dev

postgres: # installs a PostgreSQL server and PgBouncer if the machine has none; the tests start private ones
	@scripts/postgres-install

test: test-packages test-binaries faults-short ## run all tests; needs nothing but Go: PostgreSQL and PgBouncer are installed if they are missing

test-packages: postgres ## the part of it that stays within one process
	$(GO) test -timeout $(TEST_TIMEOUT) $$($(GO) list ./... | grep -v /test/)

test-binaries: postgres ## the part of it that drives the binaries
	$(GO) test -count=1 -timeout $(TEST_TIMEOUT) -p 1 $$($(GO) list ./test/... | grep -v /test/faults)

faults: postgres ## break a running cluster in every way and count what is left (ten minutes)
	$(GO) test -count=1 -timeout 30m -v ./test/faults

faults-short: postgres ## the essential part of it, for a machine that may be busy: counts decide, durations do not (three minutes)
	$(GO) test -count=1 -timeout $(TEST_TIMEOUT) -short -run '$(FAULTS_SHORT)' ./test/faults

race: postgres ## run the tests of the packages with the race detector (test/ drives binaries, which it does not see)
	$(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v -e /test/ -e /service/matching$$)
	# The race detector of Go 1.26 itself crashes where several threads wait for timers of one synctest bubble.
	$(GO) test -race -cpu 1 -timeout 30m ./service/matching

vet: ## go vet and staticcheck
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

generated: ## check that generated code is in step with its sources
	$(GO) run ./proto/gen
	@git diff --exit-code --stat -- api || (echo 'api/ is out of step: commit what `make proto` writes'; exit 1)

tidy: ## check that go.mod is tidy and files are formatted
	$(GO) mod tidy -diff
	@test -z "$$(gofmt -l $$(git ls-files '*.go' | grep -v '^api/'))" || (gofmt -l $$(git ls-files '*.go' | grep -v '^api/'); echo 'run gofmt -w on these'; exit 1)

check: tidy vet generated test race ## everything that must be green before a commit lands

proto: ## regenerate api/ from proto/
	$(GO) run ./proto/gen

compose-test: ## build the image, run docker-compose.yml and use it; needs root, starts a Docker daemon of its own
	test/deploy/compose.sh

chart-test: ## render the Helm chart and check what comes out
	cd deploy/helm/test && $(GO) vet ./... && $(GO) test -timeout $(TEST_TIMEOUT) ./...

soak: postgres ## inject random faults into a real cluster under load for $(SOAK), and count
	PERDURE_SOAK=$(SOAK) $(GO) test -count 1 -run TestSoak -v -timeout 24h ./test/faults

bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchtime 2s ./persistence/... ./machine/... ./service/...

clean: ## remove what was built
	rm -rf bin
