# SPDX-License-Identifier: Apache-2.0

.PHONY: baselines

baselines: ## build upstream's own shims into bin/baselines/RELEASE/
	integration/upstream/build bin/baselines
