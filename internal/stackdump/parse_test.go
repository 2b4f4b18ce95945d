// SPDX-License-Identifier: Apache-2.0

package stackdump

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const stack = "goroutine 1 [chan send, 83 minutes]:\nmain.f(0xc0, 0x1?)\n\t/src/a.go:44 +0x168\n" +
	"created by main.g in goroutine 7\n\t/src/b.go:5 +0x1\n\ngoroutine 2 [running]:\nmain.(*T).h.func1({0x1, 0x2})\n\t/src/c.go:6\n"

func TestParseForms(t *testing.T) {
	marked := BeginMark + "\n" + stack + "\n" + EndMark
	quote := func(s string) string {
		s = strings.ReplaceAll(s, `\`, `\\`)
		s = strings.ReplaceAll(s, "\n", `\n`)
		return strings.ReplaceAll(s, "\t", `\t`)
	}
	logrus := `time="x" level=info msg="` + quote(marked) + `" namespace=moby pid=7`
	strace := `[pid 12] write(8, "` + strings.ReplaceAll(quote(logrus), `"`, `\"`) + `\n", 300) = 300`
	prefixed := "Jun 23 16:35:07 h dockerd[12]: " + strings.ReplaceAll(strings.TrimSuffix(marked, "\n"), "\n", "\nJun 23 16:35:07 h dockerd[12]: ")
	own := "version: 1.0.0\npid: 7\n\n" + stack + "\n" + FileEnd + "\n"
	crash := "SIGQUIT: quit\nPC=0x1 m=0 sigcode=0\n\n" + stack + "\nrax    0x1\nrip    0x2\ngs     0x0\n"
	tests := map[string]struct {
		text     string
		form     Form
		complete bool
		pid      string
	}{
		"raw":                         {marked, FormRaw, true, ""},
		"raw, logrus of v1.1":         {`time="x" msg="` + marked + `" namespace=moby pid=7`, FormRaw, true, "7"},
		"raw, by a log collector":     {prefixed, FormRaw, true, ""},
		"quoted":                      {logrus, FormQuoted, true, "7"},
		"strace of quoted":            {strace, FormQuoted, true, "7"},
		"strace of raw":               {`write(2, "` + quote(marked) + `", 9) = 9`, FormQuoted, true, ""},
		"own":                         {own, FormFile, true, "7"},
		"own, cut":                    {strings.TrimSuffix(own, FileEnd+"\n"), FormFile, false, "7"},
		"crash":                       {crash, FormCrash, true, ""},
		"crash, cut":                  {crash[:len(crash)-40], FormCrash, false, ""},
		"bare":                        {stack, FormBare, false, ""},
		"raw, cut":                    {BeginMark + "\n" + stack, FormRaw, false, ""},
		"strace, cut at -s":           {strace[:len(strace)-80] + `"..., 9999) = 9999`, FormQuoted, false, ""},
		"an incomplete one after it":  {marked + "\n" + BeginMark + "\ngorou", FormRaw, true, ""},
		"an older one before it":      {BeginMark + "\ngoroutine 99 [running]:\nmain.x()\n" + EndMark + "\n" + marked, FormRaw, true, ""},
		"quoted, one more cut behind": {logrus + "\n" + logrus[:60], FormQuoted, true, "7"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if d.Form != tt.form || d.Complete != tt.complete || d.Header["pid"] != tt.pid {
				t.Errorf("got %s complete=%v pid=%q (%s), want %s %v %q", d.Form, d.Complete, d.Header["pid"], d.Why, tt.form, tt.complete, tt.pid)
			}
			if !d.Complete && d.Why == "" {
				t.Error("got no reason for an incomplete dump")
			}
			want := Goroutine{ID: 1, State: "chan send", Since: 83 * time.Minute, CreatedBy: "main.g", CreatedIn: 7,
				Frames: []Frame{{Func: "main.f", Args: "0xc0, 0x1?", File: "/src/a.go", Line: 44, Offset: 0x168}}}
			if len(d.Goroutines) != 2 || !reflect.DeepEqual(d.Goroutines[0], want) {
				t.Fatalf("got %+v", d.Goroutines)
			}
			if f := d.Goroutines[1].Frames[0].Func; f != "main.(*T).h.func1" {
				t.Errorf("got %q", f)
			}
		})
	}
}

func TestParseHeader(t *testing.T) {
	labelled := map[string]string{"id": "e]1", "rpc": "Start"}
	tests := map[string]Goroutine{
		`goroutine 7 [select, 92427 minutes, locked to thread]:`:                 {ID: 7, State: "select", Since: 92427 * time.Minute},
		`goroutine 1 gp=0xc0 m=0 mp=0x5 [sync.Mutex.Lock]:`:                      {ID: 1, State: "sync.Mutex.Lock"},
		`goroutine 3 [chan receive (scan)]:`:                                     {ID: 3, State: "chan receive"},
		`goroutine 4 [IO wait, 2 minutes labels:{"id": "e]1", "rpc": "Start"}]:`: {ID: 4, State: "IO wait", Since: 2 * time.Minute, Labels: labelled},
		`goroutine 4 [IO wait labels: {"id":"e]1","rpc":"Start"}]:`:              {ID: 4, State: "IO wait", Labels: labelled},
		`goroutine 5 [running]{"unknown":"form"}:`:                               {ID: 5, State: "running"},
	}
	for line, want := range tests {
		if got, ok := header(line); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"goroutine", "goroutine x [running]:", "goroutine 1 running", "goroutine 1 []:", "goroutines 1 [running]:"} {
		if g, ok := header(line); ok {
			t.Errorf("%s: got %+v", line, g)
		}
	}
}

func TestParseNoDump(t *testing.T) {
	for _, text := range []string{"", "hello", BeginMark + "\n" + EndMark, "goroutine nonsense"} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrNoDump) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// A dump cut at any byte is either refused or said to be incomplete.
func TestParseCutAnywhere(t *testing.T) {
	whole, err := os.ReadFile("testdata/none-v1.2.0.strace")
	if err != nil {
		t.Fatal(err)
	}
	end := strings.Index(string(whole), EndMark) + len(EndMark)
	for n := range end {
		if d, err := Parse(whole[:n]); err == nil && d.Complete {
			t.Fatalf("cut at %d of %d: got a complete dump", n, len(whole))
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("a: b\n\n" + stack + FileEnd))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		if !d.Complete && d.Why == "" {
			t.Error("incomplete without a reason")
		}
		r := Explain(d)
		for _, finding := range append(r.Findings, r.Ongoing...) {
			if len(finding.Cycle) == 0 || finding.Advice == "" {
				t.Errorf("got an empty finding: %+v", finding)
			}
		}
		if _, err := r.WriteTo(&strings.Builder{}); err != nil {
			t.Error(err)
		}
	})
}
