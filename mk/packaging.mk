# SPDX-License-Identifier: Apache-2.0
# Release and install need Go and GNU tar, and not the Makefile:
# `make -f mk/packaging.mk install` works, and is what the packages run.

PREFIX ?= /usr/local

# Debian's packages that make and lint the packages.
PACKAGING := dpkg-dev debhelper lintian rpm rpmlint rpm2cpio cpio git

.PHONY: install packaging/needs packaging/deb packaging/rpm packaging/dist packaging/release packaging/test

install: ## install all but what replaces the daemon's shim: DESTDIR= PREFIX=/usr/local
	packaging/build bin
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' UNITDIR='$(UNITDIR)' packaging/install bin

packaging/needs:
	@mk/need $(PACKAGING)

packaging/deb: ## build and lint the Debian packages into dist/ (dpkg-dev, debhelper, lintian)
	packaging/build-deb dist

packaging/rpm: ## build and lint the RPM packages into dist/ (rpm, rpmlint)
	packaging/build-rpm dist

packaging/dist: ## write the source tarball, with vendor/, to dist/
	packaging/dist dist

packaging/release: ## write tarball, binaries (amd64, arm64), bill of materials and checksums to dist/
	packaging/release dist

packaging/test: host/prepare ## build release and packages twice, install, upgrade and remove them, run Docker with them (root)
	go vet -tags packages ./packaging/test
	go test -tags packages -count=1 -timeout 30m -parallel 3 -v ./packaging/test
