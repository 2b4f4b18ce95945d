// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// deadlocked is cut from the stacks of v1.1.2 in the flood (B01b).
const deadlocked = `goroutine 1 [chan send]:
github.com/containerd/containerd/reaper.Reap()
	github.com/containerd/containerd@v1.1.2/reaper/reaper.go:44 +0x1a5
main.main()
	x/main.go:50 +0x1b

goroutine 22 [sync.Mutex.Lock]:
sync.(*Mutex).Lock(...)
	sync/mutex.go:46
github.com/containerd/containerd/linux/shim.(*Service).checkProcesses(0x1, {0x2})
	github.com/containerd/containerd@v1.1.2/linux/shim/service.go:431 +0x5e
github.com/containerd/containerd/linux/shim.(*Service).processExits(...)
	github.com/containerd/containerd@v1.1.2/linux/shim/service.go:420

goroutine 143 [chan receive]:
github.com/containerd/containerd/reaper.(*Monitor).Wait(0x1)
	github.com/containerd/containerd@v1.1.2/reaper/reaper.go:80 +0x5
github.com/containerd/go-runc.(*Runc).Exec(0x1)
	github.com/containerd/go-runc@v1.0.0/runc.go:212 +0x5
github.com/containerd/containerd/linux/proc.(*execProcess).start(0x1)
	github.com/containerd/containerd@v1.1.2/linux/proc/exec.go:180 +0x5
github.com/containerd/containerd/linux/shim.(*Service).Start(0x1)
	github.com/containerd/containerd@v1.1.2/linux/shim/service.go:120 +0x5`

func TestExplainFindsTheCycle(t *testing.T) {
	var b strings.Builder
	explain(&b, deadlocked)
	for _, want := range []string{"DEADLOCK", "the cycle is closed", "goroutine 1 [chan send]", "shim.(*Service).processExits", "goroutine 143 [chan receive]", "shim.(*Service).Start"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// A shim that is only busy must not be called deadlocked.
func TestExplainOfAHealthyShim(t *testing.T) {
	healthy := strings.NewReplacer("[chan send]", "[select]", "[sync.Mutex.Lock]", "[chan receive]").Replace(deadlocked)
	var b strings.Builder
	explain(&b, healthy)
	if strings.Contains(b.String(), "DEADLOCK") {
		t.Errorf("a deadlock in\n%s", b.String())
	}
}

func TestExplainWithoutStacks(t *testing.T) {
	var b strings.Builder
	explain(&b, "")
	if !strings.Contains(b.String(), "no stacks") {
		t.Errorf("%q", b.String())
	}
}
