// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"errors"
	"fmt"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakedaemon"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// groupChecks are about two containers in one v2 shim, as Kubernetes has a pod's.
var groupChecks = []Check{
	{ID: "V01", Name: "start for the second container of a group",
		Incident: "contract: containerd starts the shim once for each container",
		Asserts:  "no second shim is forked, the address is that of the first, and both containers run",
		Run:      startTwice},
	{ID: "V02", Name: "exits of two containers in one shim",
		Incident: "contract: a pod's containers end one by one",
		Asserts:  "each exit names its container, also of execs with the same id; the other container and its exec live",
		Run:      exitsOfTwo},
	{ID: "V03", Name: "one of two containers is deleted",
		Incident: "contract: a pod's containers are removed one by one",
		Asserts:  "the other one answers and can exec, and Shutdown does not end the shim",
		Run:      deleteOneOfTwo},
	{ID: "V04", Name: "runc create of another container is slow",
		Incident: "found by reading: Create holds the lock that every call of the pod needs",
		Asserts:  "State, Kill and Wait of a container answer while runc creates another one in the same shim",
		Run:      createBesideAnother},
	{ID: "V05", Name: "kill --all of another container hangs",
		Incident: "containerd #13814: a pod's exits come late or never, because one container's rest is killed first",
		Asserts:  "the exit of an exec of one container arrives while runc kills what is left of the other",
		Run:      killBesideAnother},
	{ID: "V05b", Load: Heavy, Name: "exit storm in another container",
		Incident: "containerd #12678: one noisy container of a pod holds up the exits of the others",
		Asserts:  "200 children of one container die while its runc exec hangs: an exec of the other ends within 5 s",
		Limit:    90 * time.Second,
		Run:      stormBesideAnother},
	{ID: "V05c", Load: Heavy, Name: "many exits while kill --all of another container hangs",
		Incident: "containerd #13814, #13849: the reaper waits a second for each exit that finds no room, runc's own among them",
		Asserts:  "64 execs of one container end while runc kills what is left of the other: within 5 s of that runc's end all exits are there",
		Limit:    90 * time.Second,
		Run:      exitsBesideKillAll},
	{ID: "V06", Name: "one of two containers runs out of memory",
		Incident: "contract: TaskOOM is what kubelet's OOMKilled comes from",
		Asserts:  "TaskOOM names that container and no other, its exit says 137, the other lives",
		Run:      outOfMemory},
}

// podKey is the annotation by which Kubernetes' containers of one pod get one shim.
const podKey = "io.kubernetes.cri.sandbox-id"

// inPod returns options for a container of the pod of the case.
func inPod(o harness.Options) harness.Options {
	edit := o.Container.Edit
	o.Container.Edit = func(s *specs.Spec) {
		s.Annotations = map[string]string{podKey: "pod"}
		if edit != nil {
			edit(s)
		}
	}
	return o
}

// pod starts a shim for two containers, which are not created yet.
func pod(c *harness.Case, one, two harness.Options) (first, second *harness.Fixture) {
	first = c.Fixture(inPod(one))
	two.With = first
	second = c.Fixture(inPod(two))
	if second.Shim != first.Shim { // V01; then nothing else can be judged
		c.Need(errSplit, "start the shim for the second container")
	}
	return first, second
}

var errNotV2 = errors.New("only a v2 shim has several containers")

// errSplit: start gives a connect to the group's socket 100 ms. On a host that is busier, it
// takes the living shim for a dead one, removes its socket, and forks another.
var errSplit = errors.New("the second container of the group has got another shim")

// podUp starts a shim with two running containers.
func podUp(c *harness.Case, one, two harness.Options) (first, second *harness.Fixture) {
	first, second = pod(c, one, two)
	first.Up()
	second.Up()
	return first, second
}

func startTwice(c *harness.Case) {
	first := c.Fixture(inPod(harness.Options{}))
	second := c.Fixture(inPod(harness.Options{With: first}))
	if second.Shim != first.Shim {
		c.Fatalf("%v", errSplit)
	}
	first.Up()
	second.Up()
	for _, b := range []*harness.Fixture{first, second} {
		answer, err := b.Connect(b.ID)
		c.Must(err, "Connect")
		if int(answer.GetShimPid()) != first.Shim.Pid || int(answer.GetTaskPid()) != b.InitPid {
			c.Errorf("Connect for %s: shim %d, task %d, want %d, %d", b.ID, answer.GetShimPid(), answer.GetTaskPid(), first.Shim.Pid, b.InitPid)
		}
	}
}

// topic is the last word of an event's topic.
func topic(e fakedaemon.Event) string { return e.Topic[strings.LastIndex(e.Topic, "/")+1:] }

// exitsOf are the exits of a process of one container.
func exitsOf(b *harness.Fixture, id string) (out []fakedaemon.Event) {
	for _, e := range b.Daemon.ExitsOf(id) {
		if e.Exit.GetContainerID() == b.ID {
			out = append(out, e)
		}
	}
	return out
}

