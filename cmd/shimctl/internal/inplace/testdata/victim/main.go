// SPDX-License-Identifier: Apache-2.0

// Command victim is a program to be exchanged: it answers each line on standard
// input with its first argument and the line, and works meanwhile, with goroutines, timers
// and children.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// kept is a descriptor of a pipe that the first program inherits.
const kept = 20

func main() {
	syscall.CloseOnExec(kept) // open in the next program only if it was handed over
	for range 4 {
		go work()
	}
	go func() {
		for {
			_ = exec.Command("/bin/true").Run() // it makes SIGCHLD, threads and forks
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		err := syscall.Fstat(kept, new(syscall.Stat_t))
		fmt.Printf("%s %s %v\n", os.Args[len(os.Args)-1], in.Text(), err == nil)
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
