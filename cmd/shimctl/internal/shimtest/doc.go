// SPDX-License-Identifier: Apache-2.0

// Package shimtest starts a real v1 shim for shimctl's own tests, and wedges it
// the way production did (B01): with fakerunc for runc and publisher, and
// sleep(1) for everything else, so that it needs no daemon and no image.
package shimtest
