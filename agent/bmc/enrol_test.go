package bmc_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/agent/bmc"
	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/bmc/bmctest"
)

// startSim starts OpenIPMI's simulator and returns the port that it listens
// on. Its administrator stands for root on the machine: the commands are the
// same.
func startSim(t *testing.T, address string) int {
	t.Helper()
	port, err := strconv.Atoi(bmctest.StartIPMI(t, bmctest.IPMIOptions{Reports: address}).Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// signIn opens a session as administrator.
func signIn(ctx context.Context, port int, user, password string) (*ipmi.Client, error) {
	c, err := ipmi.NewClient("127.0.0.1", port, user, password)
	if err != nil {
		return nil, err
	}
	c.WithCipherSuiteID(types.CipherSuiteID3).WithTimeout(500 * time.Millisecond).WithRetry(1).WithMaxPrivilegeLevel(types.PrivilegeLevelAdministrator)
	return c, c.Connect(ctx)
}

func administrator(t *testing.T, port int) *ipmi.Client {
	t.Helper()
	c, err := signIn(t.Context(), port, bmctest.Username, bmctest.Password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

func TestAnAccountIsMadeThatSignsInOverTheNetwork(t *testing.T) {
	port := startSim(t, "10.77.1.11")
	root := administrator(t, port)
	order := api.BMCOrder{Username: "provision", Password: "Abcdefgh12345678"}
	got, err := bmc.Enrol(t.Context(), root, order)
	if err != nil {
		t.Fatal(err)
	}
	want := api.BMCReport{
		Slot: got.Slot, Channel: 1, Address: "10.77.1.11", Source: "dhcp", MAC: "52:54:00:77:01:0b",
		Manufacturer: 0x1291, Product: 0xf02, Firmware: "9.08", Users: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Slot < 3 {
		t.Errorf("Enrol (-want +got):\n%s", diff)
	}
	for _, password := range []string{order.Password, "Zbcdefgh12345678"} { // the second: as if it was lost
		order.Password = password
		again, err := bmc.Enrol(t.Context(), root, order)
		if err != nil || again.Slot != got.Slot {
			t.Fatalf("again: slot %d, %v, want %d", again.Slot, err, got.Slot)
		}
		c, err := signIn(t.Context(), port, order.Username, order.Password)
		if err != nil {
			t.Fatalf("sign in with what was made: %v", err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := signIn(t.Context(), port, order.Username, "Abcdefgh12345678"); err == nil {
		t.Error("the password of before still signs in")
	}
	if _, err := signIn(t.Context(), port, bmctest.Username, bmctest.Password); err != nil {
		t.Errorf("the administrator's account was changed: %v", err)
	}
}

func TestABMCWithoutAnAddressIsReportedAsSuch(t *testing.T) {
	root := administrator(t, startSim(t, "0.0.0.0"))
	got, err := bmc.Enrol(t.Context(), root, api.BMCOrder{Username: "provision", Password: "Abcdefgh12345678"})
	if err != nil || got.Address != "" || got.Channel != 1 || got.MAC == "" {
		t.Errorf("Enrol = %+v, %v, want the account and no address", got, err)
	}
}

// A picky BMC refuses passwords of one shape, or has no room, or is silent.
type picky struct {
	*ipmi.Client
	passwords error // what it says to all of them
	full      bool
	mute      error
	away      error
	set       int
}

func (p *picky) SetUserPassword(context.Context, uint8, string, bool) (*app.SetUserPasswordResponse, error) {
	return nil, p.passwords
}

func (p *picky) GetDeviceID(ctx context.Context) (*app.GetDeviceIDResponse, error) {
	if p.away != nil {
		return nil, p.away
	}
	return p.Client.GetDeviceID(ctx)
}

func (p *picky) GetUsername(ctx context.Context, slot uint8) (*app.GetUsernameResponse, error) {
	if p.full {
		return &app.GetUsernameResponse{Username: "somebody"}, nil
	}
	if p.mute != nil {
		return nil, p.mute
	}
	return p.Client.GetUsername(ctx, slot)
}

func (p *picky) SetUsername(ctx context.Context, slot uint8, name string) (*app.SetUsernameResponse, error) {
	p.set++
	return p.Client.SetUsername(ctx, slot, name)
}

func TestWhatABMCRefusesIsNamed(t *testing.T) {
	root := administrator(t, startSim(t, "10.77.1.11"))
	order := api.BMCOrder{Username: "provision", Password: "Abcdefgh12345678"}
	tests := map[string]struct {
		bmc   picky
		order api.BMCOrder
		want  fault.Code
	}{
		"a password of this shape": {picky{passwords: types.NewResponseError(0xcc, "invalid data field")}, order, fault.BMCShape},
		"no answer to a password":  {picky{passwords: errors.New("timeout")}, order, fault.BMCRefused},
		"a full table":             {picky{full: true}, order, fault.BMCFull},
		"no answer to a name":      {picky{mute: errors.New("timeout")}, order, fault.BMCRefused},
		"no answer at all":         {picky{away: errors.New("timeout")}, order, fault.BMCAway},
		"a name that is too long":  {picky{}, api.BMCOrder{Username: "provision-of-rack-1", Password: "x"}, fault.BMCRefused},
		"no password":              {picky{}, api.BMCOrder{Username: "provision"}, fault.BMCRefused},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.bmc.Client = root
			_, err := bmc.Enrol(t.Context(), &tt.bmc, tt.order)
			if fault.CodeOf(err) != tt.want {
				t.Errorf("Enrol = %v (%s), want %s", err, fault.CodeOf(err), tt.want)
			}
			if err != nil && strings.Contains(err.Error(), order.Password) {
				t.Errorf("the error shows the password: %v", err)
			}
			if tt.want == fault.BMCFull && tt.bmc.set > 0 {
				t.Error("a slot of somebody else's was taken")
			}
		})
	}
}
