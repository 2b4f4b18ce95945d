/* SPDX-License-Identifier: Apache-2.0
 *
 * An exit's way through upstream's shims, with their three reapers (RELEASE):
 *
 *   112   v1.1.2: a channel of 32 for each subscriber; the reaper's lock is held while it
 *         sends, the service's while runc runs
 *   126   v1.2.6: a channel of 2048; the lock of an exec's pid while its runc runs
 *   1735  v1.7.35: a channel of 32; the reaper waits for one second, then a goroutine for
 *         each exit goes on
 *
 * "fn:" names a function of v1.1.2, v1.2.6 and v1.7.35 alike, "fn v1.7.35:" one of that.
 *
 * Three processes die (OTHERS), while the runc of one more runs. BUFFER 1 stands for 32: as 34
 * deaths do there, three are one that is being handled, one in the channel, and one that
 * does not fit. BUFFER 4 stands for 2048: it takes all that there is.
 *
 * With HANGS that runc may hang. With FAILS the daemon may be away for a while. TIMELY
 * wants that no second passes, ORDERED that exits come in the order of death. INCIDENT
 * leaves of all runs those in which runc has begun before the others die.
 */
#ifndef OTHERS
#define OTHERS 3 /* 0, 1 and 2 */
#endif
#define RUNC OTHERS
#define CHILDREN (OTHERS + 1)

chan zombies = [CHILDREN] of { byte };
chan batch = [CHILDREN] of { byte }; /* what was reaped, and is to be told */

/* Monitor: its lock, and the channels of its subscribers. */
bool monitorMu, subscribed, begun;
chan service = [BUFFER] of { byte };
chan runc = [BUFFER] of { byte };
bool told[CHILDREN]; /* to all of them */

/* Service: its lock, and that of the pid of the exec that is being started. */
bool serviceMu, pidMu, started, answered;

chan events = [CHILDREN] of { byte }; /* 128 */
bool published[OTHERS], away, hung;
byte count;

/* They die one after the other, so their numbers say in which order. */
active proctype processes() {
#ifdef INCIDENT
	begun;
#endif
	zombies!0; zombies!1; zombies!2;
#if OTHERS > 3
	zombies!3
#endif
}

proctype runcExec() {
#ifdef HANGS
	if
	:: true
	:: hung = true;
end:		false
	fi;
#endif
	zombies!RUNC
}

#if RELEASE == 1735
/* fn v1.7.35: reaper.Monitor.notify */
proctype notify(byte e) {
	bool one, other;
	do
	:: atomic { !one && nfull(service) -> service!e; one = true }
	:: atomic { !other && subscribed && nfull(runc) -> runc!e; other = true }
	:: atomic { one && (other || !subscribed) -> told[e] = true; break }
	od
}
#endif

/* fn: reaper.Reap */
active proctype reap() {
	byte e, n;
end:	do
	:: atomic {
		nempty(zombies);
		do
		:: zombies?e -> batch!e
		:: empty(zombies) -> break
		od
	};
#if RELEASE == 1735
		do
		:: atomic { batch?e -> run notify(e) };
			if
			:: told[e]
			:: timeout -> skip; /* a second */
#ifdef TIMELY
				assert(hung)
#endif
			fi
		:: empty(batch) -> break
		od
#else
		atomic { !monitorMu -> monitorMu = true; n = len(batch) };
		do
		:: n > 0 -> batch?e;
			service!e; /* the reaper sends, and holds its lock */
			batch!e; n--
		:: n == 0 -> break
		od;
		do
		:: batch?e ->
			if
			:: subscribed -> runc!e
			:: else
			fi
		:: empty(batch) -> break
		od;
		monitorMu = false
#endif
	od
}

/* fn: shim.Service.Start, proc.execProcess.start */
active proctype start() {
	byte e;
#if RELEASE == 112
	atomic { !serviceMu -> serviceMu = true };
#else
	atomic { !serviceMu -> pidMu = true };
#endif
	atomic { !monitorMu -> subscribed = true; begun = true }; /* fn: reaper.Monitor.Start, reaper.Monitor.Subscribe */
	run runcExec();
	/* fn: reaper.Monitor.Wait */
#ifdef HANGS
end:
#endif
	do /* the call waits for its runc */
	:: runc?e ->
		if
		:: e == RUNC -> break
		:: else
		fi
	od;
	/* fn: reaper.Monitor.Unsubscribe */
#if RELEASE == 1735
	subscribed = false;
#else
	do
	:: atomic { !monitorMu -> subscribed = false; break }
	:: runc?e /* the channel is closed under a lock that who sends to it holds: it has room */
	od;
#endif
	serviceMu = false; pidMu = false; started = true
}

/* fn: shim.Service.processExits */
active proctype exits() {
	byte e;
end:	do
	:: service?e ->
		/* fn: shim.Service.checkProcesses */
#if RELEASE == 112
		atomic { !serviceMu -> serviceMu = true }; /* the exit loop waits for the service's lock */
#elif RELEASE == 1735
		atomic { !serviceMu -> serviceMu = true };
#endif
#if RELEASE != 112
		if /* which one is asked first is a matter of chance; fn: proc.execProcess.Pid */
		:: e != RUNC -> skip
		:: true -> !pidMu /* the exit loop waits for the pid of the exec that starts */
		fi;
#endif
		serviceMu = false;
		if
		:: e != RUNC -> events!e
		:: else
		fi
	od
}

/* fn: shim.Service.forward */
active proctype forward() {
	byte e;
end:	do
	:: events?e ->
		if
		:: away -> skip /* an event that is not taken is logged, and that is all */
		:: atomic { !away -> published[e] = true;
#ifdef ORDERED
			assert(e == count);
#endif
			count++
		}
		fi
	od
}

/* fn: shim.Service.State */
active proctype state() {
	timeout; /* somebody asks who finds that nothing moves */
	atomic { !serviceMu -> answered = true } /* State waits for the service's lock */
}

#ifdef FAILS
active proctype daemon() {
	away = true;
	away = false
}
#endif

/* What every run must come to: that the start ends, too, if its runc does. */
active proctype judge() {
	answered && published[0] && published[1] && published[2] && published[OTHERS - 1] && (started || hung)
}
