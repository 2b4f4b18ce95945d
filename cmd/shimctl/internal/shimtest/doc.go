// SPDX-License-Identifier: Apache-2.0

// Package shimtest starts a real v1 shim for shimctl's own tests, and wedges it
// the way production did (B01): with a runc, a publisher and orphans that are
// the test binary itself or sleep(1), so that it needs no daemon and no image.
package shimtest
