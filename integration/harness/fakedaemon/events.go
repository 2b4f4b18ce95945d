// SPDX-License-Identifier: Apache-2.0

package fakedaemon

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/events"
	"google.golang.org/protobuf/proto"
)

// Event is a task's event that the fake daemon has taken.
type Event struct {
	Way       string // ttrpc, grpc or publish
	Topic     string
	Namespace string
	Received  time.Time
	Container string           // the container's id
	ID        string           // of the process it is about: an exec, or the container
	Exit      *events.TaskExit // nil: it is none
}

func (e Event) String() string {
	return fmt.Sprintf("%s by %s: id %s pid %d status %d", e.Topic, e.Way, e.Exit.GetID(), e.Exit.GetPid(), e.Exit.GetExitStatus())
}

// Behaviour is how the fake daemon reacts to an attempt to deliver an event.
type Behaviour int

// The behaviours.
const (
	Accept Behaviour = iota
	Refuse           // the attempt fails at once
	Hang             // the attempt gets no answer until the behaviour changes
)

// inbox decides on attempts and keeps the events that were taken.
type inbox struct {
	mu       sync.Mutex // guards the following
	is       Behaviour
	left     int           // how many attempts that is for; negative: all
	changed  chan struct{} // closed and replaced when the behaviour changes
	events   []Event       // exits and others, as they came
	attempts int
}

func newInbox() *inbox { return &inbox{changed: make(chan struct{})} }

func (b *inbox) set(as Behaviour, attempts int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.is, b.left = as, attempts
	close(b.changed)
	b.changed = make(chan struct{})
}

// attempt takes an exit or refuses it, and takes every other event; gone ends a hanging attempt whose
// sender went away.
func (b *inbox) attempt(e Event, gone <-chan struct{}) error {
	b.mu.Lock()
	if e.Exit == nil {
		defer b.mu.Unlock()
		e.Received = time.Now()
		b.events = append(b.events, e)
		return nil
	}
	b.attempts++
	is := b.is
	if is != Accept && b.left > 0 {
		if b.left--; b.left == 0 {
			b.is = Accept
		}
	}
	changed := b.changed
	b.mu.Unlock()
	switch is {
	case Hang:
		select {
		case <-changed:
		case <-gone:
		}
		return fmt.Errorf("the fake daemon was told to hang")
	case Refuse:
		return fmt.Errorf("the fake daemon was told to refuse")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e.Received = time.Now()
	b.events = append(b.events, e)
	return nil
}

func (b *inbox) all() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

func (b *inbox) tried() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.attempts
}

// decode makes an Event of an event's encoded form. The container's id is the first field
// of all events of tasks.
func decode(way, topic, namespace, url string, value []byte) (Event, error) {
	e := Event{Way: way, Topic: topic, Namespace: namespace}
	var oom events.TaskOOM // has nothing but that
	err := proto.Unmarshal(value, &oom)
	e.Container, e.ID = oom.GetContainerID(), oom.GetContainerID()
	switch {
	case url == "containerd.events.TaskExit":
		e.Exit = &events.TaskExit{}
		err = proto.Unmarshal(value, e.Exit)
		e.ID = e.Exit.GetID()
	case url == "containerd.events.TaskExecAdded", url == "containerd.events.TaskExecStarted":
		var exec events.TaskExecAdded // the other one has a pid besides
		err = proto.Unmarshal(value, &exec)
		e.ID = exec.GetExecID()
	case !strings.HasPrefix(url, "containerd.events.Task"):
		err = fmt.Errorf("event of type %q", url)
	}
	return e, err
}
