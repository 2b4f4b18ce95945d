// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Topics of the events that are of interest here.
const (
	TopicExit        = "/tasks/exit"
	TopicExecStarted = "/tasks/exec-started"
	topicNamespace   = "/namespaces/update"
)

// fenceLimit bounds the time that an event takes through containerd.
const fenceLimit = 20 * time.Second

// Event is one line of `ctr events`.
type Event struct {
	Namespace   string            `json:"-"`
	Topic       string            `json:"-"`
	ContainerID string            `json:"container_id"`
	ID          string            `json:"id"`      // of an exit: the exec's id, or the container's for its init
	ExecID      string            `json:"exec_id"` // of a started exec
	Pid         uint32            `json:"pid"`
	ExitStatus  uint32            `json:"exit_status"`
	Labels      map[string]string `json:"labels"` // of a namespace
}

// Events collects what `ctr events` prints, in order.
type Events struct {
	rig  *Rig
	cmd  *exec.Cmd
	done chan struct{} // closed when the output has ended

	mu     sync.Mutex
	list   []Event
	bad    []string      // lines that are not events
	grown  chan struct{} // closed and replaced whenever list grows
	fences int
}

// Watch starts `ctr events` and returns once it receives events. The caller must
// Close.
func (r *Rig) Watch(ctx context.Context) (*Events, error) {
	cmd := r.Ctr(ctx, "events")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	e := &Events{rig: r, cmd: cmd, done: make(chan struct{}), grown: make(chan struct{})}
	go e.read(out)
	if err := e.Fence(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// Close ends `ctr events` and waits for it.
func (e *Events) Close() {
	_ = e.cmd.Process.Kill() // it may have ended by itself
	<-e.done
	_ = e.cmd.Wait() // it was killed
}

func (e *Events) read(out io.Reader) {
	defer close(e.done)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		event, err := parseEvent(lines.Text())
		e.mu.Lock()
		if err != nil {
			e.bad = append(e.bad, err.Error())
		} else {
			e.list = append(e.list, event)
		}
		close(e.grown)
		e.grown = make(chan struct{})
		e.mu.Unlock()
	}
}

// parseEvent parses a line: DATE TIME ZONE ZONE NAMESPACE TOPIC JSON.
func parseEvent(line string) (Event, error) {
	f := strings.SplitN(line, " ", 7)
	if len(f) != 7 {
		return Event{}, fmt.Errorf("not an event: %q", line)
	}
	event := Event{Namespace: f[4], Topic: f[5]}
	if !strings.HasPrefix(f[5], "/tasks/") && f[5] != topicNamespace {
		return event, nil
	}
	if err := json.Unmarshal([]byte(f[6]), &event); err != nil {
		return Event{}, fmt.Errorf("event %q: %w", line, err)
	}
	return event, nil
}

// Wait waits until match holds for the events so far. It returns an error if that is
// not so within limit.
func (e *Events) Wait(limit time.Duration, match func([]Event) bool) error {
	over := time.After(limit)
	for {
		e.mu.Lock()
		list, bad, grown := e.list[:len(e.list):len(e.list)], e.bad, e.grown
		e.mu.Unlock()
		if len(bad) > 0 {
			return fmt.Errorf("ctr events: %s", strings.Join(bad, "; "))
		}
		if match(list) {
			return nil
		}
		select {
		case <-grown:
		case <-e.done:
			return fmt.Errorf("ctr events ended after %d events", len(list))
		case <-over:
			return fmt.Errorf("the expected event did not come within %v; %d events did", limit, len(list))
		}
	}
}

// Fence makes an event of its own and waits for it. Whatever containerd has accepted
// before is then in the list, so that an event that is not there has not come.
func (e *Events) Fence(ctx context.Context) error {
	e.mu.Lock()
	e.fences++
	label := fmt.Sprintf("%p-%d", e, e.fences)
	e.mu.Unlock()
	seen := func(list []Event) bool {
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].Topic == topicNamespace && list[i].Labels["fence"] == label {
				return true
			}
		}
		return false
	}
	deadline := time.Now().Add(fenceLimit)
	for {
		if _, err := output(e.rig.Ctr(ctx, "namespaces", "label", e.rig.Name, "fence="+label)); err != nil {
			return err
		}
		// A subscription that is not served yet misses the event.
		err := e.Wait(time.Second, seen)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// Exits returns the exit events of one container, in order of arrival.
func (e *Events) Exits(container string) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var exits []Event
	for _, ev := range e.list {
		if ev.Topic == TopicExit && ev.ContainerID == container {
			exits = append(exits, ev)
		}
	}
	return exits
}
