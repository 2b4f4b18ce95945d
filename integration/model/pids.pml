/* SPDX-License-Identifier: Apache-2.0
 *
 * One pid, which the kernel gives to one process after another: to those of STARTS (2, 3)
 * starts, and to a stranger that nobody claims. Each start must come to its own process, dead or
 * alive, and no signal may reach another's. See reaper.Ticket.
 *
 * A pid is free once its process is reaped, and is given again only after all others, so
 * later than a file's time can tell. The clock goes only forwards: with one that is set
 * back while a pid is given again, nothing could tell the two apart.
 *
 * Each of these takes a repair out, and spin must find an error: NO_LEDGER, NO_TIME,
 * NEWEST, OWNED_FIRST, EARLY_WAIT. NO_ORDER does no harm as long as the clock goes forwards.
 *
 * With REPLAY the model takes only what a run of the reaper itself shows.
 */
#define LAST (STARTS - 1)
#define STRANGER STARTS
#define PROCESSES (STARTS + 1)
#define NOBODY 255

/* The kernel. */
byte holder = NOBODY; /* whose the pid is */
bool dead;            /* it is a zombie */
bool ours;            /* it is the shim's child, and not a runtime's any more */
byte clock;           /* goes on with each pid file and each death */

/* Starts. */
bool begun[STARTS], over[STARTS];
byte ticket[STARTS], written[STARTS]; /* number of the ticket, time of the pid file */

/* reaper.Reaper. Its ledger is what is kept, by whose exit it is. */
byte seq, claimer = NOBODY;
bool handed[STARTS]; /* Child.done */
bool kept[PROCESSES];
byte exitSeq[PROCESSES], exitAt[PROCESSES];

#ifdef REPLAY
mtype = { Begun, Forked, Reaped, Dead, Living };
chan shown = [40] of { mtype, byte };
byte which;
c_decl { char accepted[256]; }
#define SEEN(event, p) c_expr { !accepted[now.which] } -> shown?event, eval(p)
#include "runs.pml"
#else
#define SEEN(event, p) skip
#endif

/* A ticket is open that was there before the exit. */
#define WANTED(i) (begun[0] && exitSeq[i] >= ticket[0] || begun[1] && exitSeq[i] >= ticket[1] || begun[LAST] && exitSeq[i] >= ticket[LAST])

/* An exit that the claim of s may take, and which one it takes of several. fn: reaper.ledger.take */
#ifdef NO_ORDER
#define NEW(i, s) true
#else
#define NEW(i, s) (exitSeq[i] >= ticket[s])
#endif
#ifdef NO_TIME
#define FITS(i, s) (kept[i] && NEW(i, s))
#else
#define FITS(i, s) (kept[i] && NEW(i, s) && exitAt[i] >= written[s])
#endif
#ifdef NEWEST
#define BETTER(i, j) (exitSeq[i] > exitSeq[j])
#else
#define BETTER(i, j) (exitSeq[i] < exitSeq[j])
#endif

/* fn: reaper.Ticket.Claim */
inline claim(s) {
	found = NOBODY;
	for (i : 0 .. STARTS) {
		if
		:: FITS(i, s) && found == NOBODY -> found = i
		:: FITS(i, s) && found != NOBODY && BETTER(i, found) -> found = i
		:: else
		fi
	}
	i = 0;
#ifdef OWNED_FIRST
	assert(claimer == NOBODY);
#endif
	if
	:: found != NOBODY -> assert(found == s); SEEN(Dead, s); /* fn: reaper.Ticket.deadLocked */
		kept[found] = false; handed[s] = true
	:: else ->
		assert(claimer == NOBODY);            /* or it is refused: reaper.ErrClaimed */
		assert(holder != NOBODY && ours);     /* or it is refused: reaper.ErrNotChild */
		assert(holder == s); SEEN(Living, s); /* fn: reaper.Ticket.claimLocked */
		claimer = s
	fi;
	found = 0
}

/* A runtime starts a process, and leaves its pid in a file. */
proctype start(byte s) {
	byte i, found;
	atomic { SEEN(Begun, s); seq++; ticket[s] = seq; begun[s] = true }; /* fn: reaper.Reaper.Begin */
	atomic { holder == NOBODY -> SEEN(Forked, s); holder = s; dead = false; ours = false };
	atomic { clock++; written[s] = clock }; /* fn: proc.readPidFile */
	ours = true; /* the runtime has ended: until then a dead process keeps its pid */
	atomic { claim(s) };
	atomic { /* fn: reaper.Ticket.Close, reaper.ledger.dropBefore */
		begun[s] = false;
		for (i : 0 .. STARTS) {
			kept[i] = kept[i] && WANTED(i)
		}
		i = 0
	};
	/* Somebody kills it. fn: reaper.Child.Signal */
	if
	:: atomic { !handed[s] -> assert(holder == s) }
	:: true
	fi;
	handed[s];
	over[s] = true
}

/* An orphan that the shim has got as a child, or a process that is none of its. */
active proctype stranger() {
	if
	:: atomic { holder == NOBODY -> SEEN(Forked, STRANGER); holder = STRANGER; dead = false; ours = true }
	:: atomic { holder == NOBODY -> SEEN(Forked, STRANGER); holder = STRANGER; dead = false; ours = false };
		atomic { holder = NOBODY; clock++ }
	:: true
	fi
}

active proctype kernel() {
end:	do
	:: atomic { holder != NOBODY && !dead -> dead = true }
	od
}

/* fn: reaper.Reaper.reapOne */
active proctype reaping() {
	byte p;
end:	do
	:: atomic { holder != NOBODY && dead && ours -> SEEN(Reaped, holder);
		p = holder; seq++; clock++; exitSeq[p] = seq; exitAt[p] = clock;
#ifdef EARLY_WAIT
		holder = NOBODY
	};
	atomic {
#endif
		if
		:: claimer == p -> claimer = NOBODY; handed[p] = true /* fn: reaper.Child.complete */
		:: else ->
#ifndef NO_LEDGER
			kept[p] = begun[0] || begun[1] || begun[LAST] /* fn: reaper.ledger.add */
#endif
		fi;
#ifndef EARLY_WAIT
		holder = NOBODY;
#endif
		p = 0
	}
	od
}

/* What every run comes to. */
active proctype judge() {
	over[0] && over[1] && over[LAST];
#ifdef REPLAY
	empty(shown) -> c_code { accepted[now.which] = 1; printf("accepted %d\n", now.which); }
#endif
}

init {
	atomic {
#ifdef REPLAY
		load();
#endif
		run start(0); run start(1);
#if STARTS > 2
		run start(LAST)
#endif
	}
}
