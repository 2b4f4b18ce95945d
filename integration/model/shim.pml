/* SPDX-License-Identifier: Apache-2.0
 *
 * An exit's way through this shim; see ARCHITECTURE.md, "An exit". "fn:" names the
 * function that a transition stands for.
 *
 * No run goes on for ever: spin looks for cycles, too. So whatever a process waits for
 * comes in every run, or spin finds an invalid end state. What every run must come to is
 * what the judge waits for.
 *
 * Time passes only where nothing else can happen (Promela's timeout). Then something
 * outside must hang, and no call may be open that must be answered at once.
 *
 * EXECS (1, 2) is how many execs there are. With HANGS a runc may hang, and a client may
 * be none that asks for the State. With FAILS the daemon may stop, die and come back; see
 * daemon.pml. With DELETES what has ended is deleted; see delete.pml. With EXCHANGE the
 * program is exchanged in place, while a Wait is open; see exchange.pml.
 *
 * Each of these takes a repair out, and spin must find an error: NO_LEDGER, NO_HOLD,
 * NO_OWN_HOLD, INIT_FIRST, DROP, LOCKED, INLINE_KILL, BOUNDED_OUTBOX; and INLINE_KILL with BOUNDED
 * even if nothing hangs, though neither of the two does harm then alone. delete.pml and
 * exchange.pml name theirs.
 *
 * With REPLAY the model takes only what a run of the shim itself shows, in that order; see
 * Replay. "runs.pml" is then what loads one of several such runs. With OUTSIDE what is
 * shown was seen from outside, where nothing is seen of Recorded and Put.
 */
#define INIT      0
#define FIRST     1 /* an exec */
#define SECOND    2 /* another */
#define RUNC(e)   (2 + (e)) /* the "runc exec" of each, 3 and 4 */
#define KILLER    5 /* "runc kill --all" after the container's death */
#define PROCESSES 3
#define CHILDREN  6
#define NOBODY    6

#ifdef BOUNDED
#define QUEUE 1
#else
#define QUEUE PROCESSES /* never full: in the shim it grows */
#endif
#ifdef BOUNDED_OUTBOX
#define OUTBOX 1
#else
#define OUTBOX PROCESSES /* likewise */
#endif

/* Children, as the kernel knows them. One that stays dies only if it is killed. */
mtype = { lives, stays, zombie };
mtype child[CHILDREN];

/* reaper.Reaper. Child.done of all; the claims; the ledger; open tickets. */
bool reaperMu, done[CHILDREN], claimed[CHILDREN], kept[CHILDREN];
byte tickets;
chan queue = [QUEUE] of { byte }; /* of the Subscription: owners, or NOBODY */

/* shim.exits */
mtype = { none, underway, replied, settled, refused };
mtype stage[PROCESSES] = none;
bool recorded[PROCESSES], held[PROCESSES], due[PROCESSES], told, closing, cleared;
bool ended; /* the verbs that are at work on the dead container; Supervisor.alive */

/* shim.Supervisor */
bool supervisorMu, made[PROCESSES], returned[PROCESSES];
byte unanswered; /* calls that must be answered at once */

/* shim.Outbox, and the daemon */
chan outbox = [OUTBOX] of { byte };
mtype = { up, stopped, away };
mtype daemon = up;
bool died;   /* a daemon */
bool gone;   /* and no other comes */
bool under[PROCESSES]; /* which daemon has asked for the start: after a death? */
bool published[PROCESSES]; /* the start, by the daemon */
bool got[PROCESSES]; /* the exit, by the daemon that lives */
bool taken[PROCESSES]; /* the exit was acknowledged */

/* The gates of an exchange, and what is inside: calls that are not answered, but for
 * Waits; verbs and the kill of what is left; an attempt to send an event. */
#ifdef EXCHANGE
bool readsShut, workShut, sendsShut, writesShut, exitsShut, paused, sending, givenUp;
byte calls, working;
#define OPEN(shut) (!shut)
#define ENTER(inside) inside++
#define LEAVE(inside) inside--
#else
#define OPEN(shut) true
#define ENTER(inside) skip
#define LEAVE(inside) skip
#endif

#include "replay.pml"

