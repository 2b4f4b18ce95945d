// SPDX-License-Identifier: Apache-2.0

package dump

import "strings"

// Role is what a goroutine does in a shim.
type Role string

// The roles that matter to a deadlock.
const (
	RoleOther     Role = ""
	RoleReaper    Role = "reaper"    // the only one that can deliver an exit
	RoleNotifier  Role = "notifier"  // hands one exit to every subscriber, since v1.2.8
	RoleExitLoop  Role = "exit loop" // the service's subscriber: matches exits to processes
	RolePublisher Role = "publisher" // sends events to the daemon
	RoleHandler   Role = "rpc"       // serves one request
)

// Need is what a goroutine waits for.
type Need string

// What a goroutine of a shim can wait for.
const (
	NeedNothing     Need = ""
	NeedSend        Need = "a place in a subscriber's channel"
	NeedSendTimed   Need = "a place in a subscriber's channel, one second for each exit"
	NeedEventQueue  Need = "a place in the event queue"
	NeedServiceLock Need = "the service's mutex"
	NeedInitLock    Need = "the init process's mutex"
	NeedExecLock    Need = "the exec process's mutex"
	NeedReaperLock  Need = "the reaper's lock"
	NeedLogLock     Need = "the logger's mutex"
	NeedRunc        Need = "runc to exit"
	NeedPublish     Need = "the publisher's process to exit"
	NeedDrain       Need = "the end of the process's output"
	NeedFIFO        Need = "somebody to open the other end of a FIFO"
	NeedGate        Need = "its turn at the process's gate" // ours: verbs of one process, one by one
	NeedLogWrite    Need = "room in the log FIFO"
)

// Actor is a goroutine with its part in a shim.
type Actor struct {
	*Goroutine
	Role Role
	RPC  string // the method it serves, for RoleHandler
	// Serves is true for the goroutine that took the request; others work for it
	// and have only inherited its labels.
	Serves bool
	Need   Need
	Verb   string // the runc command it waits for, for NeedRunc
}

// actorOf tells a goroutine's role and need from the functions on its stack.
// The names are upstream's, v1.0 to v1.7 and the runc-v2 shim's, and ours.
func actorOf(g *Goroutine) Actor {
	a := Actor{Goroutine: g}
	a.role()
	a.need()
	return a
}

func (a *Actor) role() {
	switch {
	case a.on("reaper.Reap", "runtime/v1/shim.Reap", "linux/shim.Reap"):
		a.Role = RoleReaper
	case a.on(".(*Monitor).notify"):
		a.Role = RoleNotifier
	case a.on(").processExits", ").checkProcesses"):
		a.Role = RoleExitLoop
	case a.on("EventsPublisher).Publish", ").forward"):
		a.Role = RolePublisher
	default:
		if a.RPC = a.method(); a.RPC != "" {
			a.Role = RoleHandler
		}
	}
}

// method is the exported method of the task service on the stack, or the
// label that this project's shim puts on its handlers and whatever they start.
func (a *Actor) method() string {
	for _, f := range a.Frames {
		for _, owner := range []string{".(*Service).", ".(*service)."} {
			_, name, ok := strings.Cut(f.Func, owner)
			if !ok || name == "" || name[0] < 'A' || name[0] > 'Z' {
				continue
			}
			name, _, _ = strings.Cut(name, ".")
			a.Serves = true
			return name
		}
	}
	return a.Labels["rpc"]
}

func (a *Actor) need() {
	if need, ok := a.lock(); ok {
		a.Need = need
		return
	}
	switch {
	case a.Role == RoleReaper || a.Role == RoleNotifier:
		switch a.State {
		case "chan send":
			a.Need = NeedSend
		case "select":
			a.Need = NeedSendTimed
		}
	case a.State == "running" || a.State == "runnable":
	case a.on("logrus.(*Entry).") && a.on("os.(*File).Write"):
		a.Need = NeedLogWrite
	case a.on("EventsPublisher).Publish"):
		a.Need = NeedPublish
	case a.runc() != "":
		a.Need, a.Verb = NeedRunc, a.runc()
	case a.on("containerd-shim/proc.gate.enter"):
		a.Need = NeedGate
	case a.State == "chan send" && a.on(".(*Service).", ".(*service)."):
		a.Need = NeedEventQueue
	case a.Role != RoleHandler || a.RPC == "Wait":
	case a.on("fifo.OpenFifo") || a.on("os.OpenFile") && a.on(".copyPipes", ".newPipe"):
		a.Need = NeedFIFO
	case a.on("sync.(*WaitGroup).Wait", ".waitTimeout"):
		a.Need = NeedDrain
	}
}

// lock names the mutex that the innermost calls wait for by the function that
// asked for it: the runtime prints addresses only where it still has them.
func (a *Actor) lock() (Need, bool) {
	waiting := false
	for i, f := range a.Frames {
		name := f.Func
		if strings.HasPrefix(name, "sync.") || strings.HasPrefix(name, "internal/sync.") ||
			strings.HasPrefix(name, "runtime.") {
			waiting = waiting || strings.Contains(name, "Mutex")
			if i < 8 {
				continue
			}
		}
		if !waiting {
			return "", false
		}
		switch {
		case strings.Contains(name, ".(*Service)."), strings.Contains(name, ".(*service)."):
			return NeedServiceLock, true
		case strings.Contains(name, "xecProcess)"), strings.Contains(name, "exec"),
			strings.Contains(name, "pidLocker"), strings.Contains(name, "safePid"):
			return NeedExecLock, true
		case strings.Contains(name, ".(*Init)."), strings.Contains(name, "State)."):
			return NeedInitLock, true
		case strings.Contains(name, ".(*Monitor)."), strings.Contains(name, "eaper."),
			strings.HasSuffix(name, "shim.Reap"), strings.Contains(name, ".(*subscriber)."):
			return NeedReaperLock, true
		case strings.Contains(name, "logrus."):
			return NeedLogLock, true
		}
		return Need("a mutex in " + name), true
	}
	return "", false
}

// runc is the runc command that the goroutine runs or waits for.
func (a *Actor) runc() string {
	for _, f := range a.Frames {
		if _, name, ok := strings.Cut(f.Func, "go-runc.(*Runc)."); ok && name != "" && name[0] >= 'A' && name[0] <= 'Z' {
			name, _, _ = strings.Cut(name, ".")
			return "runc " + strings.ToLower(name)
		}
	}
	return ""
}

// on is true when one of the parts occurs in a function on the stack.
func (a *Actor) on(parts ...string) bool {
	for _, f := range a.Frames {
		for _, p := range parts {
			if strings.Contains(f.Func, p) {
				return true
			}
		}
	}
	return false
}

// Is the name of an actor for a reader: "rpc Kill", "exit loop".
func (a *Actor) name() string {
	switch a.Role {
	case RoleHandler:
		if id := a.Labels["id"]; id != "" {
			return "rpc " + a.RPC + " of " + id
		}
		return "rpc " + a.RPC
	case RoleOther:
		if len(a.Frames) > 0 {
			return a.Frames[len(a.Frames)-1].Func
		}
		return "goroutine"
	}
	return string(a.Role)
}
