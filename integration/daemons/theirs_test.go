// SPDX-License-Identifier: Apache-2.0

//go:build baseline

package daemons

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"containerd-shim.v1/integration/harness/procfs"
)

// baseline returns the path of upstream's shim of a release, below the directory in
// SHIM_BASELINES, or of the one that Debian's package containerd has.
func baseline(t *testing.T, release string) string {
	t.Helper()
	if release == "debian" {
		return debianShim
	}
	path, err := filepath.Abs(filepath.Join(os.Getenv("SHIM_BASELINES"), release, "containerd-shim"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v (SHIM_BASELINES=bin/baselines, after make upstream/build)", err)
	}
	return path
}

// theirs starts a Rig whose shim is a symbolic link, and returns what points it at a
// release of upstream's.
func theirs(t *testing.T) (r *Rig, use func(release string)) {
	t.Helper()
	link := filepath.Join(t.TempDir(), "containerd-shim")
	use = func(release string) {
		if err := errors.Join(os.Symlink(baseline(t, release), link+".new"), os.Rename(link+".new", link)); err != nil {
			t.Fatal(err)
		}
	}
	use("debian")
	r = idleRig(t, link)
	if err := r.StartContainerd(limited(t, 2*startLimit)); err != nil {
		t.Fatal(err)
	}
	return r, use
}

// shimctl returns a command of the shimctl that make builds.
func shimctl(t *testing.T, args ...string) *exec.Cmd {
	return command(limited(t, 2*commandLimit), filepath.Join("..", "..", "bin", "shimctl"), args...)
}

// newShim returns the path of the shim under test.
func newShim(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(shimUnderTest())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// upgrade exchanges the programs of shims for the one under test, as an operator does.
func upgrade(t *testing.T, shims ...*Shim) {
	t.Helper()
	shim := newShim(t)
	args := []string{"upgrade", "-yes", "-max-failures", "9", "-patience", "30s", "-binary", shim, "-dir", t.TempDir()}
	for _, s := range shims {
		args = append(args, itoa(s.Pid))
	}
	t.Log("\n" + must(t, shimctl(t, args...)))
	for _, s := range shims {
		if exe, err := os.Readlink(procfs.File(s.Pid, "exe")); err != nil || exe != shim {
			t.Fatalf("the shim runs %s, %v, want %s", exe, err, shim)
		}
	}
}

// complaints returns the lines that the daemons have written since the sizes were taken
// that are warnings or errors, or have one of the words.
func complaints(r *Rig, since map[string]int64, words ...string) (lines []string) {
	words = append(words, "level=warning", "level=error", "level=fatal")
	for log, begin := range since {
		data, err := os.ReadFile(log)
		if err != nil {
			return []string{err.Error()}
		}
		for line := range strings.Lines(string(data[begin:])) {
			for _, word := range words {
				if strings.Contains(line, word) {
					lines = append(lines, line)
					break
				}
			}
		}
	}
	return lines
}

// TestDockerAcrossUpstreamsShims: whoever is attached to containers of upstream's shims
// sees nothing of the exchange, and neither do the daemons; afterwards everything works.
func TestDockerAcrossUpstreamsShims(t *testing.T) {
	r, use := theirs(t)
	if err := r.StartDockerd(limited(t, startLimit)); err != nil {
		t.Fatal(err)
	}
	const said = "read x; echo one $x; read x; echo last $x; exit "
	for _, release := range []string{"v1.2.6", "v1.2.13", "debian"} {
		t.Run(release, func(t *testing.T) {
			use(release)
			quiet(t, r)
			run := func(id string, options []string, argv ...string) []string {
				return append(append([]string{"run", "--network", "none", "--name", id}, options...), append([]string{ImageName}, argv...)...)
			}
			attach := func(args ...string) *exec.Cmd { // a client that stays until the end
				return r.Docker(limited(t, 10*commandLimit), args...)
			}
			t.Cleanup(func() { // what is left after a failure
				_ = do(t, r.Docker(background(t), "rm", "-f", "tty", "piped", "echo", "stops"))
			})
			tty := onTerminal(t, attach(run("tty", []string{"-it", "--rm"}, "sh", "-c", sizes)...), 31, 99)
			piped := startTyping(t, attach(run("piped", []string{"-i", "--rm"}, "sh", "-c", said+"21")...))
			must(t, dockerOn(t, r, run("echo", []string{"-id"}, "sh", "-c", "while read x; do echo got $x; done")...))
			must(t, dockerOn(t, r, run("stops", []string{"-d"}, "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done")...))
			tty.shows(t, "size=31 99")
			execed := startTyping(t, attach("exec", "-i", "echo", "sh", "-c", said+"23"))
			logs := startTyping(t, attach("logs", "-f", "echo"))
			attached := startTyping(t, attach("attach", "--sig-proxy=false", "echo"))
			attached.types(t, "before\n")
			piped.types(t, "a\n")
			execed.types(t, "a\n")
			for _, c := range []*typing{logs, attached} {
				eventually(t, commandLimit, "the echo", func() bool { return c.text() == "got before\n" })
			}
			for _, c := range []*typing{piped, execed} {
				eventually(t, commandLimit, "the first line", func() bool { return c.text() == "one a\n" })
			}
			eventually(t, commandLimit, "the trap is set", func() bool { return must(t, dockerOn(t, r, "logs", "stops")) == "ready" })

			var shims []*Shim
			var ids []string
			for _, name := range []string{"tty", "piped", "echo", "stops"} {
				id := inspect(t, r, name, "{{.Id}}")
				r.Note(dockerNamespace, id)
				s, err := r.Shim(dockerNamespace, id)
				if err != nil {
					t.Fatal(err)
				}
				shims, ids = append(shims, s), append(ids, id)
			}
			since := map[string]int64{r.path("containerd.log"): size(r.path("containerd.log")), r.path("dockerd.log"): size(r.path("dockerd.log"))}
			upgrade(t, shims...)
			if lines := complaints(r, since, ids...); len(lines) > 0 {
				t.Errorf("the daemons have said:\n%s", strings.Join(lines, ""))
			}

			tty.resize(t, 44, 122)
			attached.types(t, "after\n")
			piped.types(t, "b\n")
			execed.types(t, "b\n")
			for _, c := range []*typing{logs, attached} {
				eventually(t, commandLimit, "the echo", func() bool { return c.text() == "got before\ngot after\n" })
			}
			execed.ends(t, 23, "one a\nlast b\n")
			piped.ends(t, 21, "one a\nlast b\n")
			tty.keys(t, "quit\r")
			tty.ends(t, 11)
			if got := do(t, dockerOn(t, r, "exec", "echo", "sh", "-c", "echo next; exit 5")); got != (result{5, "next\n", ""}) {
				t.Errorf("exec after it: %v", got)
			}
			if lines := complaints(r, since); len(lines) > 0 {
				t.Errorf("the daemons have said:\n%s", strings.Join(lines, ""))
			}
			must(t, dockerOn(t, r, "stop", "--time", "30", "stops"))
			must(t, dockerOn(t, r, "kill", "echo"))
			for id, want := range map[string]string{"stops": "5", "echo": "137"} {
				if got := ended(t, r, id); got != want {
					t.Errorf("%s: exit code %s, want %s", id, got, want)
				}
			}
			logs.ends(t, 0, "got before\ngot after\n")
			attached.ends(t, 137, "got before\ngot after\n")
			must(t, dockerOn(t, r, "rm", "stops", "echo"))
			for _, s := range shims {
				eventually(t, settleLimit, "the shim has ended", func() bool { return !procfs.Alive(s.Pid) })
			}
		})
	}
}