#ifdef DELETES
bool forgotten[PROCESSES]; /* what was deleted */
bool flushing, late; /* the container is deleted; its exit does not come out */
#define FORGOTTEN(p) forgotten[p]
#else
#define FORGOTTEN(p) false
#endif

/* What hangs. */
bool hung, silent; /* a runc; a client, which does not ask for the State */

/* The connection of the start's caller is closed. fn: shim.exits.disconnected */
#define LOST(e) (under[e] != died)
#define SETTLED(e) (stage[e] == settled || LOST(e))
/* No exit of e is still to come. fn: shim.exits.aloneLocked */
#define OVER(e) (recorded[e] && !held[e] || stage[e] == none || stage[e] == refused)
/* All is over with e, and the daemon knows, if there is one. */
#define KNOWN(e) (stage[e] == refused || recorded[e] && (taken[e] || gone))

inline kill(p) {
	if :: child[p] == stays -> child[p] = lives :: else fi
}

/* An exec and its runc, as the kernel runs them. */
proctype kernel(byte e) {
end:	do
	:: atomic { child[e] == lives -> child[e] = zombie }
	:: atomic { child[RUNC(e)] == lives && !made[e] -> made[e] = true;
		if
		:: child[e] = lives /* it ends by itself */
		:: child[e] = stays /* it ends if it is killed */
		fi
	}
	/* runc ends, with an error if the container is dead; or it hangs until it is killed. */
	:: atomic { child[RUNC(e)] == lives && (made[e] || child[INIT] != lives) -> child[RUNC(e)] = zombie }
#ifdef HANGS
	:: atomic { child[RUNC(e)] == lives && !hung -> hung = true; child[RUNC(e)] = stays }
#endif
	od
}

/* The container's process, and then the runc that kills the others. */
active proctype container() {
	atomic { child[INIT] == lives -> child[INIT] = zombie };
end:	do
	:: child[KILLER] == lives;
#ifdef HANGS
		if
		:: true
		:: atomic { !hung -> hung = true };
end_hung:		false
		fi;
#endif
		atomic { kill(FIRST); kill(SECOND); child[KILLER] = zombie }
	od
}

/* fn: reaper.Reaper.tellLocked, reaper.Subscription.push */
inline tell(owner) {
	if
	:: owner < PROCESSES -> queue!owner
	:: else -> /* the exit has no owner, and is nothing to whoever takes it */
#ifdef BOUNDED
		queue!NOBODY
#else
		skip
#endif
	fi
}

/* fn: reaper.Reaper.reapOne */
inline reapOne(p) {
	reaperMu = true; child[p] = 0;
	if
	:: claimed[p] -> claimed[p] = false; done[p] = true; /* fn: reaper.Child.complete */
		tell(p)
	:: else ->
#ifndef NO_LEDGER
		kept[p] = tickets > 0; /* fn: reaper.ledger.add */
#endif
		tell(NOBODY)
	fi;
	reaperMu = false
}

/* fn: reaper.Reaper.loop */
active proctype reaping() {
end:	do
	:: atomic { OPEN(paused) && child[INIT] == zombie -> reapOne(INIT) }
	:: atomic { OPEN(paused) && child[FIRST] == zombie -> reapOne(FIRST) }
	:: atomic { OPEN(paused) && child[SECOND] == zombie -> reapOne(SECOND) }
	:: atomic { OPEN(paused) && child[RUNC(FIRST)] == zombie -> reapOne(RUNC(FIRST)) }
	:: atomic { OPEN(paused) && child[RUNC(SECOND)] == zombie -> reapOne(RUNC(SECOND)) }
	:: atomic { OPEN(paused) && child[KILLER] == zombie -> reapOne(KILLER) }
	od
}

/* fn: reaper.Ticket.Claim */
inline claim(p) {
	if
	:: kept[p] -> kept[p] = false; done[p] = true; /* fn: reaper.ledger.take, reaper.Ticket.deadLocked */
		reaperMu = true; tell(p); reaperMu = false
	:: else -> claimed[p] = true; /* fn: reaper.Ticket.claimLocked */
		assert(child[p] != 0) /* or a Start fails whose process has run */
	fi
}

#ifdef DELETES
#include "delete.pml"
#endif

