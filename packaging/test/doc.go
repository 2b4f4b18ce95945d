// SPDX-License-Identifier: Apache-2.0

// Package test builds the tarball, the binaries and the packages of this tree
// and tries them in scratch roots: `make packaging/test`. Nothing of the host's
// own packages is touched.
package test
