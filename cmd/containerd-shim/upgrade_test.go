// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"containerd-shim.v1/shim"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestUpgradeInABadMoment: what is short for a moment is blamed neither on the program nor
// on the disk: shimctl asks a busy shim again, and ends a roll-out at a failure.
func TestUpgradeInABadMoment(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	r := startShim(t, "unix://"+socket)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	program := func(name, does string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+does+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	limit := func(n, was *unix.Rlimit) {
		if err := unix.Prlimit(r.cmd.Process.Pid, unix.RLIMIT_NOFILE, n, was); err != nil {
			t.Fatal(err)
		}
	}
	upgrade := func(binary string, want codes.Code) {
		t.Helper()
		var answer wrapperspb.StringValue
		err := client.Call(t.Context(), shim.UpgradeService, shim.UpgradeMethod, wrapperspb.String(binary), &answer)
		if status.Code(err) != want {
			t.Errorf("%s: %v, want %v", binary, err, want)
		}
	}
	// As a child that cannot be executed for want of memory: see proc.NeverExecuted.
	upgrade(program("lacking", "exit 253"), codes.Unavailable)
	upgrade(program("failing", "echo no; exit 253"), codes.InvalidArgument)
	var was unix.Rlimit
	limit(nil, &was)
	limit(&unix.Rlimit{Cur: 0, Max: was.Max}, nil)
	upgrade("/bin/true", codes.Unavailable) // the state cannot be written
	limit(&was, nil)
	if left, err := os.Stat(filepath.Join(r.cmd.Dir, stateFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state's file is left: %v, %v", left, err)
	}
	upgrade("/bin/true", codes.InvalidArgument)
	r.end(unix.SIGTERM)
}
