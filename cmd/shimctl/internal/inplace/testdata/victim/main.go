// SPDX-License-Identifier: Apache-2.0

// Command victim is a program to be exchanged: it answers each line on standard
// input with its first argument and the line, tells of each SIGUSR2, and works meanwhile, with
// goroutines, timers, children and threads that end.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// kept is a descriptor of a pipe that the first program inherits.
const kept = 20

func main() {
	syscall.CloseOnExec(kept) // open in the next program only if it was handed over
	name := os.Args[len(os.Args)-1]
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	go func() {
		for range signals {
			fmt.Println(name, "got a signal")
		}
	}()
	for range 4 {
		go work()
	}
	go func() {
		for {
			done := make(chan struct{})
			go func() { // its thread ends with it, so that there is always a new one
				runtime.LockOSThread()
				close(done)
			}()
			<-done
			time.Sleep(5 * time.Millisecond)
		}
	}()
	go func() {
		for {
			_ = exec.Command("/bin/true").Run() // it makes SIGCHLD, threads and forks
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		err := syscall.Fstat(kept, new(syscall.Stat_t))
		fmt.Printf("%s %s %v\n", name, in.Text(), err == nil)
	}
}

func work() {
	var m map[int][]byte
	for i := 0; ; i++ {
		if i%1000 == 0 {
			m = map[int][]byte{}
			time.Sleep(time.Millisecond)
		}
		m[i] = make([]byte, 100)
	}
}