/* A client starts an exec. fn: shim.Supervisor.start */
proctype start(byte e) {
	atomic { /* fn: shim.exits.begin */
		if
		:: gone || closing -> stage[e] = refused; returned[e] = true; goto over
		:: daemon == up && !closing && !supervisorMu && OPEN(readsShut) -> ENTER(calls); stage[e] = underway; under[e] = died
		fi;
#ifdef LOCKED
		supervisorMu = true
#endif
	}
	/* fn: reaper.Reaper.Begin, reaper.Monitor.Start */
	atomic { !reaperMu && OPEN(workShut) -> tickets++; child[RUNC(e)] = lives; claim(RUNC(e)) }
	/* fn: reaper.Monitor.Run */
	atomic { done[RUNC(e)] || ended -> kill(RUNC(e)); done[RUNC(e)] -> done[RUNC(e)] = false }
	atomic {
		!reaperMu;
		if :: made[e] -> claim(e) :: else fi;
		tickets--; /* fn: reaper.Ticket.Close */
		if :: tickets == 0 -> kept[FIRST] = false; kept[SECOND] = false :: else fi
	}
	atomic { /* fn: shim.exits.ended */
		if
		:: made[e] && (done[e] && !told || !done[e] && !closing)
		:: else -> stage[e] = refused; kill(e) /* fn: shim.Supervisor.killLate */
		fi;
		made[e] = false; supervisorMu = false; returned[e] = true
	}
	atomic { /* The reply is written. fn: shim.exits.answered */
		OPEN(writesShut); LEAVE(calls);
		if
		:: stage[e] == refused -> goto over
		:: else -> stage[e] = replied
		fi
	}
	/* The daemon publishes the start, then it asks for the State; unless it dies, or is none. */
	if
	:: atomic { daemon == up && !LOST(e) -> SEEN(Started, e); published[e] = true }
	:: LOST(e) -> goto over
#ifdef HANGS
	:: atomic { silent = true; goto over }
#endif
	fi;
	if
	:: atomic { daemon == up && !LOST(e) && OPEN(readsShut) -> stage[e] = settled } /* fn: shim.exits.asked */
	:: LOST(e) -> goto over
#ifdef DELETES
	:: true /* it deletes the exec instead */
#endif
	fi;
#ifdef DELETES
	deleteExec(e);
#endif
over:	skip
}

/* The container's own start: its runtime has returned, and the reply is written. The
 * daemon publishes it, then it asks for the State; unless it dies, or is none. */
#ifndef REPLAY
proctype own() {
	if
	:: atomic { daemon == up && !LOST(INIT) -> published[INIT] = true }
	:: LOST(INIT) -> goto over
	fi;
	if
	:: atomic { daemon == up && !LOST(INIT) && OPEN(readsShut) -> stage[INIT] = settled } /* fn: shim.exits.asked */
	:: LOST(INIT)
#ifdef HANGS
	:: silent = true
#endif
#ifdef DELETES
	:: true /* it deletes the container instead */
#endif
	fi;
over:	skip
}
#endif

/* fn: shim.Supervisor.killRest */
inline killRest() {
	atomic {
		!reaperMu;
		if :: claimed[FIRST] -> kill(FIRST) :: else fi;
		if :: claimed[SECOND] -> kill(SECOND) :: else fi;
		child[KILLER] = lives; claimed[KILLER] = true
	}
end_killing:
	atomic { done[KILLER] -> done[KILLER] = false; cleared = true; LEAVE(working) } /* fn: shim.exits.clear */
}

#ifndef INLINE_KILL
/* fn: shim.Supervisor.clearUp */
active proctype clearUp() {
end:	do
	:: atomic { closing && !cleared && OPEN(workShut) -> ENTER(working) };
		killRest()
	od
}
#endif

/* fn: shim.exits.release, shim.Outbox.Put */
inline release(e) { SEEN_INSIDE(Put, e); held[e] = false; outbox!e }

/* fn: shim.Supervisor.record, shim.exits.take, shim.exits.close */
inline record(p) {
	if
	:: p != NOBODY -> SEEN_INSIDE(Recorded, p); recorded[p] = true; held[p] = true
	:: else
	fi;
	if :: p == INIT -> closing = true :: else fi
}

