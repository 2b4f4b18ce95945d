// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"containerd-shim.v1/internal/stackdump"
)

func parse(t *testing.T, env map[string]string, args ...string) (options, error) {
	t.Helper()
	return parseFlags(args, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

// TestFlags checks every flag that a daemon passes (contract §1.1), in each form
// that Go's flag package accepts, and B59.
func TestFlags(t *testing.T) {
	all := options{
		namespace: "moby", workdir: "/w", address: "/a", containerdBinary: "/b", criu: "/criu", runtimeRoot: "/r",
		stackDir: stackdump.DefaultDir, runtimeTimeout: 10 * time.Minute, systemdCgroup: true, debug: true,
	}
	line := "-namespace moby -workdir /w -address /a -containerd-binary /b -criu-path /criu -runtime-root /r -systemd-cgroup -debug"
	defaults := options{runtimeRoot: "/run/containerd/runc", containerdBinary: "containerd", stackDir: stackdump.DefaultDir, runtimeTimeout: 10 * time.Minute}
	with := func(fn func(*options)) options { o := defaults; fn(&o); return o }
	for _, c := range []struct {
		line string
		want options
	}{
		{"", defaults},
		{line, all},
		{strings.ReplaceAll(line, "-criu-path", "-criu"), all},
		{strings.ReplaceAll(line, " -", " --"), all},
		{"-namespace=moby --workdir=/w -address=/a --containerd-binary=/b --criu-path=/criu -runtime-root=/r -systemd-cgroup=true --debug=1", all},
		{"-no-such-flag -namespace moby", with(func(o *options) { o.namespace = "moby" })},
		{"-no-such-flag value -namespace moby", with(func(o *options) { o.namespace = "moby" })},
		{"--no-such-flag=value -namespace moby", with(func(o *options) { o.namespace = "moby" })},
		{"-debug=false", defaults},
		{"-socket=unix:///a=b", with(func(o *options) { o.socket = "unix:///a=b" })},
		{"-address=", defaults},
		{"-v", with(func(o *options) { o.version = true })},
		{"--version", with(func(o *options) { o.version = true })},
		{"-help", with(func(o *options) { o.help = true })},
		{"-stack-dir /s -runtime-timeout 5s", with(func(o *options) { o.stackDir, o.runtimeTimeout = "/s", 5*time.Second })},
		{"-recycle 3M", with(func(o *options) { o.recycle = 3 << 20 })},
		{"-recycle=5000000", with(func(o *options) { o.recycle = 5000000 })},
		{"-- -namespace moby", defaults},
	} {
		if got, err := parse(t, nil, strings.Fields(c.line)...); err != nil || got != c.want {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", c.line, got, err, c.want)
		}
	}
	for _, line := range []string{"-namespace", "-debug=maybe", "-runtime-timeout 0s", "-runtime-timeout soon", "-runtime-timeout -1s", "-recycle 3MB", "-recycle -3M", "-recycle M"} {
		if got, err := parse(t, nil, strings.Fields(line)...); err == nil || got != defaults {
			t.Errorf("%q:\n got %+v, %v\nwant %+v and an error", line, got, err, defaults)
		}
	}
}

// TestEnvironment: a flag overrides its environment variable.
func TestEnvironment(t *testing.T) {
	env := map[string]string{"CONTAINERD_SHIM_STACK_DIR": "/e", "CONTAINERD_SHIM_RUNTIME_TIMEOUT": "7s", "CONTAINERD_SHIM_RECYCLE": "4K"}
	if o, err := parse(t, env); err != nil || o.stackDir != "/e" || o.runtimeTimeout != 7*time.Second || o.recycle != 4096 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse(t, env, "-stack-dir", "/f", "-runtime-timeout", "8s", "-recycle", "0"); err != nil || o.stackDir != "/f" || o.runtimeTimeout != 8*time.Second || o.recycle != 0 {
		t.Errorf("%+v, %v", o, err)
	}
}
