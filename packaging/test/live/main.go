// SPDX-License-Identifier: Apache-2.0

// Live installs the Debian packages under real containerd, dockerd and runc, and
// checks which shim containers have that were started before, between and after the
// steps. Then it runs the commands of docs/install.md that need no package.
//
// It never touches the host's files: it starts itself again in a mount namespace of
// its own, where /usr, /etc, /opt and directories of /var are overlays whose
// changes go to memory and are gone when it ends.
//
// usage: live -debs DIR -doc docs/install.md (root; what integration/daemons needs)
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit bounds the whole run, which takes half a minute.
const limit = 15 * time.Minute

func main() {
	debs := flag.String("debs", "dist", "directory with the packages of `make packaging/deb`")
	doc := flag.String("doc", "docs/install.md", "`file` whose commands are run")
	flag.Parse()
	inside, status, err := private()
	if err == nil && inside {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(ctx, limit)
		err = live(ctx, *debs, *doc)
		cancel()
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "live:", err)
		status = 1
	}
	os.Exit(status)
}

func live(ctx context.Context, debs, doc string) error {
	if err := overlays("/usr", "/etc", "/opt", "/var/lib", "/var/log", "/var/cache"); err != nil {
		return err
	}
	var errs []error
	for _, run := range []func() error{
		func() error { return packages(ctx, debs, "/usr/bin/containerd-shim", "/usr/bin/containerd-shim") },
		// dockerd 18.06 names the shim without a directory. Debian does not have its package.
		func() error {
			if err := standIn("/usr/bin/docker-containerd-shim", "/usr/bin/containerd-shim"); err != nil {
				return err
			}
			return packages(ctx, debs, "/usr/bin/docker-containerd-shim", "docker-containerd-shim")
		},
		func() error { return byHand(ctx, debs, doc) },
	} {
		if ctx.Err() == nil {
			errs = append(errs, run())
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}
