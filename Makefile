GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
FUZZTIME ?= 10s
TESTTIME ?= 9m
BENCH    ?=
KEEP     ?=

.DEFAULT_GOAL := build
.PHONY: build test race lint fuzz bench demo clean help

build: ## build the one static binary, bin/weft
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/weft ./cmd/weft

test: ## run all tests (as root, those in network namespaces too)
	CGO_ENABLED=0 $(GO) test -timeout $(TESTTIME) ./...

race: ## run all tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

lint: ## gofmt, go vet, staticcheck, and a build for arm64
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not gofmt'ed; run gofmt -w on:" $$unformatted; exit 1; fi
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) tool staticcheck ./...
	CGO_ENABLED=0 GOARCH=arm64 $(GO) build ./...

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@set -e; for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

bench: build ## measure weft against the kernel's path, into bench-out/ (BENCH="--runs 3" for other flags)
	bin/weft bench run --out bench-out $(BENCH)

demo: build ## a cluster of three hosts with six containers: root or user namespaces, and a minute (KEEP=1 leaves it running)
	bin/weft demo $(if $(KEEP),--keep)

clean: ## remove what the other targets made
	rm -rf bin bench-out
	$(GO) clean -testcache

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
