// SPDX-License-Identifier: Apache-2.0

package catalogue

// Note is an entry of the list of known bugs, or a row of the contract, that has no
// check of its own. Why says where it is checked, or why it cannot be.
type Note struct{ ID, Name, Why string }

// Notes returns all of them.
func Notes() []Note {
	return []Note{
		{"B67", "what only the daemon does wrong", "no shim can show it: the clean-up after a dead shim, KillShim's loop, OOM scores"},
		{"C01", "-criu-path", "B59"},
		{"C03", "binary replaced below a running old daemon", "the same calls as C02"},
		{"C04", "-debug below a daemon that has no log FIFOs", "B29"},
		{"C05", "FIFOs that are read only after a restart", "B29"},
		{"C08", "Checkpoint without options", "B10"},
		{"C10", "binary:// below an old daemon", "B56"},
		{"C11", "pid after the exit", "B19, B19b, R5"},
		{"C12", "slow reader freezes the API", "B25b"},
		{"C13", "slow reader delays exits", "B25b"},
		{"C14", "nobody opens the FIFO", "B25"},
		{"C15", "daemon restarts during a call", "B22b"},
		{"C16", "downgrade of the daemon to 1.2", "the daemon's dial fails whatever the shim does"},
		{"C18", "workdir removed", "the daemon's reload skips the task whatever the shim does"},
		{"C20", "second exit after a restart of a daemon up to 1.2", "made by the daemon, which has killed the shim"},
		{"C21", "Delete's error below a daemon up to 1.1", "B14, B49, C09: Delete succeeds"},
		{"C22", "Delete answered with NotFound", "B15, R6"},
		{"C23", "SIGTERM", "B30"},
		{"C24", "State slower than 2 s", "B01, B06, B07, B08: all bound State by 2 s"},
		{"C26", "exited_at left out", "R2 to R9: State has it in every state"},
		{"C27", "log FIFO that fills slowly", "B29"},
		{"C28", "runtime_root in the plugin's configuration", "the daemon's clean-up ignores it"},
		{"C29", "runtime_root below daemons up to 1.0.2", "the daemon does not hand it on"},
		{"C31", "host with cgroup v2 only", "Create fails in the daemon after the shim succeeded"},
		{"C32", "one of three streams", "B26"},
		{"C33", "Create fails late", "B23, B25"},
		{"C34", "descriptors of terminals", "B37"},
		{"C35", "process that leaves pipe holders", "B12"},
	}
}
