// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"strings"
	"time"

	"containerd-shim.v1/integration/harness"
	"containerd-shim.v1/integration/harness/fakeruntime"
)

var runcErrorChecks = []Check{
	{ID: "B41", Name: "runc fails without a word after a failure with one",
		Incident: "containerd #11862: the error is that of an earlier container command",
		Asserts:  "the second error does not repeat the text of the first",
		Run:      staleError},
	{ID: "B41b", Name: "two execs fail at the same time",
		Incident: "containerd #11862",
		Asserts:  "each error has the text of its own runc",
		Run:      crossedErrors},
	{ID: "B41c", Name: "a broken line in runc's log",
		Incident: "found beside containerd #11862: one bad line hides every later error",
		Asserts:  "the error still has the text of the failing runc",
		Run:      brokenLog},
	{ID: "B47", Name: "runc kill says that the container is gone",
		Incident: "containerd #3672, #4214: docker stop fails with an unknown error after kill",
		Asserts:  "NotFound for each of the texts that runc and crun use, another text is passed on",
		Run:      killTexts},
}

func staleError(c *harness.Case) {
	b := faked(c, failing("/a.pid", "exec of marker-a: no such file"),
		on("exec", exits(42)))
	b.Up()
	if err := failExec(c, b, "a"); !strings.Contains(err.Error(), "marker-a") {
		c.Errorf("error of a: %v, want runc's text in it", err)
	}
	if err := failExec(c, b, "b"); strings.Contains(err.Error(), "marker-a") {
		c.Errorf("error of b: %v, which is a's", err)
	}
}

func crossedErrors(c *harness.Case) {
	slow := func(id string) fakeruntime.Rule {
		r := failing("/"+id+".pid", "exec of marker-"+id+": no such file")
		r.Steps = []fakeruntime.Step{r.Steps[0], {Op: fakeruntime.Gate, Name: id}, r.Steps[1]}
		return r
	}
	b := upFaked(c, slow("a"), slow("b"))
	a, bb := startAtGate(c, b, "a", "a", "exit:0"), startAtGate(c, b, "b", "b", "exit:0")
	open(c, b.Fake.Gate("a"))
	open(c, b.Fake.Gate("b"))
	errA, errB := c.Prompt(a.Await(10*time.Second)), c.Prompt(bb.Await(10*time.Second))
	for id, err := range map[string]error{"a": errA, "b": errB} {
		if err == nil || !strings.Contains(err.Error(), "marker-"+id) {
			c.Errorf("error of %s: %v, want its own runc's text in it", id, err)
		}
	}
}

func brokenLog(c *harness.Case) {
	r := failing("", "exec of marker-a: no such file")
	r.Steps = append([]fakeruntime.Step{{Op: fakeruntime.RawLog, Text: "{not json\n"}}, r.Steps...)
	b := upWith(c, harness.Options{Fake: []fakeruntime.Rule{r}})
	if err := failExec(c, b, "a"); !strings.Contains(err.Error(), "marker-a") {
		c.Errorf("error: %v, want runc's text in it", err)
	}
}

func killTexts(c *harness.Case) {
	gone := []string{
		"os: process already finished",
		"container not running",
		"signaling init process caused: no such process",
		"container \"x\" does not exist",
		"kill container `x`: No such process", // crun
	}
	b := upFaked(c)
	play := func(text string) {
		c.Need(b.Fake.Play(on("kill", logs(text), exits(1, text))), "play")
	}
	for _, text := range gone {
		play(text)
		wantCode(c, "Kill when runc says "+text, b.Kill(b.ID, 10, false), notFound)
	}
	const other = "the moon is in the wrong phase"
	play(other)
	err := c.Prompt(b.Kill(b.ID, 10, false))
	if err == nil || code(err) == notFound || !strings.Contains(err.Error(), other) {
		c.Errorf("Kill when runc says %q: %v, want an error with that text that is not NotFound", other, err)
	}
}
