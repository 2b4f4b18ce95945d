// SPDX-License-Identifier: Apache-2.0

// Package faults makes a chosen system call of one program fail, or kills the
// program there.
//
// It uses seccomp's user notification (seccomp_unotify(2), Linux 5.5 and newer):
// the kernel stops a thread at each call that the filter names, and asks this
// process, which lets it go on, or answers with an error in the kernel's place.
// Unlike a tracer's, the count is the whole program's, in the order of its calls;
// what the program has forked counts as the program until it executes another
// file, and everything else that inherits the filter is let through.
package faults
