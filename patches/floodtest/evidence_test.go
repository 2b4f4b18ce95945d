// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/events"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// The three goroutines of B01, in the shape of a dump of v1.1.2.
var ringDump = []string{
	"goroutine 1 [chan send, 2 minutes]:\ngithub.com/containerd/containerd/reaper.Reap()\n\treaper.go:44 +0x168",
	"goroutine 5 [sync.Mutex.Lock, 2 minutes]:\nsync.(*Mutex).Lock(...)\ngithub.com/containerd/containerd/linux/shim.(*Service).checkProcesses(0xc4)",
	"goroutine 9 [chan receive, 2 minutes]:\ngithub.com/containerd/containerd/reaper.(*Monitor).Wait(0x1)\ngithub.com/containerd/containerd/linux/shim.(*Service).Kill(0xc4)",
	"goroutine 7 [select]:\nmain.main()",
}

func TestFindRing(t *testing.T) {
	got := findRing([]byte(strings.Join(ringDump, "\n\n")))
	for _, want := range []string{"goroutine 1 [chan send", "goroutine 5 [sync.Mutex.Lock", "goroutine 9 [chan receive", "in Kill"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

// The text formatter of newer logrus quotes the newlines.
func TestFindRingQuoted(t *testing.T) {
	if got := findRing([]byte(strings.ReplaceAll(strings.Join(ringDump, "\n\n"), "\n", `\n`))); got == "" {
		t.Error("no ring found in a quoted dump")
	}
}

func TestFindRingNeedsAllThree(t *testing.T) {
	for i := range 3 {
		part := append(append([]string{}, ringDump[:i]...), ringDump[i+1:]...)
		if got := findRing([]byte(strings.Join(part, "\n\n"))); got != "" {
			t.Errorf("without goroutine %d: %q", i, got)
		}
	}
}

func TestExitEvents(t *testing.T) {
	s := &subject{dir: t.TempDir(), id: "init"}
	if err := os.Mkdir(s.path("events"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(file, url string, m proto.Message) {
		t.Helper()
		value, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		data, err := proto.Marshal(&anypb.Any{TypeUrl: url, Value: value})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.path("events"), file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1", "containerd.events.TaskExit", &events.TaskExit{ID: "e1"})
	write("2", "containerd.events.TaskExit", &events.TaskExit{ID: "e1"}) // again: counts once
	write("3", "containerd.events.TaskExit", &events.TaskExit{ID: "init"})
	write("4", "containerd.events.TaskOOM", &events.TaskOOM{ContainerID: "e2"})
	if got := s.exitEvents(); len(got) != 1 || !got["e1"] {
		t.Errorf("got %v, want only e1", got)
	}
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		name string
		row  row
		want int
	}{
		{"all well", row{dump: true}, exitSurvived},
		{"failed exec", row{failed: 1, dump: true}, exitFault},
		{"lost exit", row{lost: 1, dump: true}, exitFault},
		{"hung", row{hung: true}, exitFault},
		{"no dump", row{}, exitNoDump},
	} {
		if got := tc.row.exitCode(); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}
