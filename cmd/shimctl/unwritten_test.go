// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
	"containerd-shim.v1/cmd/shimctl/internal/takeover"
)

// TestUnwritten: what was done is told, though it cannot be written down: from the exchange on
// there is a file where ledger and tally have their directory.
func TestUnwritten(t *testing.T) {
	for verb, says := range map[string]string{"repair": "healed in place (ReaperDeadlock)", "upgrade": "upgraded: "} {
		shim := started(t, shimtest.Baseline(t, "v1.2.0"))
		if verb == "repair" {
			shim.Wedge(t)
		}
		dir := filepath.Join(t.TempDir(), "d")
		script := filepath.Join(t.TempDir(), "shimctl")
		text := fmt.Sprintf(`#!/bin/sh
[ "$1" = %[1]s ] || exec %[2]s "$@"
read -r request
case $request in *'"binary":'*) mv %[3]s %[3]s.gone; : >%[3]s ;; esac
exec %[2]s "$@" <<end
$request
end
`, takeover.Arg, shimtest.Shimctl(t), dir)
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		p := underTest()
		p.self = script
		p.connect = func(*scan.Shim) (containerd, error) { return &fakeDaemon{shim: shim}, nil }
		args := []string{verb, "-yes", "-state-file", "", "-dir", dir, "-binary", shimtest.Own(t), strconv.Itoa(shim.PID)}
		status, o, e := p.capture(t, args...)
		if status != exitCheck || !strings.Contains(o, says) || !strings.Contains(e, "not a directory") || !shim.Answers() {
			t.Errorf("%s: status %d\n%s%s", verb, status, o, e)
		}
	}
}
