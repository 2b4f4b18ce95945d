/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of shim.pml: what a run of the shim itself shows.
 */
#ifdef REPLAY
mtype = { Started, Recorded, Told, Put, Taken, Away, Back, Deleted, Exchanged };
chan shown = [40] of { mtype, byte };
byte which;
c_decl { char accepted[256]; } /* no other run is looked for that shows the same */
#define SEEN(event, p) c_expr { !accepted[now.which] } -> shown?event, eval(p)

/* Somebody asks for a State, and it says that the process is dead. fn: shim.Supervisor.State */
active proctype asks() {
end:	do
	:: atomic { recorded[INIT] -> SEEN(Told, INIT) }
	:: atomic { recorded[FIRST] -> SEEN(Told, FIRST) }
	:: atomic { recorded[SECOND] -> SEEN(Told, SECOND) }
	od
}

#include "runs.pml"
#else
#define SEEN(event, p) skip
#endif

#ifdef OUTSIDE
#define SEEN_INSIDE(event, p) skip
#else
#define SEEN_INSIDE(event, p) SEEN(event, p)
#endif
