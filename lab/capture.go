package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Capture hands every Ethernet frame that passes the rack's bridge to see,
// until ctx is done. The frame is only good during the call. It returns once
// it is listening; wait returns what has ended it.
func (r *Rack) Capture(ctx context.Context, see func(at time.Time, frame []byte)) (wait func() error, err error) {
	f, err := r.namespace().listenRaw(Bridge)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		defer f.Close()
		done <- readFrames(ctx, f, see)
	}()
	return func() error { return <-done }, nil
}

func readFrames(ctx context.Context, f *os.File, see func(time.Time, []byte)) error {
	buf := make([]byte, maxFrame)
	for {
		n, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is what made the read fail
		case err != nil:
			return fmt.Errorf("capture: %w", err)
		}
		see(time.Now(), buf[:n])
	}
}

// listenRaw opens a packet socket for one interface inside the namespace.
func (ns namespace) listenRaw(iface string) (*os.File, error) {
	var f *os.File
	err := ns.do(func() error {
		ifi, err := net.InterfaceByName(iface)
		if err != nil {
			return fmt.Errorf("capture on %s: %w", iface, err)
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		if err != nil {
			return fmt.Errorf("capture on %s: %w", iface, err)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}); err != nil {
			unix.Close(fd)
			return fmt.Errorf("capture on %s: %w", iface, err)
		}
		f = os.NewFile(uintptr(fd), "packets of "+iface)
		return nil
	})
	return f, err
}

// Record writes the frames that pass the bridge into a pcap file, until ctx is
// done: all that keep says, or all there are when it is nil.
func (r *Rack) Record(ctx context.Context, path string, keep func(frame []byte) bool) (wait func() error, err error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("record packets: %w", err)
	}
	p := &pcapWriter{w: file}
	p.header()
	captured, err := r.Capture(ctx, func(at time.Time, frame []byte) {
		if keep == nil || keep(frame) {
			p.frame(at, frame)
		}
	})
	if err != nil {
		file.Close()
		return nil, err
	}
	return func() error { return errors.Join(captured(), p.err, file.Close()) }, nil
}

const (
	maxFrame     = 65536 // with segmentation left to the card, a frame can be this long
	pcapMagic    = 0xa1b2c3d4
	linkEthernet = 1
)

// A pcapWriter writes the classic pcap format; it stops at the first error.
type pcapWriter struct {
	w   io.Writer
	err error
}

func (p *pcapWriter) header() {
	p.write(struct {
		Magic              uint32
		Major, Minor       uint16
		Zone, Accuracy     uint32
		SnapLength, Linked uint32
	}{pcapMagic, 2, 4, 0, 0, maxFrame, linkEthernet})
}

func (p *pcapWriter) frame(at time.Time, frame []byte) {
	n := uint32(len(frame))
	p.write([4]uint32{uint32(at.Unix()), uint32(at.Nanosecond() / 1000), n, n})
	p.write(frame)
}

func (p *pcapWriter) write(v any) {
	if p.err == nil {
		p.err = binary.Write(p.w, binary.LittleEndian, v)
	}
}
