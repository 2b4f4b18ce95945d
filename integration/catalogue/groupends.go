// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
)

// taskChecks are about what else the v2 shim's service and its program have.
var taskChecks = []Check{
	{ID: "V07", Name: "Shutdown",
		Incident: "contract: containerd's last call; a shim that stays is a leak for each container",
		Asserts:  "after the container's Delete it ends the shim with 0 within 10 s, and the socket is gone",
		Run:      shutdown},
	{ID: "V08", Name: "Connect while runc create runs",
		Incident: "contract: the first call of a daemon that comes back after a restart",
		Asserts:  "it answers at once with the shim's pid",
		Run:      connectDuringCreate},
	{ID: "V09", Name: "Stats",
		Incident: "contract: `crictl stats`, kubelet's eviction",
		Asserts:  "the number of processes is that of the container's own cgroup, also while a runc exec runs",
		Run:      stats},
	{ID: "V10", Name: "delete after the shim was killed",
		Incident: "contract: the daemon's clean-up after a dead shim",
		Asserts:  "status 137 and the pid; runc has no container, and no process is left",
		Run:      deleteAfterDeath},
	{ID: "V10b", Name: "delete of one container after its pod's shim was killed",
		Incident: "contract: the daemon cleans up one container after the other",
		Asserts:  "that container is gone, the other one's processes live until its own delete",
		Run:      deleteOneAfterDeath},
	{ID: "V10c", Name: "delete of a container that was never created",
		Incident: "contract: Create fails, and the daemon cleans up",
		Asserts:  "it succeeds",
		Run:      deleteUncreated},
	{ID: "V11", Name: "start where a dead shim's socket is left",
		Incident: "contract: the shim was killed, and its pod is made anew",
		Asserts:  "a new shim starts and serves",
		Run:      startAfterDeath},
	{ID: "V12", Name: "order of a task's events",
		Incident: "contract: an exit that overtakes its start leaves a container that docker shows as running (F20)",
		Asserts:  "create, start, exit and delete of a container that ends at once come in that order, and so do those of an exec",
		Run:      eventOrder},
}

func shutdown(c *harness.Case) {
	b := up(c)
	b.Die()
	deletes(c, b)
	socket := b.Shim.Address
	if err := b.Shutdown(b.ID); err != nil {
		c.Logf("Shutdown: %v", err) // the shim may end before it answers
	}
	status, err := b.Shim.ExitCode(10 * time.Second)
	c.Must(err, "Shutdown")
	if status != 0 {
		c.Errorf("exit status %d, want 0", status)
	}
	if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
		c.Errorf("the socket is left behind: %v", err)
	}
}

func connectDuringCreate(c *harness.Case) {
	b := faked(c, gated("create", "", "slow"))
	create := heldAt(c, b, "slow", "Create", func() error {
		_, err := b.Within(time.Minute).CreateTask(b.CreateRequest(harness.IO{}))
		return err
	})
	answer, err := b.Within(prompt).Connect(b.ID)
	c.Must(err, "Connect")
	if int(answer.GetShimPid()) != b.Shim.Pid {
		c.Errorf("Connect: pid %d, want %d", answer.GetShimPid(), b.Shim.Pid)
	}
	open(c, b.Fake.Gate("slow"))
	c.Must(create.Await(10*time.Second), "Create")
}

func stats(c *harness.Case) {
	crowd := harness.Options{
		Container: harness.Container{Args: []string{"children:3", "sleep"}},
		Fake:      []fakeruntime.Rule{gated("exec", "/slow.pid", "slow")},
	}
	first, second := podUp(c, crowd, harness.Options{})
	c.Await(5*time.Second, "the children run", func() bool { return len(procfs.Children(first.InitPid)) == 3 })
	var counts []uint64
	counted := func(b *harness.Fixture) {
		before := processes(c, b)
		answer, err := b.Within(prompt).Stats(b.ID)
		c.Must(err, "Stats of "+b.ID)
		got, err := pidsOf(answer.GetStats().GetTypeUrl(), answer.GetStats().GetValue())
		if after := processes(c, b); err != nil || got < min(before, after) || got > max(before, after) {
			c.Errorf("Stats of %s: %d processes (%v), the kernel counts %d", b.ID, got, err, after)
		}
		counts = append(counts, got)
	}
	counted(second)
	slow := startAtGate(c, first, "slow", "slow")
	counted(first)
	if counts[1] < counts[0]+3 {
		c.Errorf("%d processes in a container with three children, %d in one without", counts[1], counts[0])
	}
	open(c, first.Fake.Gate("slow"))
	c.Must(slow.Await(10*time.Second), "Start of the slow exec")
}

// processes is what the kernel counts in the container's cgroup: threads, too.
func processes(c *harness.Case, b *harness.Fixture) (n uint64) {
	data, err := os.ReadFile(b.Cgroup("pids", "pids.current"))
	if err == nil {
		_, err = fmt.Sscan(string(data), &n)
	}
	c.Need(err, "read pids.current")
	return n
}

