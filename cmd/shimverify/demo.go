// SPDX-License-Identifier: Apache-2.0

package main

import "errors"

func demo([]string) error { return errors.New("demo: not there yet") }
