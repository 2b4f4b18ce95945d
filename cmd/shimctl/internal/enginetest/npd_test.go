// SPDX-License-Identifier: Apache-2.0

//go:build engines

package enginetest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"containerd-shim.v1/cmd/shimctl/internal/shimtest"
)

// The released node-problem-detector (its path is in NPD) runs our plugin: no
// problem, then a wedged shim, and none again when repair has healed it under
// a real containerd.
func TestNodeProblemDetector(t *testing.T) {
	detector := os.Getenv("NPD")
	if detector == "" {
		t.Fatal("NPD is not set: the path that packaging/monitoring/npd/build prints to")
	}
	var config map[string]any
	if err := json.Unmarshal([]byte(shipped(t, "node-problem-detector.json")), &config); err != nil {
		t.Fatal(err)
	}
	config["pluginConfig"].(map[string]any)["invoke_interval"] = "1s" // all that is changed: 60s
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plugin.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	healthy := shimtest.Start(t, shimtest.Baseline(t, "v1.7.35"))
	shim := shimtest.Underneath(t, shimtest.Baseline(t, "v1.2.0"), pidOf(t))

	port := freePort(t)
	background(t, detector, "--enable-k8s-exporter=false", "--port=0", "--prometheus-address=127.0.0.1", "--prometheus-port="+port, "--config.custom-plugin-monitor="+file)
	const labels = `{reason="WedgedContainerdShim",type="ContainerdShimUnhealthy"} `
	awaitMetrics(t, port, "problem_gauge"+labels+"0", `problem_counter{reason="WedgedContainerdShim"} 0`)
	shim.Wedge(t)
	awaitMetrics(t, port, "problem_gauge"+labels+"1", `problem_counter{reason="WedgedContainerdShim"} 1`)
	t.Log(shimctl(t, "repair", "-yes", "-kill", "-binary", "", strconv.Itoa(shim.PID)))
	awaitMetrics(t, port, "problem_gauge"+labels+"0")
	if !healthy.Answers() {
		t.Error("the other shim does not answer")
	}
	if all := scrape(port); strings.Contains(all, `problem_counter{reason="WedgedContainerdShim"} 2`) {
		t.Errorf("one wedge was counted twice:\n%s", all)
	}
}
