// SPDX-License-Identifier: Apache-2.0

// Package test builds the tarball, the binaries and the packages of this tree, and
// tests them in scratch roots: `make packaging/test`. It does not touch the host's own
// packages.
package test
