// SPDX-License-Identifier: Apache-2.0

package catalogue

import "testing"

// TestUnswapped: with version 2 of cgroups Swappiness would keep nothing in memory.
func TestUnswapped(t *testing.T) {
	if m := unswapped(1, true); m.Limit == nil || *m.Limit != 1 || m.Swap == nil || *m.Swap != 1 || m.Swappiness != nil {
		t.Errorf("version 2: %+v", m)
	}
	if m := unswapped(1, false); m.Limit == nil || *m.Limit != 1 || m.Swap != nil || m.Swappiness == nil || *m.Swappiness != 0 {
		t.Errorf("version 1: %+v", m)
	}
}
