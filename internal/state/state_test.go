// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata of the present version")

var then = time.Date(2020, 2, 3, 4, 5, 6, 7, time.UTC)

// frame returns a ttrpc request.
func frame(stream byte, payload string) []byte {
	return append([]byte{0, 0, 0, byte(len(payload)), 0, 0, 0, stream, typeRequest, 0}, payload...)
}

// full returns a state with every field of version 1 set.
func full() *Shim {
	return &Shim{
		Version: 1, Writer: "containerd-shim 1.0", Listener: 3,
		Container: &Container{
			Process: Process{
				ID: "c", Phase: Paused, Pid: 100, Stdin: "/f/in", Stdout: "/f/out", Terminal: true,
				Size: &Size{80, 25}, StdinClosed: true,
				Streams: &Streams{
					Terminal: 10,
					Input:    &Input{Path: "/f/in", From: 11, Keepalive: 12, ClosedFirst: true, Pending: []byte("typed")},
					Outputs: []Output{{
						Path: "/f/out", Kind: FIFO, From: 10, To: 13, Keepalive: 14, Pending: []byte("said"), Written: 7,
						Met: true, HungUp: true, Moved: then,
					}},
				},
				Start: &Start{Stage: Asked, RepliedAt: then, AskedAt: then.Add(1), Connection: 1, Polled: true},
			},
			Bundle: "/b", Runtime: "runc", Rootfs: []Mount{{"overlay", "overlay", "t", []string{"ro"}}},
			Checkpoint: "/image", NoPivotRoot: true, NoNewKeyring: true, IoUID: 5, IoGID: 6, CriuWorkPath: "/w",
		},
		Execs: []Exec{
			{Process: Process{ID: "new", Phase: Created, Stderr: "/f/err"}, Spec: []byte(`{"args":["true"]}`)},
			{Process: Process{ID: "starting", Phase: Created, Start: &Start{Stage: Underway, Runtime: 101, PidFile: "/b/starting.pid"}}},
			{Process: Process{
				ID: "dead", Phase: Stopped, Pid: 102, Exit: &Exit{3, then}, Start: &Start{Stage: Replied, RepliedAt: then},
				Streams: &Streams{
					Input:   &Input{Path: "/f/in2", From: 20, To: 21},
					Outputs: []Output{{Path: "/bin/log", Kind: Pipe, To: 22, Since: then}, {Path: "/log", Kind: File, From: 23, To: 24}},
					Logger:  &Logger{Path: "/bin/log", Pid: 103, Pipes: []FD{25, 26}},
				},
			}},
		},
		Leaving: []Streams{{Outputs: []Output{{Path: "/f/o", Kind: FIFO, To: 30}}, Deleted: then}},
		Seq:     9, Held: []Held{{ID: "dead", Pid: 102, Status: 3, At: then, Seq: 9, Taken: then}}, Told: true,
		Events: [][]byte{[]byte("envelope")}, Deleted: &Deleted{100, 255, then},
		Connections: []Connection{{
			FD: 40, Requests: [][]byte{frame(3, "wait"), frame(7, "")}, Partial: []byte{0, 0, 0, 9, 0},
			Errors: []Error{{5, 13, "lost"}},
		}},
	}
}

