// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/evidence"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

func TestReportHoldsWhatItSaysAndNoSecret(t *testing.T) {
	t.Setenv("SECRET", "hunter2") // the shim inherits it, and hands it to runc and the container
	shim := started(t, shimtest.Baseline(t, "v1.6.38"))
	spec := `{"process":{"args":["app","--password=hunter2"],"env":["TOKEN=hunter2"]},"annotations":{"key":"hunter2"}}`
	if err := os.WriteFile(filepath.Join(shim.Bundle, "config.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	// An exec's arguments and environment go through the shim's memory.
	secret := []byte(`{"args":["app","--password=hunter2"],"env":["TOKEN=hunter2"],"cwd":"/"}`)
	for i := range 20 {
		if err := shim.ExecSpec(t.Context(), fmt.Sprintf("e%d", i), secret); err != nil {
			t.Fatal(err)
		}
	}
	status, o, e := capture(t, "report", strconv.Itoa(shim.PID))
	if status != exitOK {
		t.Fatalf("status %d: %s", status, e)
	}
	z, err := gzip.NewReader(strings.NewReader(o))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[path.Base(h.Name)] = string(b)
	}
	for _, f := range evidence.Holds {
		if len(files[f.Name]) == 0 {
			t.Errorf("%s is missing or empty", f.Name)
		}
	}
	if len(files) != len(evidence.Holds) {
		t.Errorf("got %d files, %d are documented", len(files), len(evidence.Holds))
	}
	for name, text := range files {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s holds a secret of the container", name)
		}
	}
}

func TestExport(t *testing.T) {
	dir := t.TempDir()
	status, _, e := capture(t, "export", "-textfile-directory", dir, "-state-file", "", "-ledger", filepath.Join(dir, "none"))
	if status != exitOK {
		t.Fatalf("status %d: %s", status, e)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != textfile {
		t.Fatalf("got %v, %v", entries, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, textfile))
	if err != nil || !strings.Contains(string(b), "containerd_shim_repairs_total{result=\"failed\"} 0\n") {
		t.Errorf("got %s, %v", b, err)
	}
}
