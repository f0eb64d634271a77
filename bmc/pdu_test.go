package bmc_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

// A pdu is net-snmp's agent with the objects of one kind of PDU.
type pdu struct {
	dir         string
	addr        string
	isOn, isOff string
}

func startPDU(t *testing.T, get, set, setOn, setOff, isOn, isOff string) *pdu {
	t.Helper()
	if _, err := exec.LookPath("snmpd"); err != nil {
		t.Fatalf("%v; install it with: apt-get install -y snmpd", err)
	}
	p := &pdu{dir: t.TempDir(), addr: "127.0.0.1:" + freePort(t), isOn: isOn, isOff: isOff}
	outlets, err := os.ReadFile("testdata/outlets.sh")
	if err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer("@DIR@", p.dir, "@GET@", get, "@SET@", set, "@SETON@", setOn, "@SETOFF@", setOff, "@ISON@", isOn, "@ISOFF@", isOff).Replace(string(outlets))
	conf := fmt.Sprintf(`agentAddress udp:%s
rwcommunity private 127.0.0.1
createUser operator SHA "Secret123Secret1" AES "Secret123Secret1"
rwuser operator priv
pass %s /bin/sh %s
pass %s /bin/sh %s
`, p.addr, get, filepath.Join(p.dir, "pass"), set, filepath.Join(p.dir, "pass"))
	for name, text := range map[string]string{"pass": script, "snmpd.conf": conf, "1": isOff, "2": isOff, "3": isOff} {
		p.write(t, name, text)
	}
	cmd := exec.CommandContext(t.Context(), "snmpd", "-f", "-C", "-c", filepath.Join(p.dir, "snmpd.conf"), "-Lf", filepath.Join(p.dir, "log"), "-I", "-smux")
	cmd.Env = append(os.Environ(), "SNMP_PERSISTENT_DIR="+p.dir, "SNMPCONFPATH="+p.dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	until(t, "the PDU answers", func() bool {
		_, err := quick().Power(t.Context(), p.target("apc", ""))
		return !errors.Is(err, bmc.ErrNoAnswer) && !errors.Is(err, bmc.ErrClosed)
	})
	return p
}

func (p *pdu) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *pdu) read(outlet string) string {
	b, _ := os.ReadFile(filepath.Join(p.dir, outlet))
	return strings.TrimSpace(string(b))
}

func (p *pdu) target(model, user string) bmc.Target {
	t := bmc.Target{
		Node: "n1", Driver: fleet.DriverPDU, Address: p.addr, Username: user, Password: "private",
		Outlets: fleet.PDUOutlets{Model: model, Outlets: []int{1, 3}},
	}
	if user != "" {
		t.Password = "Secret123Secret1"
	}
	return t
}

func TestAPDUSwitchesTheOutletsOfAMachine(t *testing.T) {
	t.Parallel()
	const apc, apc2, raritan = ".1.3.6.1.4.1.318.1.1.12.3.", ".1.3.6.1.4.1.318.1.1.26.9.2.", ".1.3.6.1.4.1.13742.6.4.1.2.1."
	tests := map[string]struct{ get, set, setOn, setOff, isOn, isOff, user string }{
		"apc":       {apc + "5.1.1.4", apc + "3.1.1.4", "1", "2", "1", "2", ""},
		"apc-rpdu2": {apc2 + "3.1.5", apc2 + "4.1.5", "1", "2", "2", "1", "operator"},
		"raritan":   {raritan + "3.1", raritan + "2.1", "1", "0", "7", "8", ""},
	}
	for model, tt := range tests {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			p := startPDU(t, tt.get, tt.set, tt.setOn, tt.setOff, tt.isOn, tt.isOff)
			target := p.target(model, tt.user)
			c := bmc.New(bmc.Options{Interval: time.Millisecond, Settle: 8 * time.Second, Discharge: time.Millisecond})
			for _, step := range []struct {
				op   fleet.PowerOp
				want string
			}{{fleet.PowerOn, tt.isOn}, {fleet.PowerOff, tt.isOff}, {fleet.PowerReset, tt.isOn}, {fleet.PowerCycle, tt.isOn}} {
				if _, err := c.Switch(t.Context(), target, step.op); err != nil {
					t.Fatalf("power %s: %v", step.op, err)
				}
				if p.read("1") != step.want || p.read("3") != step.want || p.read("2") != tt.isOff {
					t.Errorf("after power %s the outlets are %s, %s, %s", step.op, p.read("1"), p.read("2"), p.read("3"))
				}
			}
			p.write(t, "3", tt.isOff)
			if got, err := c.Power(t.Context(), target); got != fleet.PowerIsUnknown || err != nil {
				t.Errorf("with one outlet on, Power = %s, %v", got, err)
			}
		})
	}
}

func TestWhatIsWrongWithAPDUIsNamed(t *testing.T) {
	t.Parallel()
	const apc = ".1.3.6.1.4.1.318.1.1.12.3."
	p := startPDU(t, apc+"5.1.1.4", apc+"3.1.1.4", "1", "2", "1", "2")
	tests := map[string]struct {
		change func(*bmc.Target)
		want   error
	}{
		"no such outlet":       {func(b *bmc.Target) { b.Outlets.Outlets = []int{9} }, bmc.ErrUnsupported},
		"another community":    {func(b *bmc.Target) { b.Password = "public" }, bmc.ErrNoAnswer},
		"a wrong password":     {func(b *bmc.Target) { b.Username, b.Password = "operator", "Wr0ngPassw0rd" }, bmc.ErrLogin},
		"an unknown user":      {func(b *bmc.Target) { b.Username, b.Password = "nobody", "Secret123Secret1" }, bmc.ErrLogin},
		"objects of another":   {func(b *bmc.Target) { b.Outlets.Model = "raritan" }, bmc.ErrUnsupported},
		"nobody there":         {func(b *bmc.Target) { b.Address = "127.0.0.1:" + freePort(t) }, bmc.ErrClosed},
		"a kind without a MIB": {func(b *bmc.Target) { b.Outlets.Model = "abacus" }, bmc.ErrUnsupported},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			target := p.target("apc", "")
			tt.change(&target)
			_, err := quick().Power(t.Context(), target)
			if !errors.Is(err, tt.want) || fleet.HintOf(err) == "" {
				t.Errorf("Power = %v, want %v", err, tt.want)
			}
		})
	}
	p.write(t, "lying", "")
	if _, err := quick().Switch(t.Context(), p.target("apc", ""), fleet.PowerOn); !errors.Is(err, bmc.ErrNoEffect) {
		t.Errorf("of a PDU that says yes and does nothing: %v, want %v", err, bmc.ErrNoEffect)
	}
}
