// SPDX-License-Identifier: Apache-2.0

// Package faults makes a chosen system call of one program fail, or kills the
// program at that call.
//
// It uses seccomp's user notification (seccomp_unotify(2), Linux 5.5 and newer):
// the kernel stops a thread at each call that the filter names, and asks this
// process, which lets the call go on or answers with an error in the kernel's place.
// Calls are counted over all threads of the program, in the order in which they
// are made. A forked child counts as the program until it executes another file;
// the calls of other programs that inherit the filter are let through.
package faults
