package bmc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/rackstage/provision/fleet"
)

// A pduModel is how outlets of a kind of PDU are switched and read: an object
// each, to whose name the outlet's number is added.
type pduModel struct {
	set, get string
	setOn    int
	setOff   int
	isOn     int
	isOff    int
}

// pduModels are the kinds that there are MIBs of: PowerNet-MIB of APC (rPDU for
// AP79xx, rPDU2 for AP8xxx) and PDU2-MIB of Raritan (PX2, PX3; the first PDU of a
// chain).
var pduModels = map[string]pduModel{
	"apc":       {".1.3.6.1.4.1.318.1.1.12.3.3.1.1.4", ".1.3.6.1.4.1.318.1.1.12.3.5.1.1.4", 1, 2, 1, 2},
	"apc-rpdu2": {".1.3.6.1.4.1.318.1.1.26.9.2.4.1.5", ".1.3.6.1.4.1.318.1.1.26.9.2.3.1.5", 1, 2, 2, 1},
	"raritan":   {".1.3.6.1.4.1.13742.6.4.1.2.1.2.1", ".1.3.6.1.4.1.13742.6.4.1.2.1.3.1", 1, 0, 7, 8},
}

const (
	snmpPort    = 161
	snmpTimeout = time.Second
	snmpRetries = 2
)

// A pduLine switches the outlets that a machine is plugged into.
type pduLine struct {
	snmp    *gosnmp.GoSNMP
	model   pduModel
	outlets []int
}

// openPDU makes an SNMP client: version 3 with authentication and privacy for a
// target with a user, whose password is both; otherwise version 2c, where the
// password is the community, which everybody on the way can read.
func (c *Controller) openPDU(ctx context.Context, t Target) (*pduLine, error) {
	host, port, err := t.at(0, snmpPort)
	if err != nil {
		return nil, err
	}
	model, ok := pduModels[t.Outlets.Model]
	if !ok || len(t.Outlets.Outlets) == 0 {
		return nil, fmt.Errorf("%w: no outlets of a PDU %q", ErrUnsupported, t.Outlets.Model)
	}
	s := &gosnmp.GoSNMP{
		Target: host, Port: uint16(port), Context: ctx, Timeout: snmpTimeout, Retries: snmpRetries, //nolint:gosec // at has checked the port
		Version: gosnmp.Version2c, Community: string(t.Password), MaxOids: gosnmp.MaxOids,
	}
	if t.Username != "" {
		s.Version, s.Community, s.MsgFlags, s.SecurityModel = gosnmp.Version3, "", gosnmp.AuthPriv, gosnmp.UserSecurityModel
		s.SecurityParameters = &gosnmp.UsmSecurityParameters{
			UserName:               t.Username,
			AuthenticationProtocol: gosnmp.SHA, AuthenticationPassphrase: string(t.Password),
			PrivacyProtocol: gosnmp.AES, PrivacyPassphrase: string(t.Password),
		}
	}
	if err := s.Connect(); err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	return &pduLine{snmp: s, model: model, outlets: t.Outlets.Outlets}, nil
}

func (l *pduLine) names(object string) []string {
	var names []string
	for _, o := range l.outlets {
		names = append(names, object+"."+strconv.Itoa(o))
	}
	return names
}

// power is on when all outlets are, off when none is, and unknown in between.
func (l *pduLine) power(ctx context.Context) (fleet.PowerState, error) {
	got, err := l.snmp.Get(l.names(l.model.get))
	if err != nil {
		return fleet.PowerIsUnknown, snmpError(err)
	}
	admitted(ctx)
	if err := packetError(got); err != nil {
		return fleet.PowerIsUnknown, err
	}
	on, off := 0, 0
	for _, v := range got.Variables {
		value, ok := v.Value.(int)
		if v.Type != gosnmp.Integer || !ok {
			return fleet.PowerIsUnknown, fmt.Errorf("%w: the PDU has no outlet %s", ErrUnsupported, v.Name[strings.LastIndexByte(v.Name, '.')+1:])
		}
		switch value {
		case l.model.isOn:
			on++
		case l.model.isOff:
			off++
		}
	}
	switch len(l.outlets) {
	case on:
		return fleet.PowerIsOn, nil
	case off:
		return fleet.PowerIsOff, nil
	}
	return fleet.PowerIsUnknown, nil
}

func (l *pduLine) order(ctx context.Context, a action) error {
	value := map[action]int{turnOn: l.model.setOn, turnOff: l.model.setOff}
	v, ok := value[a]
	if !ok {
		return fmt.Errorf("%w: a PDU knows on and off, not %s", ErrUnsupported, a)
	}
	var all []gosnmp.SnmpPDU
	for _, name := range l.names(l.model.set) {
		all = append(all, gosnmp.SnmpPDU{Name: name, Type: gosnmp.Integer, Value: v})
	}
	done, err := l.snmp.Set(all)
	if err != nil {
		return snmpError(err)
	}
	admitted(ctx)
	return packetError(done)
}

// packetError names what a PDU says.
func packetError(p *gosnmp.SnmpPacket) error {
	switch p.Error {
	case gosnmp.NoError:
		return nil
	case gosnmp.NoAccess, gosnmp.NotWritable, gosnmp.ReadOnly, gosnmp.AuthorizationError:
		return fmt.Errorf("%w (%s)", ErrDenied, p.Error)
	case gosnmp.NoSuchName, gosnmp.NoCreation:
		return fmt.Errorf("%w: the PDU has no such outlet (%s)", ErrUnsupported, p.Error)
	default:
		return fmt.Errorf("%w (%s)", ErrRejected, p.Error)
	}
}

// snmpError names what gosnmp says. A PDU does not answer at all to a community
// that it does not know.
func snmpError(err error) error {
	text := fleet.CleanText(err.Error())
	switch {
	case errors.Is(err, gosnmp.ErrUnknownUsername), errors.Is(err, gosnmp.ErrWrongDigest), errors.Is(err, gosnmp.ErrDecryption), strings.Contains(text, "not authentic"):
		return fmt.Errorf("%w (%s)", ErrLogin, text)
	case strings.Contains(text, "timeout"):
		return fmt.Errorf("%w, or not to this community (%s)", ErrNoAnswer, text)
	}
	return fmt.Errorf("read SNMP: %w", err)
}

func (l *pduLine) setBoot(context.Context, Boot) error {
	return fmt.Errorf("%w: a PDU knows no boot device", ErrUnsupported)
}

func (l *pduLine) boots(context.Context, Boot) (bool, error) { return false, nil }

func (l *pduLine) hangUp(context.Context) { _ = l.snmp.Close() }
