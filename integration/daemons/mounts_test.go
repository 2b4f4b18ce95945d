// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// F1, data loss: with a state directory below a symbolic link (state =
// "/var/run/...") the task's end took the container's files with it.
func TestFilesOutliveTheTaskBelowALink(t *testing.T) {
	r := idleRig(t, shimUnderTest())
	if err := errors.Join(os.Mkdir(r.path("elsewhere"), 0o711), os.Symlink("elsewhere", r.path("state"))); err != nil {
		t.Fatal(err)
	}
	ctx := limited(t, 2*startLimit)
	if err := r.StartContainerd(ctx); err != nil {
		t.Fatal(err)
	}
	const id = "linked"
	options := []string{"--snapshotter", "overlayfs"}
	if err := r.Run(ctx, id, options, "sh", "-c", "echo kept > /file; sleep 100000"); err != nil {
		t.Fatal(err)
	}
	// mount -t overlay overlay TARGET -o workdir=...,upperdir=...,lowerdir=...
	line := must(t, r.Ctr(ctx, "snapshots", "--snapshotter", "overlayfs", "mounts", "/mnt", id))
	_, upper, found := strings.Cut(line, "upperdir=")
	upper, _, _ = strings.Cut(upper, ",")
	if !found {
		t.Fatalf("no upperdir in %q", line)
	}
	file := filepath.Join(upper, "file")
	read := func() string {
		data, err := os.ReadFile(file)
		if err != nil {
			return err.Error()
		}
		return string(data)
	}
	eventually(t, commandLimit, "the container has written its file", func() bool { return read() == "kept\n" })
	must(t, r.Ctr(ctx, "tasks", "kill", "--signal", "SIGKILL", id))
	eventually(t, commandLimit, "STOPPED", func() bool { return statusOn(t, r, id) == "STOPPED" })
	_ = do(t, r.Ctr(ctx, "tasks", "delete", id)) // exits with the task's status
	if got := read(); got != "kept\n" {
		t.Errorf("after ctr tasks delete: %s", got)
	}
	entries, err := os.ReadDir(upper)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type()&os.ModeCharDevice != 0 { // overlayfs' mark of a file that was removed from the image
			t.Errorf("%s of the image was removed", e.Name())
		}
	}
	if err := r.Remove(ctx, id); err != nil {
		t.Error(err)
	}
}
