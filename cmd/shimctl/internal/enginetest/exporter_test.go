// SPDX-License-Identifier: Apache-2.0

//go:build engines

package enginetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// series are what node_exporter has to show of each export.
var series = []string{`containerd_shims{verdict="healthy"} `, `containerd_shims{verdict="suspect"} `, `containerd_shims{verdict="wedged"} `,
	"containerd_shim_zombies_max ", "containerd_shim_unpatched ", "containerd_shim_scan_timestamp_seconds ", "containerd_shim_scan_duration_seconds ",
	`containerd_shim_repairs_total{result="repaired"} `, `containerd_shim_repairs_total{result="failed"} `}

// Debian's node_exporter shows what export writes, and no error, also while it
// is being written.
func TestNodeExporter(t *testing.T) {
	shim := shimtest.Start(t, shimtest.Baseline(t, "v1.2.0"))
	dir := t.TempDir()
	port := freePort(t)
	background(t, "prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+dir, "--web.listen-address=127.0.0.1:"+port)
	export := []string{"export", "-confirm", "-textfile-directory", dir, "-state-file", filepath.Join(t.TempDir(), "state")}
	shimctl(t, export...)
	awaitMetrics(t, port, "node_textfile_scrape_error 0", `containerd_shims{verdict="healthy"} 1`, `containerd_shims{verdict="wedged"} 0`, "containerd_shim_unpatched 1")
	shim.Wedge(t)
	shimctl(t, export...) // the children are unreaped for the first time
	shimctl(t, export...)
	awaitMetrics(t, port, "node_textfile_scrape_error 0", `containerd_shims{verdict="wedged"} 1`,
		fmt.Sprintf(`containerd_shim_wedged{id=%q,namespace=%q,reason="ReaperDeadlock"} 1`, shim.ID, shim.Namespace))

	text, err := os.Open(filepath.Join(dir, "containerd_shim.prom"))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = text
	if said, err := lint.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("promtool: %v\n%s", err, said)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	writer := exec.CommandContext(ctx, shimtest.Shimctl(t), append(export, "-interval", "1ms")...)
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	scrapes, writes := 0, map[string]bool{}
	for ctx.Err() == nil && (scrapes < 100 || len(writes) < 10) {
		text := "\n" + scrape(port)
		for _, line := range append(series, "node_textfile_scrape_error 0") {
			if !strings.Contains(text, "\n"+line) {
				t.Fatalf("scrape %d lacks %q:\n%s", scrapes, line, text)
			}
		}
		_, after, _ := strings.Cut(text, "\ncontainerd_shim_scan_duration_seconds ")
		duration, _, _ := strings.Cut(after, "\n")
		scrapes++
		writes[duration] = true
	}
	cancel()
	_ = writer.Wait() // killed by its context
	t.Logf("%d scrapes saw at least %d writes, each whole", scrapes, len(writes))
	if scrapes < 20 || len(writes) < 3 {
		t.Errorf("%d scrapes, %d writes: the test tests nothing", scrapes, len(writes))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 2 { // at most the temporary file of the killed writer
		t.Errorf("got %v, %v", left, err)
	}
}
