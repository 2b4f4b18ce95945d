// SPDX-License-Identifier: Apache-2.0

package dump

import "time"

// kill is the only cure of a shim that can no longer reap.
const kill = "It does not resolve. Keep the dump, then `shimctl repair` this shim: SIGKILL of the shim while its containerd " +
	"runs ends the container (exit 137) and reaps everything below it; SIGTERM is not read any more, and a restart of containerd does not help."

// name sets bug, reason, title and advice from the kind of the chain. ring says
// that the chain is closed.
func (f *Finding) name(chain []*Actor, ring bool) {
	has := func(role Role, needs ...Need) bool {
		for _, a := range chain {
			for _, n := range needs {
				if (role == RoleOther || a.Role == role) && a.Need == n {
					return true
				}
			}
		}
		return false
	}
	end := chain[len(chain)-1]
	switch {
	case ring && has(RolePublisher, NeedPublish) && has("", NeedSend):
		f.is("B05", "PublisherDeadlock", Deadlock, "the event queue is full behind a publish whose exit cannot be delivered", kill)
	case ring && has(RoleReaper, NeedSend):
		f.is("B01", "ReaperDeadlock", Deadlock, "the reaper waits, holding its lock, for a consumer that waits for the reaper",
			kill+" More than 32 exits at one moment are enough to bring it back: update the shim.")
	case ring && has(RoleExitLoop, NeedRunc) && has("", NeedSendTimed):
		f.is("B03", "KillAllStall", Stall, "the exit loop runs runc kill --all itself, and that runc's exit queues behind the others",
			"One second for each queued exit, minutes in all; it ends by itself. Do not kill the shim for it; update it.")
	case ring && has("", NeedSendTimed):
		f.is("B02", "ReaperStall", Stall, "each exit waits a second for a consumer that waits for a later exit",
			"One second for each queued exit, minutes in all; it ends by itself unless exits were dropped: take a second dump after five minutes. Update the shim.")
	case ring:
		f.is("", "Deadlock", Deadlock, "goroutines wait for each other in a ring", kill)
	case end.Need == NeedSend:
		f.is("B01", "ReaperBlocked", Stall, "the reaper holds its lock over a full channel; who should drain it is not in this dump",
			"Take a second dump: if the same goroutine still sends, it is the deadlock B01.")
	case end.Need == NeedSendTimed:
		f.is("B02", "ReaperSlow", Note, "the reaper waits up to a second for a consumer", "Normal for a moment under load; take a second dump.")
	case end.Need == NeedRunc && has(RoleExitLoop, NeedExecLock):
		f.is("B07", "ExecStartBlocksExits", Stall, "exits are not matched while a runc of a starting exec runs", hungRunc)
	case end.Need == NeedRunc && has("", NeedServiceLock):
		f.is("B06", "RuncHoldsService", Stall, "every request waits for one runc", hungRunc)
	case end.Need == NeedRunc && has("", NeedInitLock, NeedExecLock, NeedGate):
		f.is("B08", "RuncHoldsProcess", Stall, "requests on one process wait for its runc", hungRunc)
	case end.Need == NeedRunc:
		f.is("B08", "RuncRunning", Note, "a runc has not returned yet", hungRunc)
	case end.Need == NeedPublish:
		f.is("B05", "PublishBlocked", Note, "an event is being published and has not been taken yet",
			"See whether containerd answers. A `containerd publish` that hangs can be killed: that event is lost, the later ones come.")
	case end.Need == NeedDrain:
		f.is("B12", "DeleteBlocked", Note, "Delete waits for the process's output to end: a child of it still holds the pipe",
			"Find the holder of the pipe (`ls -l /proc/*/fd` for the same inode) and end it, or wait: newer shims give up after 2 or 10 seconds.")
	case end.Need == NeedFIFO:
		f.is("B25", "FifoWithoutReader", Note, "the shim opens a stdio FIFO that nobody reads: its client has gone away",
			"Open the FIFO for reading (`cat FIFO >/dev/null &`): the call goes on at once. Shims before v1.2.2 wait for ever.")
	case end.Need == NeedLogWrite || end.Need == NeedLogLock:
		f.is("B29", "LogBlocked", Stall, "the log FIFO is full, and its reader gone: whoever logs stops",
			"Start containerd, or drain the FIFO: `timeout 1 cat <workdir>/shim.stdout.log >/dev/null`.")
	default:
		f.is("", "Blocked", Note, "goroutines wait for "+string(end.Need), "No known bug. Take a second dump and compare.")
	}
}

const hungRunc = "The cause is below the shim: `ps --ppid <shim pid>`, look at the runc (`/proc/PID/stack`, `wchan`), a hook or a mount that hangs. " +
	"End that process, not the shim."

func (f *Finding) is(bug, reason string, grade Grade, title, advice string) {
	f.Bug, f.Reason, f.Grade, f.Title, f.Advice = bug, reason, grade, title, advice
}

// regrade makes a stall of a note that others wait behind, or that lasts: a
// runc at work for a moment is no finding at all.
func (f *Finding) regrade() {
	if f.Grade == Note && (len(f.Behind) > 0 || f.Since >= time.Minute) && f.Reason != "Blocked" {
		f.Grade = Stall
	}
}
