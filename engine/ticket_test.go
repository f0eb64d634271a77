package engine

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// A ticketDesk is a server that can be killed and started again, and one
// machine that says hello to it.
type ticketDesk struct {
	t     *testing.T
	rack  *rack
	store *memoryStore
	e     *Engine
	kill  func()
	media Media // may be nil
}

const deskMAC fleet.MAC = "52:54:00:00:00:01"

var deskAddr = netip.MustParseAddr("10.77.0.10")

func (d *ticketDesk) restart() {
	time.Sleep(time.Second) //nolint:forbidigo // fake time: synctest
	d.kill()
	d.e, d.kill = d.rack.serve(d.store)
	d.e.Media = d.media
}

func (d *ticketDesk) mint() string {
	d.t.Helper()
	secret, err := d.e.MintHello(d.t.Context(), deskMAC, deskAddr)
	if err != nil {
		d.t.Fatal(err)
	}
	return secret
}

// hello redeems a ticket with a key and returns the code of what went wrong.
func (d *ticketDesk) hello(secret, key string) string {
	_, err := d.e.Hello(d.t.Context(), fleet.Hello{Ticket: secret, Key: fleet.HashSecret(key), Addr: deskAddr, BootID: "b", MAC: deskMAC})
	return string(fleet.CodeOf(err))
}

func (d *ticketDesk) state() fleet.State {
	n, _ := d.e.NodeByMAC(deskMAC)
	return n.State
}

func (d *ticketDesk) want(what, got, want string) {
	d.t.Helper()
	if got != want {
		d.t.Errorf("%s = %q, want %q", what, got, want)
	}
}

func TestTicketsAreGoodOnce(t *testing.T) {
	tests := map[string]func(d *ticketDesk){
		"a ticket outlives the server that made it": func(d *ticketDesk) {
			a := d.mint()
			d.restart()
			d.want("hello", d.hello(a, "mine"), "")
		},
		"its holder may repeat itself after a restart": func(d *ticketDesk) {
			a := d.mint()
			d.want("hello", d.hello(a, "mine"), "")
			d.restart()
			d.want("hello again", d.hello(a, "mine"), "")
			d.want("state", string(d.state()), string(fleet.Ready))
		},
		"a second one is found out after a restart": func(d *ticketDesk) {
			a := d.mint()
			d.want("hello", d.hello(a, "mine"), "")
			d.restart()
			d.want("thief", d.hello(a, "thief"), "E-TICKET")
			d.want("state", string(d.state()), string(fleet.Quarantined))
		},
		"a machine that boots again has a newer ticket": func(d *ticketDesk) {
			for _, key := range []string{"first", "second"} {
				d.want("hello", d.hello(d.mint(), key), "")
				d.restart()
			}
			d.want("state", string(d.state()), string(fleet.Ready))
		},
		"the first of two scripts, after the second was used": func(d *ticketDesk) {
			a, b := d.mint(), d.mint()
			d.restart()
			d.want("hello", d.hello(b, "mine"), "")
			d.want("thief", d.hello(a, "thief"), "E-TICKET")
			d.want("state", string(d.state()), string(fleet.Quarantined))
		},
		"the second of two scripts, after the first was stolen": func(d *ticketDesk) {
			a, b := d.mint(), d.mint()
			d.want("thief", d.hello(a, "thief"), "")
			d.restart()
			d.want("hello", d.hello(b, "mine"), "E-TICKET")
			d.want("state", string(d.state()), string(fleet.Quarantined))
		},
		"an older ticket in the same hands is no theft": func(d *ticketDesk) {
			a, b := d.mint(), d.mint()
			d.want("hello", d.hello(b, "mine"), "")
			d.want("older", d.hello(a, "mine"), "E-TICKET")
			d.want("state", string(d.state()), string(fleet.Ready))
		},
		"an expired one": func(d *ticketDesk) {
			a := d.mint()
			time.Sleep(helloLife + time.Second) //nolint:forbidigo // fake time: synctest
			d.want("hello", d.hello(a, "mine"), "E-TICKET")
		},
		"one that was changed": func(d *ticketDesk) {
			a := []byte(d.mint())
			for i := range a {
				b := append([]byte(nil), a...)
				b[i] ^= 1
				if code := d.hello(string(b), "mine"); code != "E-TICKET" {
					d.t.Errorf("with byte %d changed: %q, want E-TICKET", i, code)
				}
			}
			d.want("none", d.hello("", "mine"), "E-TICKET")
		},
		"one of another server": func(d *ticketDesk) {
			d.want("hello", d.hello(newTickets(nil).make(deskMAC, deskAddr), "mine"), "E-TICKET")
		},
		"making one stores nothing": func(d *ticketDesk) {
			before := d.store.saves
			d.mint()
			if d.store.saves != before {
				d.t.Errorf("%d changes were stored", d.store.saves-before)
			}
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				d := &ticketDesk{t: t, rack: newRack(ctx, t, 0), store: &memoryStore{world: fleet.World{Site: testSite()}}}
				d.e, d.kill = d.rack.serve(d.store)
				test(d)
				d.kill()
				stop()
				synctest.Wait()
			})
		})
	}
}

// The clock was set back between two lives of the server: what was given out
// in the first one is from a time that has not come.
func TestATicketFromTheFutureIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := []byte("key")
		before := newTickets(key)
		before.reached(time.Now().Add(time.Hour).UnixNano())
		secret := before.make(deskMAC, deskAddr)
		if _, _, err := before.open(secret, deskMAC, deskAddr); err != nil {
			t.Errorf("open by its maker: %v", err)
		}
		if _, _, err := newTickets(key).open(secret, deskMAC, deskAddr); fleet.CodeOf(err) != "E-TICKET" {
			t.Errorf("open an hour before it was made = %v, want E-TICKET", err)
		}
	})
}

func FuzzNoTextIsATicket(f *testing.F) {
	desk := newTickets([]byte("key"))
	f.Add(desk.make("52:54:00:00:00:02", deskAddr))
	f.Add("")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, secret string) {
		if ticket, _, err := desk.open(secret, deskMAC, deskAddr); err == nil {
			t.Errorf("open(%q) = %+v", secret, ticket)
		}
	})
}

func BenchmarkMintHello(b *testing.B) {
	desk := newTickets([]byte("key"))
	b.ReportAllocs()
	for b.Loop() {
		_ = desk.make(deskMAC, deskAddr)
	}
}
