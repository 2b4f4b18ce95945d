# SPDX-License-Identifier: Apache-2.0
# Needs for `release` and `install`: Go, GNU tar. It does not need the Makefile:
# `make -f mk/packaging.mk install` works, and is what the packages run.

PREFIX ?= /usr/local

.PHONY: install dist release

install: ## install all but what replaces the daemon's shim: DESTDIR= PREFIX=/usr/local
	packaging/build bin
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' UNITDIR='$(UNITDIR)' packaging/install bin

dist: ## write the source tarball, with vendor/, to dist/
	packaging/dist dist

release: ## write tarball, binaries (amd64, arm64), bill of materials and checksums to dist/
	packaging/release dist

# Debian's packages that make and lint the packages.
PACKAGE_TOOLS := dpkg-dev debhelper lintian rpm rpmlint rpm2cpio cpio git

.PHONY: dist-packages deb rpm test-packages

dist-packages: ## both kinds of packages into dist/, and their tools by apt where they are missing (Debian 12, root)
	mk/need $(PACKAGE_TOOLS)
	packaging/deb dist
	packaging/rpms dist

deb: ## build and lint the Debian packages into dist/ (dpkg-dev, debhelper, lintian)
	packaging/deb dist

rpm: ## build and lint the RPM packages into dist/ (rpm, rpmlint)
	packaging/rpms dist

test-packages: packages ## build release and packages twice, install, upgrade and remove them, run Docker with them (root)
	go vet -tags packages ./packaging/test
	go test -tags packages -count=1 -timeout 30m -parallel 3 -v ./packaging/test
