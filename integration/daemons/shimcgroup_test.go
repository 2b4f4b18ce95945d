// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/runtime/linux/runctypes"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// TestShimStaysInShimCgroup: containerd puts the shim into the cgroup that
// CreateOptions.shim_cgroup names (ctr has no flag for it) before it connects.
// The shim stays there with all that it forks, the container goes to its own,
// and nothing of either is left in the end. Version 1 only: containerd puts no
// v1 shim into a cgroup of version 2.
func TestShimStaysInShimCgroup(t *testing.T) {
	quiet(t, shared)
	const id = "shimcgroup"
	name := "/" + shared.Name + "-shim"
	dir := filepath.Join(cgroupRoot, "pids", name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !wait.Until(settleLimit, func() bool { return os.Remove(dir) == nil }) {
			t.Errorf("%s cannot be removed: %s", dir, procs(dir))
		}
	})
	shared.Note(shared.Name, id)
	must(t, ctr(t, "containers", "create", "--runtime", Runtime, ImageName, id, "sleep", "100000"))
	t.Cleanup(func() {
		if err := shared.Remove(background(t), id); err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("unix://"+shared.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(limited(t, commandLimit), "containerd-namespace", shared.Name)
	mounts, err := snapshots.NewSnapshotsClient(conn).Mounts(ctx, &snapshots.MountsRequest{Snapshotter: "overlayfs", Key: id})
	if err != nil {
		t.Fatal(err)
	}
	value, err := proto.Marshal(&runctypes.CreateOptions{ShimCgroup: name})
	if err != nil {
		t.Fatal(err)
	}
	client := tasks.NewTasksClient(conn)
	created, err := client.Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: id, Rootfs: mounts.Mounts,
		Options: &anypb.Any{TypeUrl: "containerd.linux.runc.CreateOptions", Value: value},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Start(ctx, &tasks.StartRequest{ContainerID: id}); err != nil {
		t.Fatal(err)
	}
	shim, err := shared.Shim(shared.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	must(t, ctr(t, "tasks", "exec", "--exec-id", "e1", id, "true"))
	for pid, want := range map[int]bool{shim.Pid: true, int(created.Pid): false} {
		if got := procfs.InCgroup(pid, strings.TrimPrefix(name, "/")); got != want {
			t.Errorf("pid %d in %s: %v, want %v", pid, name, got, want)
		}
	}
	if got, want := procs(dir), strconv.Itoa(shim.Pid); got != want {
		t.Errorf("in %s: pids %q, want the shim's, %s", name, got, want)
	}
}

// TestSignalsWithoutMemory: where a shim's memory cgroup had nothing left, a signal to a
// thread that had not had one before ended the shim by SIGSEGV, and with it the
// container: the kernel had no page for the signal's frame. Chaos met that when the Go
// runtime stopped a goroutine, or SIGCHLD came.
func TestSignalsWithoutMemory(t *testing.T) {
	const id = "signals"
	idle(t, shared, id)
	shim, err := shared.Shim(shared.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", shim.Pid))
	if err != nil {
		t.Fatal(err)
	}
	lift, err := shared.tighten(shim.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err := errors.Join(err, unix.Tgkill(shim.Pid, tid, unix.SIGCHLD)); err != nil {
			t.Errorf("thread %s: %v", thread.Name(), err)
		}
		eventually(t, settleLimit, "the signal is taken", func() bool {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", shim.Pid, tid)) // an end is seen below
			return !bytes.Contains(status, []byte("SigPnd:")) || bytes.Contains(status, []byte("SigPnd:\t0000000000000000"))
		})
	}
	if err := lift(); err != nil {
		t.Error(err)
	}
	must(t, ctr(t, "tasks", "exec", "--exec-id", "e1", id, "true"))
}

func procs(dir string) string {
	data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs")) // a cgroup that is gone has no processes
	return strings.Join(strings.Fields(string(data)), " ")
}
