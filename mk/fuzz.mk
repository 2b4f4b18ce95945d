# SPDX-License-Identifier: Apache-2.0

.PHONY: fuzz/all

FUZZTIME ?= 1m

# go test fuzzes one target of one package at a time.
fuzz/all: ## each fuzz target for a minute (FUZZTIME=1h)
	@set -e; git grep -o '^func Fuzz[A-Za-z]*' -- '*_test.go' | while IFS=: read -r file func; do \
	  target=$${func#func }; echo "$$target of $$(dirname $$file)"; \
	  go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x ./$$(dirname $$file); \
	done
