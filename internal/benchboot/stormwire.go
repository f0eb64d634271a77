package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A stormWire is the one socket that the DHCP of all nodes goes through:
// answers are broadcast, as firmware asks for it.
type stormWire struct {
	conn *net.UDPConn

	mu      sync.Mutex
	waiting map[uint32]chan []byte // by xid
}

func listenStorm(ctx context.Context) (*stormWire, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
				unix.BindToDevice(int(fd), clientIface),
			)
		})
		return errors.Join(err, set)
	}}
	pc, err := config.ListenPacket(ctx, "udp4", "0.0.0.0:68")
	if err != nil {
		return nil, err
	}
	w := &stormWire{conn: pc.(*net.UDPConn), waiting: map[uint32]chan []byte{}} //nolint:forcetypeassert // of udp4
	go w.hear()
	return w, nil
}

func (w *stormWire) close() { _ = w.conn.Close() }

func (w *stormWire) hear() {
	buf := make([]byte, 2048)
	for {
		n, err := w.conn.Read(buf)
		if err != nil {
			return // closed
		}
		if n < 241 {
			continue
		}
		w.mu.Lock()
		to := w.waiting[binary.BigEndian.Uint32(buf[4:])]
		w.mu.Unlock()
		select {
		case to <- append([]byte(nil), buf[:n]...):
		default: // nobody waits, or it has one already
		}
	}
}

type stormLease struct {
	addr netip.Addr
	file string
}

// lease gets an address as UEFI does, with its pauses between attempts.
func (w *stormWire) lease(ctx context.Context, mac net.HardwareAddr, number uint32) (stormLease, error) {
	xid := number + 1
	answers := make(chan []byte, 1)
	w.mu.Lock()
	w.waiting[xid] = answers
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.waiting, xid)
		w.mu.Unlock()
	}()
	offer, err := w.ask(ctx, answers, dhcpPacket(mac, xid, 1), 2)
	if err != nil {
		return stormLease{}, err
	}
	_, server := readOptions(offer[240:])
	request := dhcpPacket(mac, xid, 3, append([]byte{50, 4}, offer[16:20]...), append([]byte{54, 4}, server...))
	ack, err := w.ask(ctx, answers, request, 5)
	if err != nil {
		return stormLease{}, err
	}
	file, _, _ := strings.Cut(string(ack[108:236]), "\x00")
	return stormLease{netip.AddrFrom4([4]byte(ack[16:20])), file}, nil
}

func (w *stormWire) ask(ctx context.Context, answers <-chan []byte, packet []byte, kind byte) ([]byte, error) {
	for _, wait := range []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second} {
		if _, err := w.conn.WriteToUDP(packet, &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
			return nil, err
		}
		late := time.NewTimer(wait)
		for heard := true; heard; {
			select {
			case b := <-answers:
				if got, _ := readOptions(b[240:]); got == kind {
					late.Stop()
					return b, nil
				}
			case <-late.C:
				heard = false
			case <-ctx.Done():
				late.Stop()
				return nil, ctx.Err()
			}
		}
	}
	return nil, errors.New("no answer to four attempts")
}

func dhcpPacket(mac net.HardwareAddr, xid uint32, kind byte, more ...[]byte) []byte {
	b := make([]byte, 240, 360)
	copy(b, []byte{1, 1, 6, 0})
	binary.BigEndian.PutUint32(b[4:], xid)
	b[10] = 0x80 // answer by broadcast
	copy(b[28:], mac)
	copy(b[236:], []byte{0x63, 0x82, 0x53, 0x63})
	b = append(b, 53, 1, kind, 57, 2, 0x05, 0xc0, 93, 2, 0, 7, 94, 3, 1, 3, 0, 55, 9, 1, 3, 6, 13, 43, 54, 60, 66, 67)
	b = append(b, "\x3c\x20PXEClient:Arch:00007:UNDI:003000"...)
	for _, o := range more {
		b = append(b, o...)
	}
	return append(b, 255)
}

// A tftpNode reads files as firmware does: RFC 1350 with the options of RFC
// 2347, 2348, 2349 and 7440.
type tftpNode struct {
	local  netip.Addr
	server netip.AddrPort
}

var errTFTP = errors.New("the server refused")