func exitsOfTwo(c *harness.Case) {
	first, second := podUp(c, harness.Options{}, harness.Options{})
	gate := first.Gate("go")
	first.MustExec("e", harness.IO{}, "gate:/go", "exit:3")
	second.MustExec("e", harness.IO{}, "sleep")
	open(c, gate)
	c.Await(5*time.Second, "the exit of the first container's exec", func() bool { return len(exitsOf(first, "e")) > 0 })
	if got := exitsOf(first, "e")[0].Exit.GetExitStatus(); got != 3 {
		c.Errorf("exit of the first container's exec: status %d, want 3", got)
	}
	c.Never(500*time.Millisecond, "the other container's exec of the same id has an exit", func() bool { return len(exitsOf(second, "e")) > 0 })
	first.Die()
	for _, id := range []string{second.ID, "e"} {
		s, err := second.State(id)
		c.Must(err, "State of the other container's "+id)
		if got := s.GetStatus().String(); got != "RUNNING" {
			c.Errorf("State of the other container's %s: %s, want RUNNING", id, got)
		}
	}
	if n := len(second.Daemon.ExitsOf(second.ID)); n > 0 || !procfs.Alive(second.InitPid) {
		c.Errorf("the other container has died with the first: %d exits", n)
	}
}

func deleteOneOfTwo(c *harness.Case) {
	first, second := podUp(c, harness.Options{}, harness.Options{})
	first.Die()
	deletes(c, first)
	c.Must(first.Shutdown(first.ID), "Shutdown while there is another container")
	c.Never(time.Second, "the shim has ended with a container in it", func() bool { return !procfs.Alive(second.Shim.Pid) })
	answers(c, second, second.ID)
	second.MustExec("e", harness.IO{}, "exit:5")
	second.AwaitStatus(5*time.Second, "e", 5)
	_, err := first.State(first.ID)
	wantCode(c, "State of the deleted container", err, notFound)
}

func createBesideAnother(c *harness.Case) {
	first, second := pod(c, harness.Options{}, harness.Options{Fake: []fakeruntime.Rule{gated("create", "", "slow")}})
	first.Up()
	create := heldAt(c, second, "slow", "Create", func() error {
		_, err := second.Within(time.Minute).CreateTask(second.CreateRequest(harness.IO{}))
		return err
	})
	answers(c, first, first.ID)
	c.Must(first.Within(prompt).Kill(first.ID, 9, false), "Kill")
	c.Must(waitFor(first, first.ID), "Wait")
	open(c, second.Fake.Gate("slow"))
	c.Must(create.Await(10*time.Second), "Create")
}

func killBesideAnother(c *harness.Case) {
	first, second := podUp(c, hostPid(gated("kill", "", "kill")), harness.Options{})
	gate := second.Gate("go")
	second.MustExec("e", harness.IO{}, "gate:/go", "exit:6")
	killedAtGate(c, first)
	open(c, gate)
	second.AwaitStatus(5*time.Second, "e", 6)
	open(c, first.Fake.Gate("kill"))
	first.AwaitExit(10*time.Second, first.ID)
}

func exitsBesideKillAll(c *harness.Case) {
	const n = 64 // twice the room of upstream's channels
	first, second := podUp(c, hostPid(gated("kill", "", "kill")), harness.Options{})
	var pids []int
	for i := range n {
		pids = append(pids, second.MustExec(fmt.Sprintf("e%d", i), harness.IO{}, "sleep"))
	}
	killedAtGate(c, first)
	killEach(pids)
	reaped(c, pids) // as in B03: only then is runc's own exit certain to come after theirs
	open(c, first.Fake.Gate("kill"))
	got := 0
	all := func() bool {
		got = len(exitsOf(first, first.ID))
		for i := range n {
			got += len(exitsOf(second, fmt.Sprintf("e%d", i)))
		}
		return got >= n+1
	}
	if !wait.Until(5*time.Second, all) || got > n+1 {
		c.Errorf("%d exits within 5 s of the end of runc kill, want %d", got, n+1)
	}
}

func stormBesideAnother(c *harness.Case) {
	first, second := podUp(c, hostPid(orphans(stormSize), gated("exec", "/slow.pid", "slow")), harness.Options{})
	gate := second.Gate("go")
	second.MustExec("e", harness.IO{}, "gate:/go", "exit:6")
	pids := brood(c, first, stormSize)
	slow := startAtGate(c, first, "slow", "slow")
	killEach(pids)
	open(c, gate)
	second.AwaitStatus(5*time.Second, "e", 6)
	open(c, first.Fake.Gate("slow"))
	c.Must(slow.Await(5*time.Second), "Start of the slow exec")
}

// unswapped limits memory so that a process which asks for more is killed: none of it is
// swapped. Version 2 of cgroups has no swappiness, and version 1 not always an account of swap.
func unswapped(limit int64, unified bool) *specs.LinuxMemory {
	if unified {
		return &specs.LinuxMemory{Limit: &limit, Swap: &limit} // of memory and swap together
	}
	return &specs.LinuxMemory{Limit: &limit, Swappiness: new(uint64)}
}

func outOfMemory(c *harness.Case) {
	const limit = 64 << 20
	first, second := pod(c, harness.Options{Container: harness.Container{
		Args: []string{"gate:/go", fmt.Sprintf("memory:%d", 4*limit), "exit:0"},
		Edit: func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Memory: unswapped(limit, harness.Unified())}
		},
	}}, harness.Options{})
	gate := first.Gate("go")
	first.Up()
	second.Up()
	open(c, gate)
	first.AwaitStatus(10*time.Second, first.ID, 137)
	of := func(id string) (n int) {
		for _, e := range first.Daemon.Of(id, id) {
			if topic(e) == "oom" {
				n++
			}
		}
		return n
	}
	c.Await(5*time.Second, "TaskOOM", func() bool { return of(first.ID) > 0 })
	if n := of(second.ID); n > 0 || !procfs.Alive(second.InitPid) {
		c.Errorf("the other container: %d TaskOOM, alive: %v", n, procfs.Alive(second.InitPid))
	}
}
