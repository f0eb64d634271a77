package bmctest

import (
	"cmp"
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// objects are those of a kind of PDU, as its maker's MIB has them: where an
// outlet is read and set, and the numbers that say on and off there.
type objects struct {
	Get, Set, ToOn, ToOff, IsOn, IsOff string
}

var pduModels = map[string]objects{
	"apc":       {".1.3.6.1.4.1.318.1.1.12.3.5.1.1.4", ".1.3.6.1.4.1.318.1.1.12.3.3.1.1.4", "1", "2", "1", "2"},
	"apc-rpdu2": {".1.3.6.1.4.1.318.1.1.26.9.2.3.1.5", ".1.3.6.1.4.1.318.1.1.26.9.2.4.1.5", "1", "2", "2", "1"},
	"raritan":   {".1.3.6.1.4.1.13742.6.4.1.2.1.3.1", ".1.3.6.1.4.1.13742.6.4.1.2.1.2.1", "1", "0", "7", "8"},
}

// PDUUser is who signs in to a PDU by SNMPv3.
const PDUUser = "operator"

// PDUOptions say what a PDU is like.
type PDUOptions struct {
	Model     string // of [fleet.PDUOutlets]
	Community string // of SNMPv2c
	Password  string // of PDUUser, for signing and for encryption; [Password] where none is told
	On        []int  // those of its outlets that are, of 1 to 3
}

// A PDU is net-snmp's agent with the objects of one kind of PDU.
type PDU struct {
	program
	o    PDUOptions
	addr string
}

// StartPDU starts one until the test ends, and returns when it answers.
func StartPDU(t *testing.T, o PDUOptions) *PDU {
	t.Helper()
	p := &PDU{o: o, addr: freeAddress(t)}
	p.Begin(t, o.Community, cmp.Or(o.Password, Password))
	return p
}

// Begin starts one that has ended anew, with its outlets as they were at first,
// this community and this password of PDUUser, and returns when it answers.
func (p *PDU) Begin(t *testing.T, community, password string) {
	t.Helper()
	p.dir, p.o.Community = t.TempDir(), community
	t.Cleanup(p.End) // before the folder goes
	of := pduModels[p.o.Model]
	data := struct {
		objects
		Addr, Dir, Community, User, Password string
	}{of, p.addr, p.dir, community, PDUUser, password}
	outlets := map[string]string{}
	for n := 1; n <= 3; n++ {
		outlets[strconv.Itoa(n)] = of.word(slices.Contains(p.o.On, n))
	}
	if err := p.fill(data, []string{"outlets.sh", "snmpd.conf"}, outlets); err != nil {
		t.Fatal(err)
	}
	err := p.start(t.Context(), "snmpd", []string{"SNMP_PERSISTENT_DIR=" + p.dir, "SNMPCONFPATH=" + p.dir},
		"snmpd", "-f", "-C", "-c", filepath.Join(p.dir, "snmpd.conf"), "-Lf", filepath.Join(p.dir, "log"), "-I", "-smux")
	if err != nil {
		t.Fatal(err)
	}
	await(t, "snmpd answers", func(ctx context.Context) error {
		state, err := bmc.New(bmc.Options{}).Power(ctx, p.Target(1))
		if err == nil && state == fleet.PowerIsUnknown {
			err = errors.New("its outlet is unknown")
		}
		return err
	})
}

// word is what an outlet reads.
func (o objects) word(on bool) string {
	if on {
		return o.IsOn
	}
	return o.IsOff
}

// Target is how some of its outlets are switched by SNMPv2c.
func (p *PDU) Target(outlets ...int) bmc.Target {
	return bmc.Target{
		Node: "n1", Driver: fleet.DriverPDU, Address: p.addr, Password: bmc.Password(p.o.Community),
		Outlets: fleet.PDUOutlets{Model: p.o.Model, Outlets: outlets},
	}
}

// Port is the one that it listens on.
func (p *PDU) Port() string {
	_, port, _ := net.SplitHostPort(p.addr) // it is one
	return port
}

// On reports whether an outlet is.
func (p *PDU) On(outlet int) bool { return p.get(strconv.Itoa(outlet)) == pduModels[p.o.Model].IsOn }

// Switch is somebody at the PDU who switches an outlet.
func (p *PDU) Switch(t *testing.T, outlet int, on bool) {
	t.Helper()
	p.set(t, strconv.Itoa(outlet), pduModels[p.o.Model].word(on))
}

// Lie has it say yes from now on, and do nothing.
func (p *PDU) Lie(t *testing.T) {
	t.Helper()
	p.set(t, "lying", "")
}
