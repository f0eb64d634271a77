package main

import (
	"context"
	"errors"
	"net"
	"time"
)

// greeting is the IPMI 1.5 message that every BMC answers: Get Channel
// Authentication Capabilities.
var greeting = [...]byte{
	0x06, 0x00, 0xff, 0x07, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0x09,
	0x20, 0x18, 0xc8, 0x81, 0x00, 0x38, 0x8e, 0x04, 0xb5,
}

// awaitSim waits until a BMC answers.
func awaitSim(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, 256)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 600 {
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return err
		}
		if _, err := conn.Write(greeting[:]); err == nil {
			if n, err := conn.Read(buf); err == nil && n > 0 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("it does not answer")
}
