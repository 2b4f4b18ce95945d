// SPDX-License-Identifier: Apache-2.0

// Package shimtest starts a real v1 shim for shimctl's own tests, and wedges it
// the way production did (B01). The runtime, the daemon and the processes are the
// harness's fakes, so that it needs neither runc nor an image.
package shimtest
