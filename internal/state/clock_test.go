// SPDX-License-Identifier: Apache-2.0

package state

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestClocks: every time but that of a death gets a monotonic part, and keeps its wall
// time unless that is in the future.
func TestClocks(t *testing.T) {
	past, future := full(), full()
	later := time.Now().Add(time.Hour).Round(0) // as from a file
	each(reflect.ValueOf(future), func(_ string, t *time.Time) { *t = later })
	for name, s := range map[string]*Shim{"past": past, "future": future} {
		s.SetClocks()
		seen := 0
		each(reflect.ValueOf(s), func(field string, at *time.Time) {
			seen++
			monotonic := strings.Contains(at.String(), " m=")
			switch {
			case field == "At":
				if monotonic {
					t.Errorf("%s: the time of a death was changed: %v", name, at)
				}
			case !monotonic || at.After(time.Now()) || name == "past" && at.Sub(then) > 1:
				t.Errorf("%s: %s is %v", name, field, at)
			}
		})
		if seen < 8 {
			t.Errorf("%d times were looked at", seen)
		}
	}
}

// each calls fn with every time in v that is not zero, and the name of its field.
func each(v reflect.Value, fn func(field string, t *time.Time)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			each(v.Elem(), fn)
		}
	case reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), fn)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if t, ok := f.Addr().Interface().(*time.Time); !ok {
				each(f, fn)
			} else if !t.IsZero() {
				fn(v.Type().Field(i).Name, t)
			}
		}
	}
}
