package http

import (
	"context"
	"encoding/hex"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// relayRoutes are what relays may do: speak for machines of their subnets, and
// nothing else.
func (s *Server) relayRoutes(e *echo.Echo) {
	e.POST(api.PathRelayEnrol, handle(s.enrolRelay))
	e.POST(api.PathRelayRenew, handle(s.renewRelay))
	e.POST(api.PathRelayReport, handle(s.takeReport))
	e.GET(api.PathRelaySnapshot, s.sendSnapshot)
	e.GET(api.PathRelayFiles+"*", s.relayFile)
	e.GET(api.PathRelayChunks+"*", s.relayChunk)
	e.GET(api.PathRelayBoot+"*", s.relayBoot)
	e.HEAD(api.PathRelayBoot+"*", s.relayBoot)
	e.GET(api.PathRelayTFTP+"*", s.relayTFTP)
	e.GET(api.PathRelayQuirk, s.relayQuirk)
	e.POST(api.PathRelayTunnel, s.tunnel)
}

func (s *Server) identifyRelay(req *http.Request) (caller, error) {
	if s.o.Relays == nil {
		return caller{}, noRelays()
	}
	if len(req.TLS.PeerCertificates) == 0 {
		return caller{}, newProblem(http.StatusUnauthorized, "E-CERTIFICATE", "no client certificate", "enrol first")
	}
	relay, err := s.o.Relays.Identify(req.TLS.PeerCertificates)
	if err != nil {
		p := newProblem(http.StatusUnauthorized, "E-RELAY", "the client certificate is none of a relay that is known here", "enrol it again: provision relays add NAME")
		p.cause = err
		return caller{}, p
	}
	return caller{relay: relay}, nil
}

// enrolRelay redeems a token. Guessing is hopeless with 256 bits, and slow.
func (s *Server) enrolRelay(ctx context.Context, in api.RelayEnrolRequest) (api.RelayEnrolReply, error) {
	addr := callerOf(ctx).addr
	if s.o.Relays == nil {
		return api.RelayEnrolReply{}, newProblem(http.StatusForbidden, "E-RELAY", "this server takes no relays", "")
	}
	if !s.hellos.allow(fleet.Node{}, addr) {
		return api.RelayEnrolReply{}, newProblem(http.StatusTooManyRequests, "E-RELAY-RATE", "too many tries from this address", "wait a few seconds")
	}
	relay, cert, err := s.o.Relays.Enrol(ctx, in.Token, []byte(in.CSR))
	if err != nil {
		s.o.Log.WarnContext(ctx, "relay not enrolled", "addr", addr, "err", err)
		return api.RelayEnrolReply{}, err
	}
	s.o.Log.InfoContext(ctx, "relay enrolled", "relay", relay.Name, "addr", addr)
	return api.RelayEnrolReply{Name: relay.Name, Certificate: string(cert)}, nil
}

func (s *Server) renewRelay(ctx context.Context, in api.RelayRenewRequest) (api.RelayRenewReply, error) {
	cert, err := s.o.Relays.Renew(callerOf(ctx).relay.Name, []byte(in.CSR))
	return api.RelayRenewReply{Certificate: string(cert)}, err
}

// Limits of what a relay may report at once.
const (
	maxPlaces  = 256
	maxFetched = 4096
	maxForeign = 128 // servers and routers
	maxTrouble = 16
	maxPrefix  = 16  // of one router
	maxDUID    = 130 // bytes (RFC 8415 §11.1)
)

// maxLifetime is what a router can say at most (RFC 4861 §4.2).
const maxLifetime = (1<<16 - 1) * time.Second

func (s *Server) takeReport(ctx context.Context, in api.RelayReport) (struct{}, error) {
	who := callerOf(ctx)
	u := in.Usage
	status := fleet.RelayStatus{
		From: who.addr, Version: fleet.CleanText(in.Version),
		CacheBytes: u.CacheBytes, CacheLimit: u.CacheLimit, Served: u.Served, Fetched: u.Fetched,
		Requests: u.Requests, Relayed: u.Relayed, BOOTP: u.BOOTP, Refused: u.Refused, Away: u.Away, Strangers: u.Strangers, Unsent: u.Unsent, Panics: u.Panics,
		TFTP: fleet.RelayTFTP(u.TFTP), HTTP: fleet.RelayHTTP(u.HTTP),
	}
	site := s.o.Engine.Site()
	for _, p := range in.Places[:min(len(in.Places), maxPlaces)] {
		// An address on that very subnet, so that a relay cannot send machines
		// elsewhere.
		if n, ok := site.SubnetOf(p.Addr); ok && n.Name == p.Subnet {
			status.Places = append(status.Places, fleet.RelayAt{Subnet: p.Subnet, Addr: p.Addr})
		}
	}
	for _, t := range in.Trouble[:min(len(in.Trouble), maxTrouble)] {
		if slices.Contains(fleet.RelayTroubles(), t.Code) {
			status.Trouble = append(status.Trouble, fleet.RelayTrouble{Code: t.Code, Detail: fleet.CleanText(t.Detail)})
		}
	}
	for _, f := range in.Seen[:min(len(in.Seen), maxFetched)] {
		s.believe(who.relay, f)
	}
	for _, f := range in.Foreign[:min(len(in.Foreign), maxForeign)] {
		s.heardOf(who.relay, f)
	}
	return struct{}{}, s.o.Relays.Report(ctx, who.relay.Name, status)
}

// heardOf takes in which other DHCP server, or router, a relay sees on a subnet
// of its own.
func (s *Server) heardOf(relay fleet.Relay, f api.RelayForeign) {
	subnet, ok := s.o.Engine.Site().SubnetOf(f.At)
	duid, err := hex.DecodeString(f.DUID)
	if ok && err == nil && relay.Serves(subnet.Name) && f.Addr.IsValid() && s.o.Segments != nil {
		f.File, f.DUID = fleet.CleanText(f.File), hex.EncodeToString(duid[:min(len(duid), maxDUID)])
		f.Addr = f.Addr.WithZone("") // which may be any text
		if r := f.Router; r != nil {
			r.Lifetime = min(max(r.Lifetime, 0), maxLifetime)
			r.Prefixes = slices.DeleteFunc(r.Prefixes[:min(len(r.Prefixes), maxPrefix)], func(p api.RelayPrefix) bool { return !p.Prefix.IsValid() })
		}
		s.o.Segments.Foreign(relay.Name, subnet.Name, f)
	}
}

// believe makes evidence of what a machine fetched from a relay.
func (s *Server) believe(relay fleet.Relay, f api.RelayFetched) {
	if s.o.Leases == nil || !s.speaksFor(relay, f.Addr) {
		return
	}
	if f.Transfer != nil && s.o.Segments != nil {
		s.o.Segments.Transferred(relay.Name, f)
		return
	}
	lease, ok := s.o.Leases.LeaseByAddr(f.Addr)
	if !ok || lease.MAC == "" {
		return
	}
	s.o.Engine.Observe(fleet.Evidence{
		At: s.o.Now(), MAC: lease.MAC, Phase: phaseOf(f.File),
		Detail: fleet.CleanText(f.File + " by " + f.By + " from relay " + relay.Name + " to " + f.Addr.String()), File: path.Base(f.File),
	})
}

// speaksFor reports whether a machine at this address is on a subnet of the relay.
func (s *Server) speaksFor(relay fleet.Relay, machine netip.Addr) bool {
	subnet, ok := s.o.Engine.Site().SubnetOf(machine)
	return ok && relay.Serves(subnet.Name)
}