// pidsOf reads the number of processes out of the metrics of a cgroup: the field "current"
// of the field "pids", which has another number for each version of cgroups.
func pidsOf(url string, metrics []byte) (uint64, error) {
	pids := protowire.Number(2)
	if strings.HasSuffix(url, "cgroups.v2.Metrics") {
		pids = 1
	}
	inner, err := field(metrics, pids)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", url, err)
	}
	message, n := protowire.ConsumeBytes(inner)
	if n < 0 {
		return 0, protowire.ParseError(n)
	}
	current, err := field(message, 1)
	if err != nil {
		return 0, err
	}
	value, n := protowire.ConsumeVarint(current)
	return value, protowire.ParseError(min(n, 0))
}

// field is the encoded value of the first field of that number.
func field(message []byte, number protowire.Number) ([]byte, error) {
	for len(message) > 0 {
		got, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		message = message[n:]
		if got == number {
			return message, nil
		}
		if n = protowire.ConsumeFieldValue(got, kind, message); n < 0 {
			return nil, protowire.ParseError(n)
		}
		message = message[n:]
	}
	return nil, fmt.Errorf("no field %d", number)
}

// killShim ends the shim as the kernel's out-of-memory killer does.
func killShim(c *harness.Case, b *harness.Fixture) {
	c.Need(unix.Kill(b.Shim.Pid, unix.SIGKILL), "kill the shim")
	b.Gone(5*time.Second, "the shim", b.Shim.Pid)
}

// cleansUp runs the shim's delete for a container whose shim is dead, and checks what it
// says and that nothing is left.
func cleansUp(c *harness.Case, b *harness.Fixture) {
	answer, err := b.CleanUp()
	c.Must(err, "delete of "+b.ID)
	if answer.GetExitStatus() != 137 || int(answer.GetPid()) != b.InitPid || answer.GetExitedAt().GetSeconds() <= 0 {
		c.Errorf("delete of %s says %v, want status 137, pid %d, a real time", b.ID, answer, b.InitPid)
	}
	if b.RuncHas() {
		c.Errorf("runc still has %s", b.ID)
	}
	b.Gone(5*time.Second, "init of "+b.ID, b.InitPid)
}

func deleteAfterDeath(c *harness.Case) {
	b := up(c)
	pid := b.MustExec("e", harness.IO{}, "sleep")
	killShim(c, b)
	cleansUp(c, b)
	b.Gone(5*time.Second, "the exec", pid)
}

func deleteOneAfterDeath(c *harness.Case) {
	first, second := podUp(c, harness.Options{}, harness.Options{})
	killShim(c, first)
	cleansUp(c, second)
	if !procfs.Alive(first.InitPid) || !first.RuncHas() {
		c.Errorf("the other container is gone, too")
	}
	cleansUp(c, first)
}

func deleteUncreated(c *harness.Case) {
	b := faked(c, on("create", logs("no"), exits(1)))
	if c.Prompt(b.Create()) == nil {
		c.Errorf("Create succeeded though runc failed")
	}
	_, err := b.CleanUp()
	c.Must(err, "delete")
}

func startAfterDeath(c *harness.Case) {
	first, second := pod(c, harness.Options{}, harness.Options{})
	killShim(c, second)
	again := c.Fixture(inPod(harness.Options{With: first}))
	if again.Shim == first.Shim {
		c.Fatalf("no new shim was started: the address is that of the dead one")
	}
	again.Up()
	lives(c, again)
}

func eventOrder(c *harness.Case) {
	b := c.Fixture(harness.Options{Container: harness.Container{Args: []string{"gate:/go", "exit:0"}}})
	gate := b.Gate("go")
	b.Up()
	for i := range 5 {
		id := fmt.Sprintf("e%d", i)
		b.MustExec(id, harness.IO{}, "exit:0")
		b.AwaitExit(5*time.Second, id)
	}
	open(c, gate)
	b.AwaitExit(5*time.Second, b.ID)
	c.Must(del(b, ""), "Delete")
	wantOrder := func(id string, topics ...string) {
		c.Await(5*time.Second, "the last event of "+id, func() bool { return len(b.Daemon.Of(b.ID, id)) >= len(topics) })
		var got []string
		for _, e := range b.Daemon.Of(b.ID, id) {
			got = append(got, topic(e))
		}
		if fmt.Sprint(got) != fmt.Sprint(topics) {
			c.Errorf("events of %s: %v, want %v", id, got, topics)
		}
	}
	for i := range 5 {
		wantOrder(fmt.Sprintf("e%d", i), "exec-added", "exec-started", "exit")
	}
	wantOrder(b.ID, "create", "start", "exit", "delete")
}
