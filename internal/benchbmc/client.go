package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// A job is what a client shall do with each of its BMCs, all at the same time.
type job struct {
	Tool string // "provision" or "ipmitool"
	Op   string // "probe", "status" or "cycle"
	BMCs []contact
}

// A contact is one BMC, and what a probe has found out about it.
type contact struct {
	Address string
	Dead    bool
	Found   bmc.Found
}

func (c contact) target() bmc.Target {
	t := bmc.Target{Node: c.Address, Address: c.Address, Username: username, Password: password, Driver: c.Found.Driver}
	if c.Found.Driver != "" {
		t = c.Found.Use(t)
	}
	return t
}

// A result is what a client has measured of itself.
type result struct {
	Wall  time.Duration // until the last BMC that is alive was done
	Named time.Duration // until the last dead one was given up
	KiB   int           // most memory
	Files int           // most open files
	Wrong []string      // what went otherwise than it should; the first few
	Count int           // how many those are
	BMCs  []contact     // after a probe
}

// client is the process that is measured.
func client(ctx context.Context, in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return err
	}
	do, err := tool(j)
	if err != nil {
		return err
	}
	files := watchFiles()
	r := work(ctx, j, do)
	r.Files = files()
	if r.KiB, err = mostMemory(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// tool returns what is done with one BMC.
func tool(j job) (func(ctx context.Context, c *contact) error, error) {
	if j.Tool == "ipmitool" {
		return ipmitool(j.Op)
	}
	// As the server has it, with all limits.
	controller := bmc.New(bmc.Options{})
	do := map[string]func(ctx context.Context, c *contact) error{
		"probe": func(ctx context.Context, c *contact) (err error) {
			c.Found, err = controller.Probe(ctx, c.target())
			return err
		},
		"status": func(ctx context.Context, c *contact) error {
			state, err := controller.Power(ctx, c.target())
			if err == nil && state != fleet.PowerIsOn {
				return fmt.Errorf("the power is %s", state)
			}
			return err
		},
		"cycle": func(ctx context.Context, c *contact) error {
			next := bmc.Boot{Device: bmc.PXE, Mode: bmc.UEFI, Once: true}
			if err := controller.SetNextBoot(ctx, c.target(), next); err != nil {
				return err
			}
			return controller.PowerCycle(ctx, c.target())
		},
	}[j.Op]
	if do == nil {
		return nil, fmt.Errorf("there is no job %q", j.Op)
	}
	return do, nil
}

// work does the job with all BMCs at the same time.
func work(ctx context.Context, j job, do func(ctx context.Context, c *contact) error) result {
	r := result{BMCs: j.BMCs}
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for i := range r.BMCs {
		wg.Go(func() {
			c := &r.BMCs[i]
			err := do(ctx, c)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			if c.Dead {
				r.Named = max(r.Named, took)
				if !errors.Is(err, bmc.ErrNoAnswer) {
					r.wrong(c, fmt.Errorf("dead, and was said to be: %w", err))
				}
				return
			}
			r.Wall = max(r.Wall, took)
			if err != nil {
				r.wrong(c, err)
			}
		})
	}
	wg.Wait()
	if j.Op != "probe" {
		r.BMCs = nil
	}
	return r
}

// wrong notes what went wrong with a BMC.
func (r *result) wrong(c *contact, err error) {
	const shown = 5
	if r.Count++; r.Count <= shown {
		r.Wrong = append(r.Wrong, fmt.Sprintf("%s: %v", c.Address, err))
	}
}

// watchFiles counts this process's open files until the returned function is
// called, which returns the most there were.
func watchFiles() func() int {
	over, most := make(chan struct{}), make(chan int)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		high := 0
		for {
			if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
				high = max(high, len(entries)-1) // one is that of the look itself
			}
			select {
			case <-tick.C:
			case <-over:
				most <- high
				return
			}
		}
	}()
	return func() int {
		close(over)
		return <-most
	}
}

// mostMemory is the most that was resident, in KiB.
func mostMemory() (int, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
		}
	}
	return 0, errors.New("/proc/self/status says nothing of VmHWM")
}
