/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of shim.pml: the program is exchanged in place, once, at any moment; or it is not,
 * because it does not come to rest. A Wait is open, of the container's process or an exec.
 *
 * What the state does not hold is gone with the program before. What it holds stays
 * where it is here.
 *
 * Each of these takes a repair out, and spin must find an error: REAPS_ON, NO_DRAIN,
 * NO_CLAIM, FORGETS_STARTS, DROPS_OUTBOX, SENDS_ON, SENDS_FIRST, WRITES_ON, NO_WAITS,
 * WAIT_LEFT.
 */
byte whose; /* whose exit the Wait is for */
bool waits, writing, answered; /* it is not answered; it is being answered; the client has the answer */
#define ENDED(p) (recorded[p] || p != INIT && stage[p] == refused)

#if !defined(REPLAY) && EXECS == 1
/* fn: shim.Service.Wait */
active proctype waiter() {
	if :: whose = INIT :: whose = FIRST fi;
	atomic { OPEN(readsShut) && (whose == INIT || stage[whose] != none) ->
		if :: FORGOTTEN(whose) -> goto over :: else -> waits = true fi
	};
	do
	:: atomic { /* fn: shim.conn.Write */
		waits && !writing && ENDED(whose) && OPEN(writesShut) ->
		assert(!answered);
		answered = true; writing = true
	}
	:: atomic { writing -> writing = false; waits = false } /* fn: shim.conn.forgetAnswered */
	:: answered && !waits -> break
	od;
over:	skip
}
#endif

/* fn: proc.AdoptInit, proc.AdoptExec, shim.exits.adopt */
inline adopt(p) {
	claimed[p] = false;
	if
	:: recorded[p] || p != INIT && (stage[p] == none || stage[p] == refused)
	:: else ->
		assert(child[p] != 0); /* or its status is lost */
#ifndef NO_CLAIM
		claimed[p] = true /* fn: proc.Adoption.claim */
#endif
	fi;
#ifdef FORGETS_STARTS
	if :: stage[p] == replied -> stage[p] = settled :: else fi
#endif
}

/* What the exchange waits for, and what it stops. */
#ifdef WAIT_LEFT
#define HERE false
#else
#define HERE (waits && FORGOTTEN(whose)) /* only this program can answer it */
#endif
#ifdef SENDS_ON
#define SENDING false
#else
#define SENDING sending
#endif
#ifdef WRITES_ON
#define WRITING false
#else
#define WRITING writing
#endif
#ifdef REAPS_ON
#define PAUSED false
#else
#define PAUSED true
#endif

/* fn: shim.Supervisor.Upgrade, shim.Supervisor.Freeze */
proctype exchange() {
	byte p;
	readsShut = true; /* fn: shim.connections.standStill */
#ifdef SENDS_FIRST
	sendsShut = true;
#endif
	if
	:: atomic { /* fn: shim.connections.unanswered, shim.connections.answerHere */
		calls == 0 && unanswered == 0 && working == 0 && !HERE -> workShut = true; sendsShut = true; writesShut = true
	}
	:: givenUp -> goto thaw
	fi;
	if
	:: atomic { working == 0 && !SENDING && !WRITING -> paused = PAUSED } /* fn: reaper.Reaper.Pause */
	:: givenUp -> goto thaw
	fi;
	exitsShut = true;
	atomic { /* fn: shim.exits.rest */
		do
#ifndef NO_DRAIN
		:: nempty(queue) -> queue?p; record(p)
		:: empty(queue) -> break
#else
		:: break
#endif
		od;
		p = 0;
		if :: closing && !cleared -> goto thaw :: else fi
	};
	atomic { /* execve(2). fn: shim.Supervisor.Save, shim.Supervisor.Adopt */
		SEEN(Exchanged, 0);
		exchanged = true; sending = false; writing = false; paused = true;
		do :: nempty(queue) -> queue?p :: empty(queue) -> break od;
		p = 0;
#ifdef DROPS_OUTBOX
		do :: nempty(outbox) -> outbox?p :: empty(outbox) -> break od;
		p = 0;
#endif
		adopt(INIT); adopt(FIRST); adopt(SECOND);
		claimed[KILLER] = false;
		if
		:: recorded[INIT] && !told -> cleared = false; ended = false /* fn: shim.Supervisor.clearUp */
		:: else -> ended = recorded[INIT]
		fi;
#ifdef NO_WAITS
		waits = false;
#endif
		assert(!(waits && FORGOTTEN(whose))) /* or it is told that there is no such process. fn: shim.Supervisor.find */
	};
thaw:	atomic { /* fn: shim.Supervisor.Thaw */
		readsShut = false; workShut = false; sendsShut = false; writesShut = false; exitsShut = false; paused = false
	}
}
