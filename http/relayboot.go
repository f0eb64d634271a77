package http

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/http/bootfile"
)

// spokenFor returns the machine that a relay speaks for, and the address of
// the relay that the machine wrote to. Nobody but a relay of that machine's
// subnet is believed, and no address that it has not reported as its own:
// scripts and our certificate name that address.
func (s *Server) spokenFor(req *http.Request) (machine netip.AddrPort, local netip.Addr, err error) {
	relay := callerOf(req.Context()).relay
	machine, err1 := netip.ParseAddrPort(req.Header.Get(api.HeaderMachine))
	local, err2 := netip.ParseAddr(req.Header.Get(api.HeaderLocal))
	if err := errors.Join(err1, err2); err != nil {
		return machine, local, newProblem(http.StatusBadRequest, "E-RELAY-MACHINE", "the request does not say for which machine it is", "")
	}
	machine = netip.AddrPortFrom(machine.Addr().Unmap(), machine.Port())
	if !s.speaksFor(relay, machine.Addr()) {
		s.o.Log.WarnContext(req.Context(), "relay spoke for a machine of another subnet", "relay", relay.Name, "addr", machine.Addr())
		return machine, local, newProblem(http.StatusForbidden, "E-RELAY-MACHINE", "machine "+machine.Addr().String()+" is on none of this relay's subnets", "see: provision relays list")
	}
	local = local.Unmap()
	if !slices.ContainsFunc(relay.Places, func(p fleet.RelayAt) bool { return p.Addr == local && relay.Serves(p.Subnet) }) {
		s.o.Log.WarnContext(req.Context(), "relay spoke from an address that is not its own", "relay", relay.Name, "addr", local)
		return machine, local, newProblem(http.StatusForbidden, "E-RELAY-MACHINE", "relay "+relay.Name+" has not reported "+local.String()+" as its address on a subnet of its own", "see: provision relays list")
	}
	return machine, local, nil
}

// relayBoot answers what a machine asked a relay as if it had asked our own
// boot listener: its script is made for its own address.
func (s *Server) relayBoot(c echo.Context) error {
	req := c.Request()
	machine, local, err := s.spokenFor(req)
	if err != nil {
		return err
	}
	ctx := context.WithValue(req.Context(), http.LocalAddrContextKey, net.Addr(net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, s.o.BootPort))))
	asked := req.Clone(ctx)
	asked.RemoteAddr = machine.String()
	asked.URL.Path = "/" + strings.TrimPrefix(req.URL.Path, api.PathRelayBoot)
	asked.URL.RawPath = ""
	s.BootHandler().ServeHTTP(c.Response(), asked)
	return nil
}

// maxTFTPAnswer bounds what a relay gets by TFTP's rules: scripts, and the
// small files that are not in its cache.
const maxTFTPAnswer = 64 << 20

func (s *Server) relayTFTP(c echo.Context) error {
	req := c.Request()
	machine, _, err := s.spokenFor(req)
	if err != nil {
		return err
	}
	if s.o.TFTP == nil {
		return newProblem(http.StatusNotFound, "E-PATH", "no such file", "")
	}
	file, size, err := s.o.TFTP(req.Context(), strings.TrimPrefix(req.URL.Path, api.PathRelayTFTP), machine)
	if err != nil || size > maxTFTPAnswer {
		if file != nil {
			_ = file.Close()
		}
		return newProblem(http.StatusNotFound, "E-PATH", "no such file", "")
	}
	defer file.Close()
	h := c.Response().Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	_, err = io.CopyN(c.Response(), file, size)
	return err
}

// relayQuirk says how a machine behind a relay fetches otherwise than usual.
func (s *Server) relayQuirk(c echo.Context) error {
	machine, _, err := s.spokenFor(c.Request())
	if err != nil {
		return err
	}
	var q api.RelayQuirk
	if s.o.Segments != nil {
		q.BlockSize = s.o.Segments.MaxBlock(machine.Addr())
	}
	return c.JSON(http.StatusOK, q)
}

// relayFile sends a boot file to a relay's cache. It proves nothing about a
// machine.
func (s *Server) relayFile(c echo.Context) error {
	name := path.Clean(strings.TrimPrefix(c.Request().URL.Path, api.PathRelayFiles))
	if !fs.ValidPath(name) || hidden(name) {
		return newProblem(http.StatusNotFound, "E-PATH", "no such file", "")
	}
	f, info, err := bootfile.OpenIn(s.bootDir, name)
	if err != nil {
		return newProblem(http.StatusNotFound, "E-PATH", "no such file", "")
	}
	defer f.Close()
	_ = http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(bootfile.StallTime))
	bootfile.Serve(c.Response(), c.Request(), f, info, bootfile.Tag(info))
	return nil
}

// relayChunk sends a piece of an image to a relay's cache. Everybody may have
// one: it is asked for in no machine's name.
func (s *Server) relayChunk(c echo.Context) error {
	boot{s}.chunk(c.Response(), c.Request(), strings.TrimPrefix(c.Request().URL.Path, api.PathRelayChunks))
	return nil
}

func hidden(name string) bool { return strings.HasPrefix(name, ".") || strings.Contains(name, "/.") }
