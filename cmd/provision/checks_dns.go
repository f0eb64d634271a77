package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

const (
	dnsPort    = 53
	dnsWait    = time.Second
	dnsTries   = 2
	maxServers = 32 // that are asked
)

// A nameServer is one that subnets hand out, and the names that machines there
// will ask it for.
type nameServer struct {
	addr    netip.AddrPort
	subnets []string
	names   []string // that machines boot from
}

// checkDNS asks the DNS servers that machines are told of.
func checkDNS(ctx context.Context, st *station) []api.Check {
	if st.dhcp == nil {
		return nil
	}
	own := slices.DeleteFunc(slices.Clone(st.conf.Advertise.Names), func(n string) bool { _, err := netip.ParseAddr(n); return err == nil })
	servers := nameServers(st.engine.Site().Subnets, own)
	found := make([][]api.Check, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		all.Go(func() { found[i] = s.check(ctx) })
	}
	all.Wait()
	return slices.Concat(found...)
}

// nameServers are those of the subnets that are served, each once.
func nameServers(subnets []fleet.Subnet, own []string) (list []nameServer) {
	for _, n := range subnets {
		if n.Mode == fleet.Observe || n.Mode == fleet.Proxy {
			continue // another server says which
		}
		names := slices.Concat(own, bootHosts(n))
		for _, a := range n.DNS {
			at := netip.AddrPortFrom(a, dnsPort)
			i := slices.IndexFunc(list, func(s nameServer) bool { return s.addr == at })
			if i < 0 && len(list) == maxServers {
				continue
			}
			if i < 0 {
				i, list = len(list), append(list, nameServer{addr: at})
			}
			list[i].subnets = append(list[i].subnets, n.Name)
			for _, name := range names {
				if !slices.Contains(list[i].names, name) {
					list[i].names = append(list[i].names, name)
				}
			}
		}
	}
	return list
}

// bootHosts are the names in URLs that a subnet's classes boot from.
func bootHosts(n fleet.Subnet) (hosts []string) {
	for _, c := range n.Classes {
		u, err := url.Parse(c.BootFile)
		if err != nil || u.Hostname() == "" {
			continue
		}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// check asks one server: whether it answers at all, and for the names.
func (s nameServer) check(ctx context.Context) (found []api.Check) {
	on := fmt.Sprintf("DNS server %s of subnet %s", s.addr.Addr(), strings.Join(s.subnets, ", "))
	if err := s.answers(ctx, "."); err != nil {
		return []api.Check{trouble(checkWarning, "E-DNS", "start it, or change dns: of the subnet in site.yaml; if only machines reach it, all is well", "%s does not answer this server: %v", on, err)}
	}
	for _, name := range s.names {
		switch err := s.answers(ctx, name); {
		case errors.Is(err, errNoName):
			found = append(found, trouble(checkFailed, "E-DNS", "add "+name+" to the DNS, or write an address in its place", "%s does not know %s, which machines boot from", on, name))
		case err != nil:
			found = append(found, trouble(checkWarning, "E-DNS", "ask it: dig @"+s.addr.Addr().String()+" "+name, "%s was asked for %s: %v", on, name, err))
		}
	}
	if len(found) == 0 {
		found = append(found, okay("%s", on))
	}
	return found
}

var errNoName = errors.New("no such name")

// answers asks for the addresses of a name. Of the root every answer will do: a
// server may refuse to speak of it.
func (s nameServer) answers(ctx context.Context, name string) error {
	if name == "." {
		return s.answersOf(ctx, name, dnsmessage.TypeNS)
	}
	err := s.answersOf(ctx, name, dnsmessage.TypeA)
	if errors.Is(err, errNoName) {
		err = s.answersOf(ctx, name, dnsmessage.TypeAAAA)
	}
	return err
}

// answersOf asks twice if need be.
func (s nameServer) answersOf(ctx context.Context, name string, kind dnsmessage.Type) (err error) {
	for range dnsTries {
		var answer dnsmessage.Message
		if answer, err = s.ask(ctx, name, kind); err != nil {
			continue
		}
		switch {
		case name == ".":
			return nil
		case answer.RCode == dnsmessage.RCodeNameError || answer.RCode == dnsmessage.RCodeSuccess && len(answer.Answers) == 0:
			return errNoName
		case answer.RCode != dnsmessage.RCodeSuccess:
			return fmt.Errorf("it answers %s", strings.TrimPrefix(answer.RCode.String(), "RCode"))
		}
		return nil
	}
	return err
}

// ask asks once.
func (s nameServer) ask(ctx context.Context, name string, kind dnsmessage.Type) (answer dnsmessage.Message, err error) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return answer, fmt.Errorf("name %q: %w", name, err)
	}
	var id [2]byte
	_, _ = rand.Read(id[:]) // it does not fail
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: binary.BigEndian.Uint16(id[:]), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}
	raw, err := m.Pack()
	if err != nil {
		return answer, err
	}
	return s.exchange(ctx, raw, m.ID)
}

// exchange sends a question and returns its answer.
func (s nameServer) exchange(ctx context.Context, question []byte, id uint16) (answer dnsmessage.Message, err error) {
	c, err := (&net.Dialer{Timeout: dnsWait}).DialContext(ctx, "udp", s.addr.String())
	if err != nil {
		return answer, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dnsWait)); err != nil {
		return answer, err
	}
	if _, err := c.Write(question); err != nil {
		return answer, err
	}
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return answer, err
		}
		if err := answer.Unpack(b[:n]); err == nil && answer.Response && answer.ID == id {
			return answer, nil
		}
	}
}
