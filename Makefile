# provision: `make lab` shows it at work, `make test` proves it.
# Both install what they need on a fresh Debian 12.

SHELL    := /bin/bash
BUILD    := build
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
STATE    := $(abspath $(BUILD))/state
# What needs root gets it, with the environment that this file sets.
SUDO     := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env "PATH=$$PATH")
ONCE     ?=

export CGO_ENABLED = 0
export PROVISION_TEST_STATE = $(STATE)
export PROVISION_TEST_LOADERS = $(STATE)/boot
export PROVISION_TEST_PROGRAM = $(abspath $(BUILD))/bin/provision

.PHONY: build images lab test check bench bench-boot bench-bmc clean

# go decides what is out of date: make asks it each time. The agent is part of
# the image, which is bit-identical when built twice, so its file is replaced
# only when it differs and its version does not change with each commit.
build:
	go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BUILD)/bin/provision ./cmd/provision
	go build -trimpath -buildvcs=false -ldflags '-s -w' -o $(BUILD)/bin/provision-agent.new ./cmd/agent
	@cmp -s $(BUILD)/bin/provision-agent.new $(BUILD)/bin/provision-agent && rm $(BUILD)/bin/provision-agent.new || \
		mv $(BUILD)/bin/provision-agent.new $(BUILD)/bin/provision-agent
	GOARCH=arm64 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $(BUILD)/bin/provision-agent-arm64.new ./cmd/agent
	@cmp -s $(BUILD)/bin/provision-agent-arm64.new $(BUILD)/bin/provision-agent-arm64 && rm $(BUILD)/bin/provision-agent-arm64.new || \
		mv $(BUILD)/bin/provision-agent-arm64.new $(BUILD)/bin/provision-agent-arm64

# Kernel, ramdisk, loaders and the installed system. Built once; again when the
# agent or what builds them has changed.
images: build
	@$(MAKE) --no-print-directory $(STATE)/.images

$(STATE)/.images: $(BUILD)/bin/provision-agent $(BUILD)/bin/provision-agent-arm64 $(shell find image -type f -not -name '*_test.go')
	$(SUDO) $(BUILD)/bin/provision images build debian-12 --state-dir $(STATE) --agent $(abspath $(BUILD)/bin/provision-agent) $(if $(wildcard $@),--force)
	$(SUDO) touch $@

# lab, test, check and the benches install what they need first; setup.sh says where
# the go command is.
WITH_SETUP = go_bin="$$(internal/build/setup.sh $(1))" && PATH="$$go_bin:$$PATH" $(MAKE) --no-print-directory

lab:
	@$(call WITH_SETUP,lab) run-lab

run-lab: build images
	$(SUDO) $(BUILD)/bin/provision lab up --images-from $(STATE) $(if $(ONCE),--once)

test:
	@$(call WITH_SETUP,test) run-test

# These boot machines, which takes all the cores there are, or hold good clients'
# answers in a flood to a second: one after the other.
ALONE := ./internal/benchboot ./cmd/provision ./http ./image ./lab
# These wait more than they work, for joins and for leases that end: two at a time.
WAITING := ./relay ./cluster/swarm

run-test: build images
	go vet ./...
	@others="$$(go list ./... | grep -vxF "$$(go list $(ALONE) $(WAITING))")" && failed= && \
	{ echo "go test: what others may run beside"; $(SUDO) $$(command -v go) test -parallel 8 -timeout 20m $$others || failed=1; } && \
	{ echo "go test -p 2 $(WAITING)"; $(SUDO) $$(command -v go) test -p 2 -timeout 20m $(WAITING) || failed=1; } && \
	{ echo "go test -p 1 $(ALONE)"; $(SUDO) $$(command -v go) test -p 1 -timeout 60m $(ALONE) || failed=1; } && \
	[ -z "$$failed" ]

bench:
	@$(call WITH_SETUP,test) run-bench

run-bench: build images
	$(SUDO) $$(command -v go) run ./internal/bench $(BUILD)

# The boot services beside their peers. What to measure: make bench-boot BENCH="-only dhcp -rounds 3 -quick"
bench-boot:
	@$(call WITH_SETUP,bench) run-bench-boot

# Storm and feed use the loaders and the image of `make images`, the rest nothing
# but the program.
run-bench-boot: build $(if $(findstring -only,$(BENCH)),$(if $(findstring storm,$(BENCH))$(findstring feed,$(BENCH)),images),images)
	go build -o $(BUILD)/tools/benchboot ./internal/benchboot
	$(SUDO) $(BUILD)/tools/benchboot -results $(BUILD)/bench-boot.json $(BENCH) $(BUILD)

# 500 BMCs at the same time, beside ipmitool. Less of it: make bench-bmc BENCH="-only ipmi -rounds 1"
bench-bmc:
	@$(call WITH_SETUP,bmc) run-bench-bmc

run-bench-bmc:
	go build -o $(BUILD)/tools/benchbmc ./internal/benchbmc
	$(SUDO) $(BUILD)/tools/benchbmc $(BENCH) $(BUILD)

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT  := mvdan.cc/gofumpt@v0.12.0

check:
	@$(call WITH_SETUP,test) run-check

run-check: $(BUILD)/tools/golangci-lint $(BUILD)/tools/gofumpt
	@unformatted="$$($(BUILD)/tools/gofumpt -l .)"; [ -z "$$unformatted" ] || { echo "not formatted (gofumpt):"; echo "$$unformatted"; exit 1; }
	go vet ./...
	$(BUILD)/tools/golangci-lint run ./...
	CGO_ENABLED=1 $(SUDO) $$(command -v go) test -race -short ./...
	internal/build/fuzz.sh

$(BUILD)/tools/golangci-lint:
	GOBIN=$(abspath $(BUILD)/tools) go install $(GOLANGCI)

$(BUILD)/tools/gofumpt:
	GOBIN=$(abspath $(BUILD)/tools) go install $(GOFUMPT)

clean:
	$(SUDO) rm -rf $(BUILD)

.PHONY: run-lab run-test run-bench run-bench-boot run-bench-bmc run-check
