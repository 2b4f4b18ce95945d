// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
	"containerd-shim.v1/integration/harness/launch"
)

var startupChecks = []Check{
	{ID: "B57", Name: "descriptors of runc and of the publisher",
		Incident: "containerd #3359, #3481: hooks and loggers hold the API socket, a dead shim's socket still takes connections",
		Asserts:  "runc and the publish binary inherit nothing but stdin, stdout and stderr",
		Run:      inheritedFds},
	{ID: "B58", Name: "NOTIFY_SOCKET",
		Incident: "containerd #3639, runc #1807: runc start waits for systemd's notify socket",
		Asserts:  "runc does not get the variable",
		Run:      notifySocket},
	flag("B59", "-criu-path", "/usr/sbin/criu"),
	flag("B59b", "-criu", "/usr/sbin/criu"),
	flag("B59c", "-flag-of-a-later-daemon", "value"),
	{ID: "B60", Name: "peer with another uid",
		Incident: "CVE-2020-15257: whoever reaches the socket has root",
		Asserts:  "a connection of another user is closed at once, that of root served",
		Run:      otherUser},
	{ID: "B60b", Name: "-socket unix://PATH",
		Incident: "CVE-2020-15257: abstract sockets are open to host-network containers",
		Asserts:  "the shim makes a socket of mode 0600 at that path",
		Run:      pathSocket},
	{ID: "B61", Name: "long id on fd 3",
		Incident: "containerd #3032: namespace and id overflow the socket path",
		Asserts:  "a container with an id of 76 characters, the longest there is, runs and execs",
		Run:      longID},
	{ID: "B61b", Name: "-socket with more than 106 bytes",
		Incident: "containerd #3032",
		Asserts:  "the shim ends within 5 s and does not say 0",
		Run:      longSocket},
	umask("B62", "umask 000", 0),
	umask("B62b", "umask 077", 0o077),
	{ID: "B64", Load: Heavy, Name: "60 runcs from many threads",
		Incident: "go-runc #86, golang #27505, moby #44215: runc dies of a parent-death signal when a thread ends",
		Asserts:  "60 execs started by 12 clients at once all start and exit with their own status",
		Run:      threadChurn},
	{ID: "B64b", Name: "SIGKILL of the shim while runc runs",
		Incident: "the other side of go-runc #86: runc without a shim",
		Asserts:  "runc is killed with it",
		Run:      runcDiesToo},
	{ID: "B65", Name: "daemon and clients go away",
		Incident: "containerd #2606, #3266, #3311: SIGPIPE or a busy loop",
		Asserts:  "shim and container live, an exec with output to nobody too, and the shim uses less than a quarter of a CPU",
		Run:      readersGone},
}

func flag(id string, args ...string) Check {
	return Check{ID: id, Name: "flag " + args[0],
		Incident: "containerd #6496: the shim exits with its usage, the container cannot start",
		Asserts:  "the shim starts and serves",
		Run: func(c *harness.Case) {
			g := launch.Containerd1_4_1
			lives(c, c.Fixture(harness.Options{Generation: &g, Flags: args}))
		}}
}

func umask(id, name string, mask int) Check {
	return Check{ID: id, Load: Alone, Name: name,
		Incident: "CVE-2021-41103: files of a bundle that others can use",
		Asserts:  "what the shim makes in its workdir is its own only, and a container runs",
		Run:      with(modes, mask)}
}

func inheritedFds(c *harness.Case) {
	b := faked(c)
	if !c.V2 { // it runs no binary
		b.Daemon.OnlyBinary()
	}
	b.Up()
	b.MustExec("e", harness.IO{}, "exit:0")
	b.AwaitExit(retryTime, "e")
	for _, call := range b.Fake.Calls("") {
		if len(call.Fds) > 0 {
			c.Errorf("runc %s inherits %v", call.Verb, call.Fds)
		}
	}
	for _, run := range b.Daemon.Publishers() {
		if len(run.Fds) > 0 {
			c.Errorf("the publisher inherits %v", run.Fds)
		}
	}
}

func notifySocket(c *harness.Case) {
	b := upWith(c, harness.Options{Fake: []fakeruntime.Rule{}, Env: []string{"NOTIFY_SOCKET=/run/shimverify-no-such-socket"}})
	for _, call := range b.Fake.Calls("") {
		for _, v := range call.Env {
			if strings.HasPrefix(v, "NOTIFY_SOCKET=") {
				c.Errorf("runc %s gets %s", call.Verb, v)
			}
		}
	}
}

func otherUser(c *harness.Case) {
	g := launch.Containerd1_2_9 // an abstract address: no file mode guards it
	b := upWith(c, harness.Options{Generation: &g})
	if c.RunAs(65534, "refused:"+b.Shim.Address) != 0 {
		c.Errorf("the shim keeps a connection of uid 65534 open")
	}
	if c.RunAs(0, "refused:"+b.Shim.Address) != 66 {
		c.Errorf("the shim does not keep a connection of root open")
	}
	lives(c, b)
}

func pathSocket(c *harness.Case) {
	b := c.Fixture(harness.Options{OwnSocket: true})
	lives(c, b)
	info, err := os.Stat(b.Shim.Address)
	c.Must(err, "the socket")
	if mode := info.Mode(); mode.Type() != os.ModeSocket || mode.Perm() != 0o600 {
		c.Errorf("mode of the socket: %v, want 0600", mode)
	}
}

func longID(c *harness.Case) {
	b := upWith(c, harness.Options{ID: strings.Repeat("c", 76)})
	id := strings.Repeat("e", 76)
	b.MustExec(id, harness.IO{}, "exit:0")
	b.AwaitExit(5*time.Second, id)
}

func longSocket(c *harness.Case) {
	b := c.Fixture(harness.Options{NoClient: true, Flags: []string{"-socket", "/" + strings.Repeat("x", 200)}})
	status, err := b.Shim.ExitCode(5 * time.Second)
	c.Must(err, "shim with a socket address of 201 bytes")
	if status == 0 {
		c.Errorf("exit status 0")
	}
}

func modes(c *harness.Case, mask int) {
	g := launch.Containerd1_3_0 // a daemon that leaves the log FIFOs to the shim
	b := upWith(c, harness.Options{Generation: &g, Umask: &mask})
	entries, err := os.ReadDir(b.Workdir)
	c.Need(err, "list workdir")
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().Perm()&0o077 != 0 {
			c.Errorf("mode of %s: %v", filepath.Join(b.Workdir, e.Name()), info.Mode())
		}
	}
}

func runcDiesToo(c *harness.Case) {
	b := upFaked(c, gated("exec", "/slow.pid", "slow"))
	startAtGate(c, b, "slow", "slow")
	runc := b.Fake.Waiting("slow")[0]
	c.Need(unix.Kill(b.Shim.Pid, unix.SIGKILL), "kill the shim")
	b.Gone(5*time.Second, "runc", runc)
}
