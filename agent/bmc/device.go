package bmc

import (
	"context"
	"fmt"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/client"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// patience is for all of an enrolment: BMCs take a second for a command, when
// they are busy with themselves.
const patience = 2 * time.Minute

// EnrolHere makes the account on the BMC behind /dev/ipmi0.
func EnrolHere(ctx context.Context, order api.BMCOrder) (api.BMCReport, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type result struct {
		report api.BMCReport
		err    error
	}
	done := make(chan result, 1)
	go func() { // the driver does not know contexts
		report, err := enrolHere(ctx, order)
		done <- result{report, err}
	}()
	select {
	case r := <-done:
		return r.report, r.err
	case <-ctx.Done():
		return api.BMCReport{}, fault.Errorf(fault.BMCAway, "the BMC does not answer: %w", ctx.Err())
	}
}

func enrolHere(ctx context.Context, order api.BMCOrder) (api.BMCReport, error) {
	c, err := ipmi.NewOpenClient()
	if err == nil {
		err = c.Connect(ctx)
	}
	if err != nil {
		return api.BMCReport{}, fault.Errorf(fault.BMCAway, "open /dev/ipmi0: %w", err)
	}
	defer func() { _ = c.Close(ctx) }() // nothing is left to be written
	return Enrol(ctx, c, order)
}

// fail names what a BMC refused. What the library says of it is short, and
// never has the request in it.
func fail(what string, err error) error {
	return fault.Errorf(fault.BMCRefused, "%w", fmt.Errorf("%s: %w", what, err))
}
