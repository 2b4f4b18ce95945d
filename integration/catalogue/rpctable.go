// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"time"

	"google.golang.org/grpc/codes"

	"containerd-shim.v1/integration/harness"
)

// rpcStates are the states, and how every call is answered in them.
var rpcStates = []rpcState{
	{"R1", "no container", func(*harness.Case, *harness.Fixture) {}, []rpc{
		ofInit(unknown, "State", stateOf), ofInit(unknown, "Start", start), absent("Delete", del),
		ofExec(gone, "DeleteProcess", delProc), absent("ListPids", list), absent("Pause", pause),
		absent("Resume", resume), absent("Checkpoint", checkpoint), ofInit(gone, "Kill", kill9),
		absent("Exec", execNew), ofInit(unknown, "ResizePty", resize), ofInit(unknown, "CloseIO", closeIO),
		absent("Update", update), ofInit(gone, "Wait", waitFor), ofInit(yes, "ShimInfo", info),
		{"Create", (*harness.Fixture).Create, yes, yes},
	}},
	{"R2", "created", func(c *harness.Case, b *harness.Fixture) { c.Must(b.Create(), "Create") }, []rpc{
		state("", "CREATED"), ofV1(ofInit(classes{codes.InvalidArgument}, "DeleteProcess", delProc)), ofInit(yes, "ListPids", list),
		ofInit(refused, "Pause", pause), ofInit(refused, "Resume", resume), ofInit(refused, "Checkpoint", checkpoint),
		ofInit(yes, "ResizePty", resize), ofInit(yes, "CloseIO", closeIO), ofInit(yes, "Update", update),
		ofInit(yes, "ShimInfo", info), blocks(""), ofInit(yes, "Exec", execNew), ofInit(yes, "Start", start),
	}},
	{"R3", "running", func(c *harness.Case, b *harness.Fixture) { b.Up() }, []rpc{
		state("", "RUNNING"), ofInit(refused, "Start", start), ofInit(refused, "Delete", del),
		ofV1(ofInit(classes{codes.InvalidArgument}, "DeleteProcess", delProc)), ofInit(yes, "ListPids", list),
		ofInit(refused, "Resume", resume), ofInit(yes, "Checkpoint", checkpoint), ofInit(yes, "ResizePty", resize),
		ofInit(yes, "CloseIO", closeIO), ofInit(yes, "Update", update), ofInit(yes, "ShimInfo", info), blocks(""),
		ofV1(ofInit(classes{exists}, "Exec with init's id", execOld)), ofInit(yes, "Exec", execNew),
		ofInit(yes, "Pause", pause), ofInit(yes, "Resume", resume), ofInit(yes, "Kill", kill9),
	}},
	{"R4", "paused", func(c *harness.Case, b *harness.Fixture) { b.Up(); c.Must(b.Pause(), "Pause") }, []rpc{
		state("", "PAUSED"), ofInit(refused, "Start", start), ofInit(refused, "Delete", del), ofInit(refused, "Pause", pause),
		ofInit(refused, "Exec", execNew), ofInit(yes, "ListPids", list), ofInit(yes, "Checkpoint", checkpoint),
		ofInit(yes, "ResizePty", resize), ofInit(yes, "CloseIO", closeIO), ofInit(yes, "Update", update),
		ofInit(yes, "ShimInfo", info), blocks(""), ofInit(yes, "Kill", killUSR1), ofInit(yes, "Resume", resume),
	}},
	{"R5", "stopped", stopInit, []rpc{
		state("", "STOPPED"), ofInit(refused, "Start", start), ofInit(refused, "Pause", pause), ofInit(refused, "Resume", resume),
		ofInit(refused, "Checkpoint", checkpoint), ofInit(refused, "Update", update), ofInit(refused, "Exec", execNew),
		ofInit(classes{notFound}, "Kill", kill9), ofInit(yes, "ResizePty", resize), ofInit(yes, "CloseIO", closeIO),
		ofInit(yes, "Wait", waitFor), ofInit(yes, "ShimInfo", info), ofInit(yes, "Delete", del),
	}},
	{"R6", "deleted", func(c *harness.Case, b *harness.Fixture) {
		stopInit(c, b)
		c.Must(del(b, ""), "Delete")
	}, []rpc{
		ofInit(append(unknown, codes.OK), "State", stateOf), ofInit(gone, "Start", start), ofInit(append(gone, codes.OK), "Delete", del),
		ofInit(gone, "Kill", kill9), ofInit(gone, "Pause", pause), ofInit(gone, "Resume", resume), ofInit(gone, "Exec", execNew),
		ofInit(gone, "Update", update), ofInit(gone, "Checkpoint", checkpoint), ofInit(gone, "ListPids", list),
		ofInit(unknown, "ResizePty", resize), ofInit(unknown, "CloseIO", closeIO), ofInit(again, "Wait", waitFor),
		ofInit(yes, "ShimInfo", info),
	}},
	{"R7", "exec created", func(c *harness.Case, b *harness.Fixture) {
		b.Up()
		c.Must(b.Exec("e", harness.IO{}, "sleep"), "Exec")
	}, []rpc{
		state("e", "CREATED"), ofExec(refused, "Kill", kill9), ofExec(yes, "ResizePty", resize), ofExec(yes, "CloseIO", closeIO),
		ofExec(classes{exists}, "Exec with its id", execOld), blocks("e"), ofExec(yes, "Start", start),
	}},
	{"R8", "exec running", func(c *harness.Case, b *harness.Fixture) {
		b.Up()
		b.MustExec("e", harness.IO{}, "sleep")
	}, []rpc{
		state("e", "RUNNING"), ofExec(refused, "Start", start), ofExec(refused, "DeleteProcess", delProc),
		ofExec(classes{exists}, "Exec with its id", execOld), ofExec(yes, "ResizePty", resize), ofExec(yes, "CloseIO", closeIO),
		blocks("e"), ofExec(yes, "Kill", kill9),
	}},
	{"R9", "exec stopped", stopExec, []rpc{
		state("e", "STOPPED"), ofExec(refused, "Start", start), ofExec(unknown, "Kill", kill9), ofExec(yes, "CloseIO", closeIO),
		ofExec(classes{codes.OK, precondition}, "ResizePty", resize), ofExec(yes, "Wait", waitFor),
		ofExec(classes{exists}, "Exec with its id", execOld), ofExec(yes, "DeleteProcess", delProc),
	}},
	{"R9b", "exec deleted", func(c *harness.Case, b *harness.Fixture) {
		stopExec(c, b)
		c.Must(delProc(b, "e"), "DeleteProcess")
	}, []rpc{
		ofExec(unknown, "State", stateOf), ofExec(unknown, "Start", start), ofExec(unknown, "Kill", kill9),
		ofExec(again, "DeleteProcess", delProc), ofExec(unknown, "ResizePty", resize), ofExec(unknown, "CloseIO", closeIO),
		ofExec(again, "Wait", waitFor), ofExec(yes, "Exec with its old id", execOld),
	}},
}

func stopInit(c *harness.Case, b *harness.Fixture) {
	b.Up()
	b.Die()
}

func stopExec(c *harness.Case, b *harness.Fixture) {
	b.Up()
	b.MustExec("e", harness.IO{}, "exit:4")
	b.AwaitExit(5*time.Second, "e")
}
