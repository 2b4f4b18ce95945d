// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

// FuzzRuntimeText: whatever a runtime logs and writes, a failed call has a message of
// bounded length and one class, and Kill's answer to it, too.
func FuzzRuntimeText(f *testing.F) {
	f.Add("kill", []byte(`{"level":"error","msg":"container does not exist"}`+"\n"), []byte("x\n"))
	// As runc 1.1 writes them.
	f.Add("exec", []byte(`{"level":"error","msg":"exec failed: container does not exist","time":"2026-11-26T09:56:26Z"}`+"\n"), []byte("exec failed: container does not exist\n"))
	f.Add("delete", []byte(`{"level":"warning","msg":"x","time":"2026-11-26T09:56:25Z"}`+"\n"+`{"level":"error","msg":"container does not exist","time":"2026-11-26T09:56:25Z"}`+"\n"), []byte("container does not exist\n"))
	f.Add("kill", []byte("time=x level=error\n{"), []byte("container_linux.go:349: process already finished\n"))
	f.Add("create", []byte{}, []byte("\xff\xfe\n\n"))
	f.Add("exec", []byte(`{"level":"fatal","msg":""}`), []byte{})
	f.Fuzz(func(t *testing.T, verb string, logged, output []byte) {
		log, err := os.CreateTemp(t.TempDir(), "log")
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		if _, err := log.Write(logged); err != nil {
			t.Fatal(err)
		}
		err = explain(failure{verb: verb, command: "runc", log: log, output: output, status: 1})
		for _, err := range []error{err, killError(err)} {
			if len(err.Error()) > maxMessage+len(verb)+100 {
				t.Errorf("%d characters", len(err.Error()))
			}
			if !errdefs.IsInternal(err) && !errdefs.IsNotFound(err) {
				t.Errorf("no class: %v", err)
			}
		}
	})
}

// FuzzPidFile: a pid file gives a pid that can be signalled alone, or an error.
func FuzzPidFile(f *testing.F) {
	for _, text := range []string{"123", "123\n", "", "1", "-1", "0", "99999999999999999999", "12 34", "\x00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "pid")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if pid, _, err := readPidFile(t.Context(), path); (pid > 1) != (err == nil) {
			t.Errorf("%q: got %d, %v", text, pid, err)
		}
	})
}

// FuzzSpec: an exec's spec and a container's config.json come from outside.
func FuzzSpec(f *testing.F) {
	for _, text := range []string{
		`{"args":["a"],"cwd":"/"}`, `{"args":[]}`, `{"args":null}`, `[]`, `null`, `{"args":["a"],"terminal":true,"user":{"uid":-1}}`,
		`{"linux":{"namespaces":[{"type":"pid"}]}}`, `{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}`, `{"linux":null}`,
	} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	// As ctr sends it, shortened.
	f.Add([]byte(`{"terminal":true,"consoleSize":{"height":24,"width":80},"user":{"uid":0,"gid":0,"additionalGids":[0,10]},"args":["sh","-c","exit 3"],`+
		`"env":["PATH=/bin","TERM=xterm"],"cwd":"/","capabilities":{"bounding":["CAP_KILL"],"effective":["CAP_KILL"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}],"noNewPrivileges":true}`), true)
	f.Fuzz(func(t *testing.T, text []byte, terminal bool) {
		spec, err := parseExecSpec(text, terminal)
		switch {
		case err != nil && !errdefs.IsInvalidArgument(err):
			t.Errorf("%q: %v", text, err)
		case err == nil && (len(spec.Args) == 0 || spec.Terminal != terminal):
			t.Errorf("%q: got %+v", text, spec)
		}
		bundle := t.TempDir()
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		sharesPidNamespace(bundle) // either is right; it must not panic
	})
}
