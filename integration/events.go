// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/api/events"
	"google.golang.org/protobuf/proto"
)

// Event is a task exit that the fake daemon has taken.
type Event struct {
	Way       string // ttrpc, grpc or publish
	Topic     string
	Namespace string
	Received  time.Time
	Exit      *events.TaskExit
}

func (e Event) String() string {
	return fmt.Sprintf("%s by %s: id %s pid %d status %d", e.Topic, e.Way, e.Exit.GetID(), e.Exit.GetPid(), e.Exit.GetExitStatus())
}

// Mood is how the fake daemon takes an attempt to give it an event.
type Mood int

// The moods.
const (
	Accept Mood = iota
	Refuse      // the attempt fails at once
	Hang        // the attempt gets no answer until the mood changes
)

// inbox decides on attempts and keeps the events that were taken.
type inbox struct {
	mu       sync.Mutex // guards the following
	mood     Mood
	left     int           // how many attempts the mood is for; negative: all
	changed  chan struct{} // closed and replaced when the mood changes
	events   []Event
	attempts int
}

func newInbox() *inbox { return &inbox{changed: make(chan struct{})} }

func (b *inbox) set(m Mood, attempts int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mood, b.left = m, attempts
	close(b.changed)
	b.changed = make(chan struct{})
}

// attempt takes an event or refuses it; gone ends a hanging attempt whose
// sender went away.
func (b *inbox) attempt(e Event, gone <-chan struct{}) error {
	b.mu.Lock()
	b.attempts++
	mood := b.mood
	if mood != Accept && b.left > 0 {
		if b.left--; b.left == 0 {
			b.mood = Accept
		}
	}
	changed := b.changed
	b.mu.Unlock()
	switch mood {
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

// decodeExit makes an Event of an event's encoded form.
func decodeExit(way, topic, namespace, url string, value []byte) (Event, error) {
	e := Event{Way: way, Topic: topic, Namespace: namespace, Exit: &events.TaskExit{}}
	if url != "containerd.events.TaskExit" {
		return e, fmt.Errorf("event of type %q", url)
	}
	return e, proto.Unmarshal(value, e.Exit)
}
