// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"bytes"
	"context"
	"errors"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/sirupsen/logrus"
)

func TestCall(t *testing.T) {
	var log bytes.Buffer
	logrus.SetOutput(&log)
	t.Cleanup(func() { logrus.SetOutput(logrus.StandardLogger().Out) })
	want := errors.New("no")
	if err := Call("work", func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if err := Call("work", func() error { return nil }); err != nil || log.Len() > 0 {
		t.Errorf("got %v, log %q", err, log.String())
	}
	err := Call("work", func() error { panic("boom") })
	if !errdefs.IsInternal(err) || err.Error() != "work: panic: boom" {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"work: panic: boom", "guard.TestCall"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log: %s", want, log.String())
		}
	}
}

func TestGo(t *testing.T) {
	var log bytes.Buffer
	logrus.SetOutput(&log)
	ended := make(chan struct{})
	Go("work", func() {
		defer close(ended)
		var m map[string]int
		m["x"] = 1 //nolint:staticcheck // it panics, as it is to
	})
	<-ended
}

// A goroutine that outlives the call that made it does not carry its labels.
func TestGoHasItsOwnLabel(t *testing.T) {
	gone, dumped := make(chan struct{}), make(chan string)
	pprof.Do(t.Context(), pprof.Labels("rpc", "Start"), func(context.Context) {
		Go("pump", func() {
			var b bytes.Buffer
			_ = pprof.Lookup("goroutine").WriteTo(&b, 1) // to memory
			dumped <- b.String()
		})
		close(gone)
	})
	<-gone
	if got := <-dumped; !strings.Contains(got, `"task":"pump"`) || strings.Contains(got, `"rpc":"Start"`) {
		t.Errorf("labels: %s", got)
	}
}
