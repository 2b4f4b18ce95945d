// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Sample is what a shim had at one moment.
type Sample struct {
	At        time.Duration
	Container string
	Memory    int64 // anonymous, in bytes
	Counts
}

const (
	sampleEvery = 10 * time.Second
	// fewest is how many samples of a shim are judged. A run that has fewer in its second
	// half is too short for a slope to mean anything.
	fewest = 12
)

// measure is one figure of a Sample.
type measure struct {
	name  string
	value func(Sample) float64
	// least is a rise that is never judged: a collection of garbage that comes early or
	// late, an exec more at the moment of the sample.
	least float64
}

var measures = []measure{
	{"memory in MB", func(s Sample) float64 { return float64(s.Memory) / (1 << 20) }, 0.5},
	{"descriptors", func(s Sample) float64 { return float64(s.Fds) }, 3},
	{"threads", func(s Sample) float64 { return float64(s.Threads) }, 2},
}

// sample reads what the shim holds from time to time.
func (c *chaos) sample(ctx context.Context, id string) {
	for pause(ctx, sampleEvery) {
		shim, err := c.rig.Shim(c.rig.Name, id)
		if err == nil {
			s := Sample{At: time.Since(c.begun), Container: id}
			s.Memory, err = shim.Anonymous()
			if err == nil {
				s.Counts, err = shim.Counts()
			}
			if err == nil {
				c.mu.Lock()
				c.report.Samples = append(c.report.Samples, s)
				c.mu.Unlock()
			}
		}
		if err != nil {
			c.failed("sample of %s: %v", id, err)
		}
	}
}

// line is the straight line through some points, by least squares.
type line struct {
	slope, at0 float64
	doubt      float64 // the standard error of slope
}

// fit returns the line. All x being the same, it is level.
func fit(x, y []float64) line {
	n := float64(len(x))
	mx, my := sum(x)/n, sum(y)/n
	var xx, xy float64
	for i := range x {
		xx += (x[i] - mx) * (x[i] - mx)
		xy += (x[i] - mx) * (y[i] - my)
	}
	if xx == 0 {
		return line{at0: my}
	}
	l := line{slope: xy / xx}
	l.at0 = my - l.slope*mx
	if n > 2 {
		var rest float64
		for i := range x {
			d := y[i] - l.at0 - l.slope*x[i]
			rest += d * d
		}
		l.doubt = math.Sqrt(rest / (n - 2) / xx)
	}
	return l
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// Slope is how a figure of one shim went in the second half of a run.
type Slope struct {
	Container, What string
	N               int     // samples
	Mean            float64 // of the figure
	Rise            float64 // of the line through the samples, from its begin to its end
	Grows           bool
}

func (s Slope) String() string {
	return fmt.Sprintf("%s of %s: rises by %.2f from a mean of %.1f (%d samples)", s.What, s.Container, s.Rise, s.Mean, s.N)
}

// Slopes returns the slopes of all shims. A figure grows if its line rises by more
// than a tenth of its mean, by more than measure.least, and by more than three times its
// standard error, so that neither a small leak's beginning nor a noisy figure is
// called one. What has fewer samples than fewest is left out.
func (r *ChaosReport) Slopes() []Slope {
	var all []Slope
	for _, id := range r.containers() {
		for _, m := range measures {
			x, y := r.points(id, m, r.Took/2)
			if len(x) < fewest {
				continue
			}
			l := fit(x, y)
			over := x[len(x)-1] - x[0]
			s := Slope{Container: id, What: m.name, N: len(x), Mean: sum(y) / float64(len(y)), Rise: l.slope * over}
			s.Grows = s.Rise > max(s.Mean/10, m.least, 3*l.doubt*over)
			all = append(all, s)
		}
	}
	return all
}

// containers returns those of which there are samples.
func (r *ChaosReport) containers() []string {
	var ids []string
	for _, s := range r.Samples {
		if !slices.Contains(ids, s.Container) {
			ids = append(ids, s.Container)
		}
	}
	slices.Sort(ids)
	return ids
}

// points returns a figure of one shim over time, in seconds, from a moment on.
func (r *ChaosReport) points(id string, m measure, from time.Duration) (x, y []float64) {
	for _, s := range r.Samples {
		if s.Container == id && s.At >= from {
			x, y = append(x, s.At.Seconds()), append(y, m.value(s))
		}
	}
	return x, y
}

// growth returns the slopes that are problems.
func (r *ChaosReport) growth() (p []string) {
	for _, s := range r.Slopes() {
		if s.Grows {
			p = append(p, "growth: "+s.String())
		}
	}
	return p
}

// Trend says how the figures of all shims went in the second half, in one line each.
func (r *ChaosReport) Trend() string {
	slopes := r.Slopes()
	if len(slopes) == 0 {
		return fmt.Sprintf("%d samples: too few to judge a slope", len(r.Samples))
	}
	var lines []string
	for _, s := range slopes {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}
