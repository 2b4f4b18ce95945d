// SPDX-License-Identifier: Apache-2.0

package stackdump

import "time"

// repair is the cure for a shim that can no longer reap: another program, or none.
const repair = "It does not resolve. Keep the dump, then `shimctl repair` this shim, which heals it in place where it can: the container " +
	"runs on. Else SIGKILL of the shim while its containerd runs ends the container (exit 137) and reaps everything below it; " +
	"SIGTERM is not read any more, and a restart of containerd does not help."

// name sets bug, reason, title and advice from the kind of the chain. cycle says
// that the chain is closed.
func (f *Finding) name(chain []*Waiter, cycle bool) {
	has := func(role Role, on ...BlockedOn) bool {
		for _, a := range chain {
			for _, n := range on {
				if (role == RoleOther || a.Role == role) && a.BlockedOn == n {
					return true
				}
			}
		}
		return false
	}
	end := chain[len(chain)-1]
	switch {
	case cycle && has(RolePublisher, BlockedOnPublish) && has("", BlockedOnSend):
		f.is("B05", PublisherDeadlock, Deadlock, "the event queue is full behind a publish whose exit cannot be delivered", repair)
	case cycle && has(RoleReaper, BlockedOnSend):
		f.is("B01", ReaperDeadlock, Deadlock, "the reaper waits, holding its lock, for a consumer that waits for the reaper",
			repair+" More than 32 exits at one moment are enough to bring it back: update the shim.")
	case cycle && has(RoleExitLoop, BlockedOnRunc) && has("", BlockedOnSendTimed):
		f.is("B03", "KillAllStall", Stall, "the exit loop runs runc kill --all itself, and that runc's exit queues behind the others",
			"One second for each queued exit, minutes in all; it ends by itself. Do not kill the shim for it; update it.")
	case cycle && has("", BlockedOnSendTimed):
		f.is("B02", "ReaperStall", Stall, "each exit waits a second for a consumer that waits for a later exit",
			"One second for each queued exit, minutes in all; it ends by itself unless exits were dropped: take a second dump after five minutes. Update the shim.")
	case cycle:
		f.is("", OtherDeadlock, Deadlock, "goroutines wait for each other in a cycle", repair)
	case end.BlockedOn == BlockedOnSend:
		f.isOpen("B01", "ReaperBlocked", "the reaper holds its lock over a full channel; who should drain it is not in this dump",
			"Take a second dump: if the same goroutine still sends, it is the deadlock B01.")
	case end.BlockedOn == BlockedOnSendTimed:
		f.isOpen("B02", "ReaperSlow", "the reaper waits up to a second for a consumer", "Take a second dump.")
	case end.BlockedOn == BlockedOnRunc && has(RoleExitLoop, BlockedOnExecLock):
		f.isOpen("B07", "ExecStartBlocksExits", "exits are not matched while a runc of a starting exec runs", hungRunc)
	case end.BlockedOn == BlockedOnRunc && has("", BlockedOnServiceLock):
		f.isOpen("B06", "RuncHoldsService", "every request waits for one runc", hungRunc)
	case end.BlockedOn == BlockedOnRunc && has("", BlockedOnInitLock, BlockedOnExecLock, BlockedOnVerbLock):
		f.isOpen("B08", "RuncHoldsProcess", "requests on one process wait for its runc", hungRunc)
	case end.BlockedOn == BlockedOnRunc:
		f.isOpen("B08", "RuncRunning", "a runc has not returned yet", hungRunc)
	case end.BlockedOn == BlockedOnPublish:
		f.isOpen("B05", "PublishBlocked", "an event is being published and has not been taken yet",
			"See whether containerd answers. A `containerd publish` that hangs can be killed: that event is lost, the later ones come.")
	case end.BlockedOn == BlockedOnDrain:
		f.isOpen("B12", "DeleteBlocked", "Delete waits for the process's output to end: a child of it still holds the pipe",
			"Find the holder of the pipe (`ls -l /proc/*/fd` for the same inode) and end it, or wait: newer shims give up after 2 or 10 seconds.")
	case end.BlockedOn == BlockedOnFIFO:
		f.isOpen("B25", "FifoWithoutReader", "the shim opens a stdio FIFO that nobody reads: its client has gone away",
			"Open the FIFO for reading (`cat FIFO >/dev/null &`): the call goes on at once. Shims before v1.2.2 wait for ever.")
	case end.BlockedOn == BlockedOnLogWrite || end.BlockedOn == BlockedOnLogLock:
		f.isOpen("B29", "LogBlocked", "the log FIFO is full, and its reader gone: whoever logs stops",
			"Start containerd, or drain the FIFO: `timeout 1 cat <workdir>/shim.stdout.log >/dev/null`.")
	default:
		f.isOpen("", "Blocked", "goroutines wait for "+string(end.BlockedOn), "No known bug. Take a second dump and compare.")
	}
}

const hungRunc = "The cause is below the shim: `ps --ppid <shim pid>`, look at the runc (`/proc/PID/stack`, `wchan`), a hook or a mount that hangs. " +
	"End that process, not the shim."

func (f *Finding) is(bug, reason string, grade Grade, title, advice string) {
	f.Bug, f.Reason, f.Grade, f.Title, f.Advice = bug, reason, grade, title, advice
}

// isOpen names a chain that ends outside the shim, or where the dump says no more.
// One that has lasted a minute is a stall; under load a healthy shim shows all of
// them for a moment.
func (f *Finding) isOpen(bug, reason, title, advice string) {
	grade := Note
	if f.Since >= time.Minute { // the runtime prints no shorter time
		grade = Stall
	}
	f.is(bug, reason, grade, title, advice)
}
