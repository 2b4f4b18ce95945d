// SPDX-License-Identifier: Apache-2.0

// Live installs the Debian packages and runs real containerd, dockerd and runc
// with them: containers from before, between and after, and which shim each has.
// Then it runs the commands of docs/install.md that do without a package.
//
// The host's files are never touched. Live starts itself again in a mount
// namespace of its own, where /usr, /etc, /opt and what dpkg keeps below /var are
// overlays whose changes go to memory; nothing of them is left when it ends.
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

// limit bounds all of it; it takes half a minute.
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
	if err := overlays("/usr", "/etc", "/opt", "/var/lib/dpkg", "/var/lib/systemd", "/var/log", "/var/cache"); err != nil {
		return err
	}
	var errs []error
	for _, run := range []func() error{
		func() error { return packages(ctx, debs, "/usr/bin/containerd-shim", "/usr/bin/containerd-shim") },
		// dockerd 18.06 names the shim without a directory, in a package that Debian has not.
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
