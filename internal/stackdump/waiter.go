// SPDX-License-Identifier: Apache-2.0

package stackdump

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

// BlockedOn is what a goroutine waits for; the text is for the reader of a report.
type BlockedOn string

// What a goroutine of a shim can wait for.
const (
	BlockedOnNothing     BlockedOn = ""
	BlockedOnSend        BlockedOn = "a place in a subscriber's channel"
	BlockedOnSendTimed   BlockedOn = "a place in a subscriber's channel, one second for each exit"
	BlockedOnEventQueue  BlockedOn = "a place in the event queue"
	BlockedOnServiceLock BlockedOn = "the service's mutex"
	BlockedOnInitLock    BlockedOn = "the init process's mutex"
	BlockedOnExecLock    BlockedOn = "the exec process's mutex"
	BlockedOnReaperLock  BlockedOn = "the reaper's lock"
	BlockedOnLogLock     BlockedOn = "the logger's mutex"
	BlockedOnRunc        BlockedOn = "runc to exit"
	BlockedOnPublish     BlockedOn = "the publisher's process to exit"
	BlockedOnDrain       BlockedOn = "the end of the process's output"
	BlockedOnFIFO        BlockedOn = "somebody to open the other end of a FIFO"
	BlockedOnVerbLock    BlockedOn = "its turn among the verbs on one process" // ours
	BlockedOnLogWrite    BlockedOn = "room in the log FIFO"
)

// Waiter is a goroutine with its part in a shim.
type Waiter struct {
	*Goroutine
	Role Role
	RPC  string // the method it serves, for RoleHandler
	// Serves reports whether it received the request itself; others work for it
	// and have only inherited its labels.
	Serves    bool
	BlockedOn BlockedOn
	Verb      string // the runc command it waits for, for BlockedOnRunc
}

// waiterOf finds a goroutine's role, and what it waits for, by the functions on its stack.
// The names are those of upstream's v1 shims (1.0 to 1.7), of the runc-v2 shim,
// and of this project's.
func waiterOf(g *Goroutine) Waiter {
	w := Waiter{Goroutine: g}
	w.role()
	w.blockedOn()
	return w
}

func (w *Waiter) role() {
	switch {
	case w.on("reaper.Reap", "runtime/v1/shim.Reap", "linux/shim.Reap"):
		w.Role = RoleReaper
	case w.on(".(*Monitor).notify"):
		w.Role = RoleNotifier
	case w.on(").processExits", ").checkProcesses"):
		w.Role = RoleExitLoop
	case w.on("EventsPublisher).Publish", ").forward"):
		w.Role = RolePublisher
	default:
		if w.RPC = w.method(); w.RPC != "" {
			w.Role = RoleHandler
		}
	}
}

// method is the exported method of the task service on the stack, or the
// label that this project's shim puts on its handlers and whatever they start.
func (w *Waiter) method() string {
	for _, f := range w.Frames {
		for _, owner := range []string{".(*Service).", ".(*service)."} {
			_, name, ok := strings.Cut(f.Func, owner)
			if !ok || name == "" || name[0] < 'A' || name[0] > 'Z' {
				continue
			}
			name, _, _ = strings.Cut(name, ".")
			w.Serves = true
			return name
		}
	}
	return w.Labels["rpc"]
}

func (w *Waiter) blockedOn() {
	if on, ok := w.lock(); ok {
		w.BlockedOn = on
		return
	}
	switch {
	case w.Role == RoleReaper || w.Role == RoleNotifier:
		switch w.State {
		case "chan send":
			w.BlockedOn = BlockedOnSend
		case "select":
			w.BlockedOn = BlockedOnSendTimed
		}
	case w.State == "running" || w.State == "runnable":
	case w.on("logrus.(*Entry).") && w.on("os.(*File).Write"):
		w.BlockedOn = BlockedOnLogWrite
	case w.on("EventsPublisher).Publish"):
		w.BlockedOn = BlockedOnPublish
	case w.runc() != "":
		w.BlockedOn, w.Verb = BlockedOnRunc, w.runc()
	case w.on("containerd-shim.v1/proc.verbLock."):
		w.BlockedOn = BlockedOnVerbLock
	case w.State == "chan send" && w.on(".(*Service).", ".(*service)."):
		w.BlockedOn = BlockedOnEventQueue
	case w.Role != RoleHandler || w.RPC == "Wait":
	case w.on("fifo.OpenFifo") || w.on("os.OpenFile") && w.on(".copyPipes", ".newPipe"):
		w.BlockedOn = BlockedOnFIFO
	case (w.RPC == "Delete" || w.RPC == "DeleteProcess") && w.on("sync.(*WaitGroup).Wait", ".waitTimeout"):
		w.BlockedOn = BlockedOnDrain
	}
}

// lock returns the mutex that the innermost calls wait for, told by the function
// that locks it: the runtime does not always print the mutex's address.
func (w *Waiter) lock() (BlockedOn, bool) {
	waiting := false
	for i, f := range w.Frames {
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
			return BlockedOnServiceLock, true
		case strings.Contains(name, "xecProcess)"), strings.Contains(name, "exec"),
			strings.Contains(name, "pidLocker"), strings.Contains(name, "safePid"):
			return BlockedOnExecLock, true
		case strings.Contains(name, ".(*Init)."), strings.Contains(name, "State)."):
			return BlockedOnInitLock, true
		case strings.Contains(name, ".(*Monitor)."), strings.Contains(name, "eaper."),
			strings.HasSuffix(name, "shim.Reap"), strings.Contains(name, ".(*subscriber)."):
			return BlockedOnReaperLock, true
		case strings.Contains(name, "logrus."):
			return BlockedOnLogLock, true
		}
		return BlockedOn("a mutex in " + name), true
	}
	return "", false
}

// runc is the runc command that the goroutine runs or waits for: go-runc's method
// in upstream's shims, the runtime's in ours.
func (w *Waiter) runc() string {
	for _, f := range w.Frames {
		for _, owner := range []string{"go-runc.(*Runc).", "containerd-shim.v1/proc.(*runcRuntime)."} {
			_, name, ok := strings.Cut(f.Func, owner)
			if ok && name != "" && name[0] >= 'A' && name[0] <= 'Z' {
				name, _, _ = strings.Cut(name, ".")
				return "runc " + strings.ToLower(name)
			}
		}
	}
	return ""
}

// on reports whether one of the parts occurs in a function on the stack.
func (w *Waiter) on(parts ...string) bool {
	for _, f := range w.Frames {
		for _, p := range parts {
			if strings.Contains(f.Func, p) {
				return true
			}
		}
	}
	return false
}

// name is what a reader sees: "rpc Kill", "exit loop".
func (w *Waiter) name() string {
	switch w.Role {
	case RoleHandler:
		if id := w.Labels["id"]; id != "" {
			return "rpc " + w.RPC + " of " + id
		}
		return "rpc " + w.RPC
	case RoleOther:
		if len(w.Frames) > 0 {
			return w.Frames[len(w.Frames)-1].Func
		}
		return "goroutine"
	}
	return string(w.Role)
}