/* fn: shim.heldExit.due */
#ifdef NO_HOLD
#define DUE(e) (stage[e] != refused)
#else
#define DUE(e) (stage[e] != refused && (SETTLED(e) || due[e] || due[INIT]))
#endif
#ifdef NO_OWN_HOLD
#define OWN_DUE true
#else
#define OWN_DUE (SETTLED(INIT) || due[INIT])
#endif

/* fn: shim.exits.run */
active proctype exits() {
	byte p;
end:	do
	:: atomic { /* fn: shim.exits.drain */
		OPEN(exitsShut) && nempty(queue) -> queue?p; record(p);
#ifdef INLINE_KILL
		if :: p == INIT -> killRest() :: else fi;
#endif
		p = NOBODY
	}
	:: atomic { OPEN(exitsShut) && held[FIRST] && stage[FIRST] == refused -> held[FIRST] = false }
	:: atomic { OPEN(exitsShut) && held[SECOND] && stage[SECOND] == refused -> held[SECOND] = false }
	:: atomic { OPEN(exitsShut) && held[FIRST] && DUE(FIRST) -> release(FIRST) }
	:: atomic { OPEN(exitsShut) && held[SECOND] && DUE(SECOND) -> release(SECOND) }
#ifdef INIT_FIRST
	:: atomic { OPEN(exitsShut) && held[INIT] && OWN_DUE -> told = true; release(INIT) }
#else
	:: atomic { OPEN(exitsShut) && held[INIT] && OWN_DUE && (cleared && OVER(FIRST) && OVER(SECOND) || due[INIT] && !held[FIRST] && !held[SECOND]) -> told = true; release(INIT) }
#endif
	od
}

#define WAITS(e) (held[e] && !due[e])

#ifndef REPLAY
/* The time-outs of shim.Limits. fn: shim.exits.sleep */
active proctype clock() {
end:	do
	:: atomic {
		timeout && OPEN(readsShut) && (WAITS(INIT) || WAITS(FIRST) || WAITS(SECOND) || recorded[INIT] && !ended && !(returned[FIRST] && returned[SECOND])) ->
		assert(hung || silent); assert(unanswered == 0);
		due[INIT] = held[INIT]; due[FIRST] = held[FIRST]; due[SECOND] = held[SECOND];
		ended = recorded[INIT]
	}
#ifdef DELETES
	/* fn: shim.Supervisor.flush */
	:: atomic { timeout && OPEN(readsShut) && flushing && told && !late -> assert(daemon != up); late = true }
#endif
#ifdef EXCHANGE
	/* What does not come to rest is not exchanged. This comes before all others: it may
	 * be a Delete that waits for an exit, which waits for a State that is not read. fn: shim.settle */
	:: atomic { timeout && readsShut && !givenUp -> assert(hung || silent || daemon != up || WAITS(FIRST) || WAITS(SECOND)); givenUp = true }
#endif
	od
}
#endif

/* Somebody asks for the State of any process. fn: shim.Supervisor.State */
active proctype state() {
	atomic { OPEN(readsShut) -> unanswered++ };
	atomic { !supervisorMu && OPEN(writesShut) -> unanswered-- } /* fn: shim.Supervisor.find */
}

#include "daemon.pml"
#ifdef EXCHANGE
#include "exchange.pml"
#endif

/* What every run comes to. */
active proctype judge() {
	returned[FIRST] && returned[SECOND] && unanswered == 0 && recorded[INIT] && (taken[INIT] || gone) && KNOWN(FIRST) && KNOWN(SECOND);
#ifdef REPLAY
	empty(shown) -> c_code { accepted[now.which] = 1; printf("accepted %d\n", now.which); }
#endif
}

init {
	atomic {
#ifdef REPLAY
		load();
#endif
		child[INIT] = lives; claimed[INIT] = true;
#ifdef REPLAY
		published[INIT] = true; stage[INIT] = settled; /* what a run shows begins later */
#else
		stage[INIT] = replied; run own();
#endif
#ifdef EXCHANGE
		run exchange();
#endif
		run kernel(FIRST); run start(FIRST);
#if EXECS > 1
		run kernel(SECOND); run start(SECOND)
#else
		returned[SECOND] = true; stage[SECOND] = refused
#endif
	}
}