// size asks for a file's size and aborts, as UEFI does.
func (t tftpNode) size(ctx context.Context, file string) (int64, error) {
	conn, err := t.open(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	buf := make([]byte, 2048)
	n, from, err := t.request(ctx, conn, buf, file, "tsize", "0", "blksize", "1468")
	if err != nil {
		return 0, err
	}
	_, _ = conn.WriteToUDPAddrPort([]byte("\x00\x05\x00\x08User aborted the transfer\x00"), from)
	size, err := strconv.ParseInt(oackValue(buf[:n], "tsize"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("no size in %.60q", buf[:n])
	}
	return size, nil
}

func (t tftpNode) open(ctx context.Context) (*net.UDPConn, error) {
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", netip.AddrPortFrom(t.local, 0).String())
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil //nolint:forcetypeassert // of udp4
}

// request sends a read request until there is an answer, which is in buf then.
func (t tftpNode) request(ctx context.Context, conn *net.UDPConn, buf []byte, file string, options ...string) (int, netip.AddrPort, error) {
	rrq := tftpRequest(file, options...)
	for range 10 {
		if _, err := conn.WriteToUDPAddrPort(rrq, t.server); err != nil {
			return 0, netip.AddrPort{}, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(4 * time.Second))
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case err == nil && n >= 4 && buf[1] != 5:
			return n, from, nil
		case err == nil && n >= 4:
			return 0, from, fmt.Errorf("%w: %.60q", errTFTP, buf[4:n])
		case !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil:
			return 0, from, errors.Join(err, ctx.Err())
		}
	}
	return 0, netip.AddrPort{}, errors.New("no answer")
}

// tftpRequest asks for a file, with options: names and values.
func tftpRequest(file string, options ...string) []byte {
	b := append([]byte("\x00\x01"), file+"\x00octet\x00"...)
	for _, o := range options {
		b = append(append(b, o...), 0)
	}
	return b
}

// get reads a file with this block size and, unless 0, window.
func (t tftpNode) get(ctx context.Context, file string, block, window int) ([]byte, error) {
	conn, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	options := []string{"blksize", strconv.Itoa(block)}
	if window > 0 {
		options = append(options, "windowsize", strconv.Itoa(window))
	}
	buf := make([]byte, 2048)
	n, from, err := t.request(ctx, conn, buf, file, options...)
	if err != nil {
		return nil, err
	}
	granted, err := strconv.Atoi(oackValue(buf[:n], "windowsize"))
	if err != nil {
		granted = 1
	}
	return t.receive(ctx, conn, buf, from, block, granted)
}

// receive reads the blocks and acknowledges each window.
func (t tftpNode) receive(ctx context.Context, conn *net.UDPConn, buf []byte, from netip.AddrPort, block, window int) ([]byte, error) {
	var data []byte
	var last uint16 // block that came last in order
	since, silent := 0, 0
	ack := func() error {
		since = 0
		_, err := conn.WriteToUDPAddrPort([]byte{0, 4, byte(last >> 8), byte(last)}, from)
		return err
	}
	if err := ack(); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		n, _, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if silent++; silent > 20 {
				return nil, fmt.Errorf("silence after %d bytes", len(data))
			}
			err = ack()
		}
		if err != nil {
			return nil, err
		}
		switch {
		case n < 4:
			continue
		case buf[1] == 5:
			return nil, fmt.Errorf("%w: %.60q", errTFTP, buf[4:n])
		case buf[1] != 3:
			continue
		}
		silent = 0
		if binary.BigEndian.Uint16(buf[2:]) != last+1 {
			if since > 0 { // something is missing: say from where on
				if err := ack(); err != nil {
					return nil, err
				}
			}
			continue
		}
		last++
		data = append(data, buf[4:n]...)
		if since++; since == window || n < block+4 {
			if err := ack(); err != nil {
				return nil, err
			}
		}
		if n < block+4 {
			return data, nil
		}
	}
	return nil, ctx.Err()
}

// oackValue returns the value of an option in an OACK; "" when it has none.
func oackValue(b []byte, name string) string {
	if len(b) < 3 || b[1] != 6 {
		return ""
	}
	fields := strings.Split(string(b[2:]), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		if strings.EqualFold(fields[i], name) {
			return fields[i+1]
		}
	}
	return ""
}

// An httpConn is one connection of a node, which its requests share.
type httpConn struct {
	conn net.Conn
	r    *bufio.Reader
	host string
}

func dialHTTP(ctx context.Context, local netip.Addr, server netip.AddrPort) (*httpConn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), Timeout: 30 * time.Second}
	conn, err := d.DialContext(ctx, "tcp4", server.String())
	if err != nil {
		return nil, err
	}
	return &httpConn{conn, bufio.NewReaderSize(conn, 2048), server.Addr().String()}, nil
}

func (c *httpConn) close() { _ = c.conn.Close() }

// get fetches a path, or the part of it that is asked for.
func (c *httpConn) get(path, part string) ([]byte, error) {
	_ = c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	ask := "GET " + path + " HTTP/1.1\r\nHost: " + c.host + "\r\nUser-Agent: iPXE/1.21.1\r\n"
	want := http.StatusOK
	if part != "" {
		ask += "Range: " + part + "\r\n"
		want = http.StatusPartialContent
	}
	if _, err := io.WriteString(c.conn, ask+"\r\n"); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // read to its end
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("answered %s", resp.Status)
	}
	return body, err
}
