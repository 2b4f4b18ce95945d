// SPDX-License-Identifier: Apache-2.0

// Package enginetest tests what packaging/monitoring ships under the engines that it
// is for: node-problem-detector, node_exporter, systemd and runc, with shims of
// upstream's that are wedged. It is tests only, of build tag engines.
//
// They run in pid and mount namespaces of their own, with /run and /var/lib
// empty: shimctl looks at all shims that it sees, and these are to be the only
// ones.
package enginetest
