// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/health"
	"containerd-shim.v1/cmd/shimctl/internal/rounds"
	"containerd-shim.v1/cmd/shimctl/internal/scan"
	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// fakeProc is shimctl with a /proc that has one shim of these arguments, pid 7.
func fakeProc(t *testing.T, argv ...string) program {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"2/stat":    "2 (kthreadd) S 0 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0 0 0 0 0\n",
		"7/stat":    "7 (containerd-shim) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 9 0 99 0 0 0\n",
		"7/cmdline": strings.Join(argv, "\x00") + "\x00",
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := newProgram(nil, nil, nil)
	p.proc = root
	return p
}

// What a process says of itself must not act on the operator's terminal.
func TestNoEscapesReachTheTerminal(t *testing.T) {
	escape := "\x1b]0;owned\x07\x1b[2J"
	p := fakeProc(t, "containerd-shim", "-namespace", "moby", "-workdir", "/x/moby/abc", "-address", "/run/"+escape)
	for _, args := range [][]string{{"ps", "-o", "wide"}, {"ps", "-o", "json"}, {"check", "-state-file", ""}, {"stacks", "7"}, {"explain", escape}, {escape}, {"report", escape}} {
		_, o, e := p.capture(t, args...)
		if strings.ContainsAny(o+e, "\x1b\x07") {
			t.Errorf("%q: got %q %q", args, o, e)
		}
		if o+e == "" {
			t.Errorf("%q: got nothing", args)
		}
	}
}

// One of a container is not asked or judged, and stops no export.
func TestForeignShimIsNotJudged(t *testing.T) {
	p := fakeProc(t, "containerd-shim", "-namespace", "moby", "-workdir", "/x/moby/abc")
	bundle := filepath.Join(t.TempDir(), "io.containerd.runtime.v1.linux/moby/abc")
	if err := errors.Join(os.MkdirAll(bundle, 0o700), os.Symlink(bundle, filepath.Join(p.proc, "7/cwd"))); err != nil {
		t.Fatal(err)
	}
	shimtest.Silent(t, bundle) // what reads a file of it hangs
	for _, of := range []string{"self", "7"} {
		dir := filepath.Join(p.proc, of, "ns")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Symlink("pid:["+of+"]", filepath.Join(dir, "pid"))); err != nil {
			t.Fatal(err)
		}
	}
	if status, o, e := p.capture(t, "check", "-state-file", ""); status != exitOK || strings.Contains(o, "moby") || !strings.Contains(e, "1 that look like shims are not judged") {
		t.Errorf("check: status %d\n%s%s", status, o, e)
	}
	if status, o, e := p.capture(t, "repair", "-state-file", "", "-dir", t.TempDir(), "7"); status != exitCheck || !strings.Contains(e, scan.WhyForeign) {
		t.Errorf("repair: status %d\n%s%s", status, o, e)
	}
	if status, o, e := p.capture(t, "upgrade", "-yes", "-all", "-dir", t.TempDir(), "-binary", os.Args[0]); !strings.Contains(o+e, scan.WhyForeign) {
		t.Errorf("upgrade: status %d\n%s%s", status, o, e)
	}
	dir := t.TempDir()
	if status, o, e := p.capture(t, "export", "-textfile-directory", dir, "-state-file", "", "-ledger", filepath.Join(dir, "ledger")); status != exitOK {
		t.Errorf("export: status %d\n%s%s", status, o, e)
	}
}

// Without the host's processes "no shim is wedged" would be a lie.
func TestBlindIsNotHealthy(t *testing.T) {
	p := fakeProc(t, "sleep", "1000")
	if status, o, e := p.capture(t, "check", "-state-file", ""); status != exitOK {
		t.Errorf("no shim on a host: status %d\n%s%s", status, o, e)
	}
	if err := os.RemoveAll(filepath.Join(p.proc, "2")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ps"}, {"check", "-state-file", ""}, {"check", "-o", "npd", "-state-file", ""},
		{"export", "-textfile-directory", t.TempDir(), "-state-file", ""}, {"repair", "-all", "-state-file", "", "-dir", t.TempDir()}} {
		status, o, e := p.capture(t, args...)
		if status != exitCheck || !strings.Contains(e, "root") || !strings.Contains(e, "hostPID: true") {
			t.Errorf("%q: status %d\n%s%s", args, status, o, e)
		}
	}
	if status, o, _ := p.capture(t, "check", "-o", "nagios", "-state-file", ""); status != 3 || !strings.HasPrefix(o, "UNKNOWN") {
		t.Errorf("nagios: status %d, %q", status, o)
	}
}

// Label values in the text format know three escapes; any other makes
// node_exporter drop the whole file.
func TestMetricsOfHostileReasons(t *testing.T) {
	r := &rounds.Round{Rows: []rounds.Row{{Shim: scan.Shim{Namespace: "n", ID: "i"}, Result: health.Result{Verdict: health.Wedged, Reason: "a\"b\\c\nd\x1b"}}}}
	r.Rows = append(r.Rows, r.Rows[0]) // two processes with one name
	r.Rows[1].PID = 8
	var b bytes.Buffer
	if err := promFormat(&b, r); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(b.String()) {
		if seen[line] {
			t.Errorf("twice: %s", line)
		}
		seen[line] = true
	}
	if want := `reason="a\"b\\c\nd` + "\x1b" + `"} 1`; !strings.Contains(b.String(), want) {
		t.Errorf("want %s in\n%s", want, b.String())
	}
}

// A dry run ends nothing and writes nothing of its own.
func TestDryRunWritesNothing(t *testing.T) {
	p := fakeProc(t, "containerd-shim", "-namespace", "moby", "-workdir", "/x/moby/abc")
	dir := filepath.Join(t.TempDir(), "repair")
	for _, args := range [][]string{{"-all"}, {strconv.Itoa(7)}} {
		if status, o, e := p.capture(t, append([]string{"repair", "-state-file", "", "-dir", dir}, args...)...); status != exitOK {
			t.Errorf("%q: status %d\n%s%s", args, status, o, e)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: %s is there", args, dir)
		}
	}
}
