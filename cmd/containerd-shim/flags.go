// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"containerd-shim.v1/internal/stackdump"
)

const usage = `usage: containerd-shim -namespace NS [flags]

Started by containerd, with the container's bundle as working directory and a
listening socket as file descriptor 3.

  -namespace NS           containerd's namespace; required
  -socket ADDR            listen here instead of on fd 3: an abstract name, or unix:///path
  -address PATH           containerd's gRPC socket, for events
  -containerd-binary PATH containerd's executable, for events when no socket answers (containerd)
  -workdir DIR            where the log FIFOs are, and CRIU's files
  -runtime-root DIR       root of the runtime's state (/run/containerd/runc)
  -systemd-cgroup         let the runtime use systemd for cgroups
  -debug                  log more
  -criu PATH, -criu-path PATH
                          accepted and ignored: the runtime finds criu by itself
  -stack-dir DIR          where SIGUSR1 writes stack dumps (` + stackdump.DefaultDir + `);
                          also CONTAINERD_SHIM_STACK_DIR; the work directory
                          and the log stand in for it
  -runtime-timeout D      how long one call of the runtime may take (` + defaultTimeout + `);
                          also CONTAINERD_SHIM_RUNTIME_TIMEOUT
  -recycle SIZE           when quiet after many calls, take over from itself if it has more
                          anonymous memory than that, such as 3M; 0, the default,
                          is never; also CONTAINERD_SHIM_RECYCLE
  -adopt FILE             take over the process of a shim that wrote FILE and then
                          executed this program; shimctl upgrade has that done
  -check                  with -adopt: only say whether FILE can be read; 0 if so
  -v, -version            print the version and exit

Flags that are not known are ignored, for later versions of containerd.
`

// defaultTimeout is generous, because a hook may pull an image. A call that hangs
// holds up only its own process.
const defaultTimeout = "10m"

type options struct {
	namespace, socket, address, containerdBinary string
	workdir, runtimeRoot, stackDir               string
	criu, adopt                                  string
	runtimeTimeout                               time.Duration
	recycle                                      uint64 // bytes; 0 is never
	systemdCgroup, debug, check, version, help   bool
}

// parseFlags reads the command line as Go's flag package does (one dash or
// two, "-name value" or "-name=value"), but ignores flags that it does not know:
// daemons up to 1.6 pass -criu-path, which no shim of upstream's accepts. A flag
// overrides its environment variable. Beside an error it returns the options with the
// default for each value that it could not read.
func parseFlags(args []string, getenv func(string) (string, bool)) (options, error) {
	o := options{runtimeRoot: "/run/containerd/runc", containerdBinary: "containerd", stackDir: stackdump.DefaultDir}
	timeout, recycle := defaultTimeout, "0"
	if v, ok := getenv("CONTAINERD_SHIM_STACK_DIR"); ok && v != "" {
		o.stackDir = v
	}
	if v, ok := getenv("CONTAINERD_SHIM_RUNTIME_TIMEOUT"); ok && v != "" {
		timeout = v
	}
	if v, ok := getenv("CONTAINERD_SHIM_RECYCLE"); ok && v != "" {
		recycle = v
	}
	texts := map[string]*string{
		"namespace": &o.namespace, "socket": &o.socket, "address": &o.address,
		"containerd-binary": &o.containerdBinary, "workdir": &o.workdir,
		"runtime-root": &o.runtimeRoot, "criu": &o.criu, "criu-path": &o.criu,
		"stack-dir": &o.stackDir, "runtime-timeout": &timeout, "recycle": &recycle, "adopt": &o.adopt,
	}
	var bad []error
	switches := map[string]*bool{
		"systemd-cgroup": &o.systemdCgroup, "debug": &o.debug, "check": &o.check,
		"v": &o.version, "version": &o.version, "h": &o.help, "help": &o.help,
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			continue // the value of an unknown flag
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if b, ok := switches[name]; ok {
			*b = true
			if hasValue {
				on, err := strconv.ParseBool(value)
				if err != nil {
					bad = append(bad, fmt.Errorf("flag -%s: %q is not a boolean", name, value))
				}
				*b = on
			}
			continue
		}
		text, ok := texts[name]
		if !ok {
			continue
		}
		if !hasValue {
			if len(args) == 0 {
				bad = append(bad, fmt.Errorf("flag -%s needs a value", name))
				break
			}
			value, args = args[0], args[1:]
		}
		*text = value
	}
	var err error
	if o.runtimeTimeout, err = time.ParseDuration(timeout); err != nil || o.runtimeTimeout <= 0 {
		bad = append(bad, fmt.Errorf("flag -runtime-timeout: %q is not a positive duration", timeout))
		o.runtimeTimeout, _ = time.ParseDuration(defaultTimeout)
	}
	if o.recycle, err = parseSize(recycle); err != nil {
		bad = append(bad, fmt.Errorf("flag -recycle: %w", err))
	}
	return o, errors.Join(bad...)
}

// parseSize reads a number of bytes, or of KiB, MiB or GiB with the suffix K, M or G.
func parseSize(text string) (uint64, error) {
	number, unit := text, uint64(1)
	for i, suffix := range []string{"K", "M", "G"} {
		if n, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = n, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 3M", text)
	}
	return n * unit, nil
}
