/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of shim.pml: the events on their way, and the daemon.
 */
#ifdef EXCHANGE
bool exchanged;
/* An attempt of the program before has ended with it. */
#define BEGIN in = exchanged; sending = true
#define END sending = false
#define THIS (in == exchanged)
#else
#define BEGIN skip
#define END skip
#define THIS true
#endif

/* fn: shim.Outbox.Run */
active proctype sender() {
	byte e; bool by;
#ifdef EXCHANGE
	bool in;
#endif
end:	do
	:: atomic { nempty(outbox) && OPEN(sendsShut) -> outbox?<e>; by = died; BEGIN };
		if /* fn: shim.Outbox.send, publish.Publisher.Publish */
		:: atomic {
			daemon == up && by == died ->
			assert(!got[e] && !taken[e]); /* once */
			assert(published[e] || LOST(e) || due[e] || due[INIT]); /* not before its start */
			assert(e == INIT || !taken[INIT] || due[INIT]); /* the container's own is last */
			SEEN(Taken, e); got[e] = true
		};
			if
			:: atomic { daemon == up && by == died && THIS -> outbox?e; taken[e] = true; got[e] = false; e = 0; END } /* fn: shim.Outbox.taken */
			:: atomic { by != died && THIS -> got[e] = false; e = 0; END } /* it has died before it could acknowledge */
#ifdef EXCHANGE
			:: atomic { !THIS -> e = 0 }
#endif
			fi
		:: atomic { by != died && THIS -> END }
		:: atomic { daemon == away && THIS -> END };
#ifdef DROP
			outbox?e
#else
end_away:		daemon == up || !THIS /* fn: shim.Outbox.wait */
#endif
#ifdef EXCHANGE
		:: !THIS
#endif
		fi
	od
}

#ifdef FAILS
/* The daemon may stop and go on; it may die, and come back. */
active proctype life() {
#ifndef REPLAY
	if
	:: daemon = stopped;
		if
		:: daemon = up
		:: true
		fi
	:: true
	fi;
#endif
	if
	:: daemon == up
	:: atomic { SEEN(Away, 0); daemon = away; died = true };
		if
		:: atomic { SEEN(Back, 0); daemon = up }
		:: gone = true
		fi
	fi
}
#endif
