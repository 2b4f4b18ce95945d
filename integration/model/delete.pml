/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of shim.pml: what has ended is deleted. Each exec by the client that has started it,
 * also by one that asks for no State before; the container by the daemon, which kills the
 * shim as soon as it has the answer.
 *
 * Each of these takes a repair out, and spin must find an error: NO_SETTLE, HELD_GOES,
 * NO_OVER, NO_FLUSH.
 */

/* fn: shim.Supervisor.DeleteExec */
inline deleteExec(e) {
	if
	:: LOST(e) -> goto over
	:: atomic { recorded[e] && OPEN(readsShut) -> ENTER(calls) }
	fi;
	atomic { /* fn: proc.Exec.Delete, shim.exits.forget, shim.Supervisor.forgetExec */
		OPEN(workShut);
#ifndef NO_SETTLE
		stage[e] = settled;
#endif
#ifdef HELD_GOES
		held[e] = false;
#endif
		forgotten[e] = true
	}
	atomic { OPEN(writesShut); LEAVE(calls); SEEN(Deleted, e) }
}

/* fn: shim.Supervisor.Delete */
active proctype delete() {
	if
	:: gone -> goto over
	:: atomic { recorded[INIT] && (published[INIT] || LOST(INIT)) && daemon == up && OPEN(readsShut) -> ENTER(calls);
#ifndef NO_SETTLE
		stage[INIT] = settled /* fn: shim.exits.settle */
#endif
	}
	fi;
#ifndef NO_OVER
	told;
#endif
	atomic { OPEN(workShut) -> forgotten[INIT] = true; flushing = true }; /* fn: proc.Init.Delete, shim.Supervisor.setDeleted */
	if /* fn: shim.Supervisor.flush, shim.Outbox.Flush */
#if defined(NO_FLUSH) || defined(NO_OVER)
	:: atomic { empty(outbox) || told -> assert(taken[INIT] || daemon != up) }
#endif
	:: taken[INIT]
	:: daemon == away
	:: late
	fi;
	atomic {
		OPEN(writesShut); LEAVE(calls); flushing = false; SEEN(Deleted, INIT);
		assert(late || died || due[INIT] || (stage[FIRST] == none || KNOWN(FIRST)) && (stage[SECOND] == none || KNOWN(SECOND)))
	}
over:	skip
}
