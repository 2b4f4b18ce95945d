// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestManualHasEveryVerbAndFlag(t *testing.T) {
	status, o, _ := capture(t, "manual")
	if status != exitOK {
		t.Fatalf("got status %d", status)
	}
	for _, v := range verbs() {
		if !strings.Contains(o, ".SS shimctl "+v.name+" ") {
			t.Errorf("%s is missing", v.name)
		}
	}
	for _, flag := range []string{`\-max\-per\-hour`, `\-textfile\-directory`, `\-state\-file`} {
		if !strings.Contains(o, ".B "+flag) {
			t.Errorf("%s is missing", flag)
		}
	}
}

func TestCompletion(t *testing.T) {
	_, script, _ := capture(t, "completion")
	ask := `COMP_WORDS=(shimctl re) COMP_CWORD=1; _shimctl; echo ${COMPREPLY[@]}
COMP_WORDS=(shimctl repair -max) COMP_CWORD=2; _shimctl; echo ${COMPREPLY[@]}`
	got, err := exec.Command("bash", "-c", script+ask).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	if want := "repair report\n-max-per-hour -max-per-run\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
