// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"
	"time"

	"containerd-shim.v1/integration/catalogue"
)

func TestBenchVerdict(t *testing.T) {
	for name, tt := range map[string]struct {
		f    catalogue.Figures
		want error
	}{
		"all well":    {catalogue.Figures{Dump: true}, nil},
		"failed exec": {catalogue.Figures{Failed: 1, Dump: true}, errFailed},
		"lost exit":   {catalogue.Figures{Lost: 1, Dump: true}, errFailed},
		"hung":        {catalogue.Figures{Hung: true}, errFailed},
		"gone":        {catalogue.Figures{Gone: true, Dump: true}, errFailed},
		"no dump":     {catalogue.Figures{}, errNoDump},
	} {
		if got := benchVerdict(tt.f); !errors.Is(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
	for want, f := range map[string]catalogue.Figures{
		"| v1.1.2 | 50 | 1 | 0 | 0.0 s | > 2.0 s | 0.0 s | yes | no |": {Failed: 1, State: 2 * time.Second, Pending: true, Hung: true},
		"| v1.1.2 | 50 | 0 | 0 | 0.0 s | 0.0 s | 0.0 s | gone | no |":  {Gone: true},
		"| v1.1.2 | 50 | 0 | 0 | 0.0 s | 0.0 s | 0.0 s | no | yes |":   {Dump: true},
	} {
		if got := benchRow("v1.1.2", 50, f); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
