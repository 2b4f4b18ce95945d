// SPDX-License-Identifier: Apache-2.0

// Package suite runs integration cases from go test: it finds the shim, builds
// the helper, and makes one test out of one case.
//
// SHIM names the shim under test (default: bin/containerd-shim of this
// module), RUNTIME the OCI runtime (default: runc). What is missing fails the
// tests with a sentence that says how to get it; nothing is skipped.
package suite

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"containerd-shim.v1/integration/harness"
)

var (
	config  harness.Config
	missing error
)

// Main is the body of a TestMain. Its result is the exit status.
func Main(m *testing.M) int {
	config, missing = setup()
	if missing == nil {
		c := make(chan os.Signal, 2)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
		go func() {
			<-c
			config.Interrupt() // the cases that run clean up, those that come fail
			<-c
			os.Exit(130)
		}()
		defer finish()
	}
	return m.Run()
}

func finish() {
	if err := config.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err)
	}
}

// Module is the module's directory.
func Module(t *testing.T) string {
	t.Helper()
	dir, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func moduleDir() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

func setup() (harness.Config, error) {
	module, err := moduleDir()
	if err != nil {
		return harness.Config{}, err
	}
	helper, err := buildHelper(module)
	if err != nil {
		return harness.Config{}, err
	}
	defer os.RemoveAll(filepath.Dir(helper))
	shim := cmp.Or(os.Getenv("SHIM"), filepath.Join(module, "bin", "containerd-shim"))
	cfg, err := harness.Setup(shim, cmp.Or(os.Getenv("RUNTIME"), "runc"), helper)
	if err != nil {
		return cfg, err
	}
	if err := cfg.ProbeShim(); err != nil {
		return cfg, errors.Join(err, cfg.Close())
	}
	return cfg, nil
}

func buildHelper(module string) (string, error) {
	dir, err := os.MkdirTemp("", "shimhelper")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "shimhelper")
	cmd := exec.Command("go", "build", "-o", path, "./integration/harness/guest/helper/shimhelper")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build helper: %w: %s", err, out)
	}
	return path, nil
}

// Run makes a test of a case.
func Run(t *testing.T, name string, limit time.Duration, check func(*harness.Case)) {
	t.Helper()
	if missing != nil {
		t.Fatal(missing)
	}
	r := harness.Run(config, name, limit, check)
	for _, l := range r.Log {
		t.Log(l)
	}
	for _, m := range r.Messages {
		t.Error(m)
	}
	if r.Stacks != "" {
		t.Log("stacks of the shim:\n" + r.Stacks)
	}
}

// Config is the configuration of the tests' cases, for a test that runs its own.
func Config(t *testing.T) harness.Config {
	t.Helper()
	if missing != nil {
		t.Fatal(missing)
	}
	return config
}

// Result runs a case on another shim, for a test that judges the case.
func Result(t *testing.T, shim, name string, limit time.Duration, check func(*harness.Case)) harness.Result {
	t.Helper()
	if missing != nil {
		t.Fatal(missing)
	}
	other, err := config.WithShim(shim)
	if err != nil {
		t.Fatal(err)
	}
	return harness.Run(other, name, limit, check)
}
