// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/client"
	"containerd-shim.v1/integration/harness/procfs"
	"containerd-shim.v1/integration/harness/wait"
)

// loggerBound bounds the wait of Create for a logger, and of Delete for its end.
const loggerBound = 20 * time.Second

var loggerChecks = []Check{
	{ID: "B53", Name: "one log file, by path, for stdout and stderr",
		Incident: "containerd #3118, #3153: stderr is lost when stdout ends first",
		Asserts:  "a line on stderr, written after stdout was closed, is in the file",
		Run:      with(sharedFile, "")},
	{ID: "B53b", Name: "one log file, by file://, for stdout and stderr",
		Incident: "containerd #3118, #3153",
		Asserts:  "a line on stderr, written after stdout was closed, is in the file",
		Run:      with(sharedFile, "file://")},
	{ID: "B54", Name: "logger that is never ready",
		Incident: "containerd #12595, #4502, #4162: Create and the API hang",
		Asserts:  "State answers meanwhile, Create fails within 20 s, nothing is left",
		Run:      loggerNeverReady},
	{ID: "B54b", Name: "logger that dies",
		Incident: "containerd #4195: the container's output goes nowhere",
		Asserts:  "the container lives; Kill and Delete work",
		Run:      loggerDies},
	{ID: "B54c", Name: "logger that does not end",
		Incident: "containerd #4195: Delete waits 12 s with the process locked",
		Asserts:  "State answers while Delete runs, Delete ends within 20 s",
		Run:      loggerStays},
	{ID: "B55", Name: "runc create fails with a logger",
		Incident: "containerd #11885: the logger process is left behind",
		Asserts:  "3 s after Create failed the logger is gone",
		Run:      loggerAfterFailure},
	{ID: "B56", Name: "logger without a namespace in the request",
		Incident: "found beside containerd #12595: `namespace is required` below a daemon up to 1.2",
		Asserts:  "Create succeeds, the logger gets the namespace of the shim and the container's output",
		Run:      loggerNamespace},
}

func sharedFile(c *harness.Case, scheme string) {
	b := c.Fixture(harness.Options{Container: harness.Container{Args: []string{"echo:one", "close:1", "sleep:500ms", "eprint:two", "sleep"}}})
	path := b.Path("log")
	c.Need(os.WriteFile(path, nil, 0o600), "make file")
	b.UpWith(harness.IO{Stdout: scheme + path, Stderr: scheme + path})
	text := func() string {
		data, _ := os.ReadFile(path)
		return string(data)
	}
	if wait.For(5*time.Second, "", func() bool { return strings.Contains(text(), "two\n") }) != nil {
		c.Errorf("the file has %q, want one and two", text())
	}
	if !strings.Contains(text(), "one\n") {
		c.Errorf("the file has %q, want one and two", text())
	}
}

// logged creates the container with its output going to a logger of the kind mode.
func logged(b *harness.Fixture, mode string) error {
	uri := b.Logger(mode)
	r, err := b.Within(time.Minute).CreateTask(b.CreateRequest(harness.IO{Stdout: uri, Stderr: uri}))
	if err == nil {
		b.InitPid = int(r.GetPid())
	}
	return err
}

// loggerPid waits until the logger runs, and returns its pid.
func loggerPid(c *harness.Case, b *harness.Fixture) int {
	path := filepath.Join(b.LoggerDir(), "pid")
	c.Await(5*time.Second, "the logger runs", func() bool { _, err := os.Stat(path); return err == nil })
	return readPid(c, path)
}

func loggerNeverReady(c *harness.Case) {
	b := c.Fixture(harness.Options{})
	create := client.Async("Create", func() error { return logged(b, "never") })
	pid := loggerPid(c, b)
	answersOrNotFound(c, b, b.ID)
	if err := create.Await(loggerBound); c.Prompt(err) == nil {
		c.Errorf("Create succeeded although the logger is not ready")
	}
	b.Gone(5*time.Second, "the logger", pid)
	if b.RuncHas() {
		c.Errorf("runc has the container")
	}
	lives(c, b) // Create fails with the connection, too
}

func loggerDies(c *harness.Case) {
	b := c.Fixture(harness.Options{Container: harness.Container{Args: []string{"gate:/go", "echo:text", "sleep"}}})
	gate := b.Gate("go")
	c.Must(logged(b, "die"), "Create")
	b.MustStart(b.ID)
	b.Gone(5*time.Second, "the logger", loggerPid(c, b))
	open(c, gate)
	elapse(time.Second)
	if !procfs.Alive(b.InitPid) {
		c.Errorf("the container is dead")
	}
	b.Die()
	_, err := b.Within(loggerBound).Delete()
	c.Must(err, "Delete")
}

func loggerStays(c *harness.Case) {
	b := c.Fixture(harness.Options{})
	c.Must(logged(b, "stay"), "Create")
	pid := loggerPid(c, b)
	c.OwnPid(pid)
	b.MustStart(b.ID)
	b.Die()
	del := client.Async("Delete", func() error { _, err := b.Within(time.Minute).Delete(); return err })
	_ = wait.For(500*time.Millisecond, "", del.Done)
	answersOrNotFound(c, b, b.ID)
	c.Must(del.Await(loggerBound), "Delete")
	b.Gone(loggerBound, "the logger", pid)
}

// loggerAfterFailure tries three times, because a garbage collection that happens to
// come closes the pipes of a logger that upstream has forgotten, and so ends it.
func loggerAfterFailure(c *harness.Case) {
	for range 3 {
		b := faked(c, on("create", logs("no"), exits(1)))
		if c.Prompt(logged(b, "copy")) == nil {
			c.Errorf("Create succeeded although runc failed")
		}
		b.Gone(3*time.Second, "the logger", loggerPid(c, b))
		lives(c, b) // Create fails with the connection, too
	}
}

func loggerNamespace(c *harness.Case) {
	b := c.Fixture(harness.Options{Container: harness.Container{Args: []string{"echo:text", "sleep"}}})
	b.Namespace = ""
	c.Must(logged(b, "copy"), "Create without a namespace in the request")
	b.MustStart(b.ID)
	env, err := os.ReadFile(filepath.Join(b.LoggerDir(), "env"))
	c.Must(err, "the logger's environment")
	if !strings.Contains(string(env), "CONTAINER_NAMESPACE=shimverify") || !strings.Contains(string(env), "CONTAINER_ID="+b.ID) {
		c.Errorf("environment of the logger %q, want CONTAINER_ID=%s and CONTAINER_NAMESPACE=shimverify", env, b.ID)
	}
	c.Await(5*time.Second, "the logger has the output", func() bool {
		data, _ := os.ReadFile(filepath.Join(b.LoggerDir(), "out"))
		return string(data) == "text\n"
	})
}