// TestEveryVersionIsRead: the examples in testdata are never changed, and keep their
// meaning for ever. A new version adds an example, and its meaning to this test.
func TestEveryVersionIsRead(t *testing.T) {
	if *update {
		data, err := json.MarshalIndent(full(), "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("testdata/v%d.json", Version), append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	meaning := map[int]*Shim{1: full()}
	for v := 1; v <= Version; v++ {
		got, err := ReadFile(fmt.Sprintf("testdata/v%d.json", v))
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.Execs { // spaces in JSON mean nothing
			if spec := got.Execs[i].Spec; spec != nil {
				var b bytes.Buffer
				if err := json.Compact(&b, spec); err != nil {
					t.Fatal(err)
				}
				got.Execs[i].Spec = b.Bytes()
			}
		}
		if want := meaning[v]; !reflect.DeepEqual(got, want) {
			t.Errorf("version %d:\n got %+v\nwant %+v", v, got, want)
		}
	}
}

// TestExampleIsFull: the example has every field, including those that are added.
func TestExampleIsFull(t *testing.T) {
	data, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[reflect.Type]bool{}
	var look func(reflect.Type)
	look = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			look(typ.Elem())
		case reflect.Struct:
			if seen[typ] || typ == reflect.TypeFor[time.Time]() {
				return
			}
			seen[typ] = true
			for i := range typ.NumField() {
				f := typ.Field(i)
				look(f.Type)
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Anonymous {
					continue
				}
				if name == "" || !bytes.Contains(data, []byte(`"`+name+`":`)) {
					t.Errorf("%v.%s is not in the example", typ, f.Name)
				}
			}
		}
	}
	look(reflect.TypeFor[Shim]())
}

func TestWrittenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for _, s := range []*Shim{{}, full()} {
		if err := Write(path, s); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(path)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, s)
		}
		if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if err := Write(filepath.Join(path, "x"), full()); err == nil {
		t.Error("a path below a file: no error")
	}
}

func TestFDs(t *testing.T) {
	want := []FD{3, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 26, 30, 40}
	if got := full().FDs(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*Shim){
		"version":     func(s *Shim) { s.Version = 0 },
		"newer":       func(s *Shim) { s.Version = Version + 1 },
		"no id":       func(s *Shim) { s.Execs[0].ID = "" },
		"same id":     func(s *Shim) { s.Execs[0].ID = "c" },
		"no init":     func(s *Shim) { s.Container = nil },
		"phase":       func(s *Shim) { s.Container.Phase = "asleep" },
		"paused exec": func(s *Shim) { s.Execs[0].Phase, s.Execs[0].Pid = Paused, 3 },
		"no pid":      func(s *Shim) { s.Container.Pid = 0 },
		"no exit":     func(s *Shim) { s.Execs[2].Exit = nil },
		"status":      func(s *Shim) { s.Execs[2].Exit.Status = 256 },
		"stage":       func(s *Shim) { s.Container.Start.Stage = "soon" },
		"connection":  func(s *Shim) { s.Container.Start.Connection = 2 },
		"seq":         func(s *Shim) { s.Seq = 8 },
		"kind":        func(s *Shim) { s.Leaving[0].Outputs[0].Kind = "lost" },
		"no sink":     func(s *Shim) { s.Leaving[0].Outputs[0].To = 0 },
		"no source":   func(s *Shim) { s.Container.Streams.Input.From = 0 },
		"stdio":       func(s *Shim) { s.Listener = 2 },
		"negative":    func(s *Shim) { s.Listener = -1 },
		"twice":       func(s *Shim) { s.Listener = 40 },
		"frame":       func(s *Shim) { s.Connections[0].Requests[0][3]++ },
		"order":       func(s *Shim) { s.Connections[0].Requests[1][7] = 3 },
		"type":        func(s *Shim) { s.Connections[0].Requests[1][8] = 2 },
		"whole":       func(s *Shim) { s.Connections[0].Partial = frame(9, "x") },
		"code":        func(s *Shim) { s.Connections[0].Errors[0].Code = 17 },
	} {
		s := full()
		change(s)
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Read(bytes.NewReader(data)); err == nil || name == "newer" && !errors.Is(err, ErrVersion) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, text := range []string{"", "{", "[]", `{"version":1,"lost":2}`, `{"version":"1"}`} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

// FuzzRead: what Read accepts can be written and read again, and stays the same.
func FuzzRead(f *testing.F) {
	names, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		once, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(bytes.NewReader(once))
		if err != nil {
			t.Fatal(err)
		}
		twice, err := json.Marshal(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v\n%s\n%s", err, once, twice)
		}
	})
}
