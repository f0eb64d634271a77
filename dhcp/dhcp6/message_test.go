package dhcp6

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// A voice is a program that speaks DHCPv6 from a card.
type voice struct {
	duid string // hex
	iaid uint32
	from netip.Addr
	more []dhcpv6.Option
}

// The voices of one machine, as they were heard.
var (
	uefi  = voice{duid: "00049707b47b2e237e42a9ab2b3d9ef24fbe", iaid: 0xff37f5f7, from: machine, more: pxeOptions("PXEClient:Arch:00007:UNDI:003000")}
	side  = voice{duid: "00049707b47b2e237e42a9ab2b3d9ef24fbe", iaid: 0xfe1efcf7, from: machine}
	ipxe  = voice{duid: "00047bb40797232e427ea9ab2b3d9ef24fbe", iaid: 0xa8f30662, from: machine, more: append(pxeOptions("PXEClient:Arch:00007:UNDI:003010"), &dhcpv6.OptUserClass{UserClasses: [][]byte{[]byte("iPXE")}})}
	agent = voice{duid: "000300015254007ef734", iaid: 0x007ef734, from: machine}
	linux = voice{duid: "00020000ab11c0ffee", iaid: 0x1, from: machine}
	other = voice{duid: "00030001525400000002", iaid: 0x2, from: netip.MustParseAddr("fe80::5054:ff:fe00:2")}
)

func pxeOptions(class string) []dhcpv6.Option {
	return []dhcpv6.Option{
		dhcpv6.OptRequestedOption(dhcpv6.OptionBootfileURL, dhcpv6.OptionBootfileParam, dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionVendorClass),
		dhcpv6.OptClientArchType(iana.EFI_BC),
		&dhcpv6.OptVendorClass{EnterpriseNumber: intelEnterprise, Data: [][]byte{[]byte(class)}},
	}
}

// say makes a message of a voice. With addresses it names them.
func (v voice) say(tb testing.TB, kind dhcpv6.MessageType, server []byte, addrs ...netip.Addr) *dhcpv6.Message {
	tb.Helper()
	raw, err := hex.DecodeString(v.duid)
	if err != nil {
		tb.Fatal(err)
	}
	m := &dhcpv6.Message{MessageType: kind, TransactionID: dhcpv6.TransactionID{1, 2, 3}}
	m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: raw})
	if server != nil {
		m.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: server})
	}
	for _, o := range v.more {
		m.AddOption(o)
	}
	ia := &dhcpv6.OptIANA{}
	binary.BigEndian.PutUint32(ia.IaId[:], v.iaid)
	if v.iaid == side.iaid {
		m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer))
		if kind == dhcpv6.MessageTypeSolicit {
			ia.T1, ia.T2 = (1<<32-1)*1e9, (1<<32-1)*1e9
		}
	}
	for _, a := range addrs {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.AsSlice()})
	}
	m.AddOption(ia)
	return m
}

// hear hands a message in, as it comes straight from the machine.
func (b *bench) hear(tb testing.TB, v voice, m *dhcpv6.Message) *dhcpv6.Message {
	tb.Helper()
	answer, _ := b.ask(tb, m.ToBytes(), direct(v.from)).(*dhcpv6.Message)
	return answer
}

// boot goes through SOLICIT and REQUEST and returns the leased address.
func (b *bench) boot(tb testing.TB, v voice) netip.Addr {
	tb.Helper()
	offer := b.hear(tb, v, v.say(tb, dhcpv6.MessageTypeSolicit, nil))
	wanted := addressIn(offer)
	if !wanted.IsValid() {
		tb.Fatalf("%s: ADVERTISE without an address: %v", v.duid, offer)
	}
	got := addressIn(b.hear(tb, v, v.say(tb, dhcpv6.MessageTypeRequest, b.id, wanted)))
	if got != wanted {
		tb.Fatalf("%s: leased %s, offered was %s", v.duid, got, wanted)
	}
	return got
}

// addressIn returns the address that a message gives.
func addressIn(m *dhcpv6.Message) netip.Addr {
	if m == nil {
		return netip.Addr{}
	}
	for _, ia := range m.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			if a.ValidLifetime > 0 {
				return addrOf(a.IPv6Addr)
			}
		}
	}
	return netip.Addr{}
}

// statusIn returns the first status of a message or of its associations.
func statusIn(m *dhcpv6.Message) iana.StatusCode {
	if m == nil {
		return iana.StatusUnspecFail
	}
	for _, ia := range m.Options.IANA() {
		if s := ia.Options.Status(); s != nil {
			return s.StatusCode
		}
	}
	if s := m.Options.Status(); s != nil {
		return s.StatusCode
	}
	return iana.StatusSuccess
}
