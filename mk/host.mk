# SPDX-License-Identifier: Apache-2.0

# Debian's packages that the tests and the demo use. gcc is for the race
# detector and for spin.
HOST := runc containerd docker.io busybox-static iproute2 procps patch strace prometheus \
        prometheus-node-exporter systemd zsh groff-base gcc libc6-dev spin

.PHONY: host/prepare

host/prepare: ## install what tests and demo need, by apt, where it is missing (Debian 12, root)
	@mk/need $(HOST) $(PACKAGING)
