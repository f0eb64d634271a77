package engine

import (
	"context"
	"errors"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/fleet"
)

// discs says where every BMC finds its CD image; "": nowhere.
type discs string

// MediaURL implements Media.
func (d discs) MediaURL(_ context.Context, _ fleet.Node, secret string) (string, error) {
	if d == "" {
		return "", &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeMediaImage, Hint: "build one", Err: errors.New("no kernel")}
	}
	return string(d) + secret, nil
}

const ourDiscs discs = "http://10.77.1.1/boot/media/"

// A mediaRack is one machine that runs boot from a CD image, and all that was
// written down about it.
type mediaRack struct {
	*rack
	e      *Engine
	m      *machine
	kill   func()
	store  *memoryStore
	events func() string
}

func withMediaRack(t *testing.T, test func(t *testing.T, r *mediaRack)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := &mediaRack{rack: newRack(ctx, t, 1), store: &memoryStore{world: fleet.World{Site: testSite()}}}
		r.store.world.Site.Rules[0].BMC.Boot = fleet.BootMedia
		r.m = r.machines[deskMAC]
		r.e, r.kill = r.serve(r.store)
		r.e.Media = ourDiscs
		events, end := r.e.Subscribe()
		var said strings.Builder
		r.events = func() string {
			synctest.Wait()
			for {
				select {
				case ev := <-events:
					said.WriteString(ev.Text + "\n")
				default:
					return said.String()
				}
			}
		}
		r.enrol(r.e)
		test(t, r)
		end()
		r.kill()
		stop()
		synctest.Wait()
	})
}

func (r *mediaRack) drive() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m.disc
}

func TestARunBootsANodeFromACDImageOfOurs(t *testing.T) {
	withMediaRack(t, func(t *testing.T, r *mediaRack) {
		run := start(t, r.e)
		var secret string
		for secret == "" {
			<-r.e.Changed()
			secret = strings.TrimPrefix(r.drive(), string(ourDiscs))
		}
		if m, err := r.e.OpenMedia(secret); err != nil || m.Node.MAC != deskMAC || m.Hello == "" || m.Hello == secret {
			t.Errorf("OpenMedia = %+v, %v", m, err)
		}
		if run = over(t, r.e, run.ID); run.State != fleet.RunDone {
			t.Errorf("run is %s: %+v", run.State, run.Nodes)
		}
		if in := r.drive(); in != "" {
			t.Errorf("%q is still in its drive", in)
		}
		if _, err := r.e.OpenMedia(secret); fleet.CodeOf(err) != "E-TICKET" {
			t.Errorf("after the boot, OpenMedia = %v", err)
		}
		said := r.events()
		for _, want := range []string{"next boot from a CD image of ours", "power media-eject"} {
			if !strings.Contains(said, want) {
				t.Errorf("nothing was written down of %q:\n%s", want, said)
			}
		}
		if strings.Contains(said, secret) {
			t.Errorf("the secret of its image was written down:\n%s", said)
		}
	})
}

func TestARunThatFailsLeavesNoCDImage(t *testing.T) {
	tests := map[string]struct {
		change func(r *mediaRack)
		code   fleet.Code
	}{
		"its BMC never reads it":   {func(r *mediaRack) { r.m.deaf = true }, fleet.CodeMediaUnread},
		"there is none":            {func(r *mediaRack) { r.e.Media = discs("") }, fleet.CodeMediaImage},
		"the answer to it is lost": {func(r *mediaRack) { r.m.mute = true }, fleet.CodeBMCTimeout},
		"nothing can be taken out": {func(r *mediaRack) { r.m.stuck = true }, fleet.CodeBMCNoEffect},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			withMediaRack(t, func(t *testing.T, r *mediaRack) {
				r.mu.Lock()
				tt.change(r)
				r.mu.Unlock()
				run := over(t, r.e, start(t, r.e).ID)
				if got := run.Nodes[0].Failure; got.Code != tt.code || got.Hint == "" {
					t.Errorf("run failed with %+v, want %s and what to do", got, tt.code)
				}
				in := r.drive()
				if (in != "") != r.m.stuck {
					t.Errorf("in its drive is %q", in)
				}
				secret := path.Base(in)
				if _, err := r.e.OpenMedia(secret); err == nil {
					t.Error("its image can still be read")
				}
				if said := r.events(); r.m.stuck && strings.Contains(said, secret) {
					t.Errorf("the secret of its image was written down:\n%s", said)
				}
			})
		})
	}
}

func TestAPlanNamesABMCThatShowsNoCDs(t *testing.T) {
	withMediaRack(t, func(t *testing.T, r *mediaRack) {
		err := r.e.update(t.Context(), func(tx *tx) error {
			n := r.e.Nodes()[0]
			n.BMC.Driver = fleet.DriverIPMI
			tx.put(n)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.e.Plan(t.Context(), "prd")
		if err != nil || !strings.Contains(p.Items[0].Reason, string(fleet.CodeMediaNone)) {
			t.Errorf("Plan = %+v, %v", p.Items, err)
		}
		run := over(t, r.e, start(t, r.e).ID)
		if got := run.Nodes[0].Failure; got.Code != fleet.CodeMediaNone {
			t.Errorf("run failed with %+v, want %s", got, fleet.CodeMediaNone)
		}
	})
}

func TestTheRescueSystemIsShownAsACDToo(t *testing.T) {
	withMediaRack(t, func(t *testing.T, r *mediaRack) {
		ref := string(deskMAC)
		if _, err := r.e.Rescue(t.Context(), "tester", ref, true); err != nil {
			t.Fatal(err)
		}
		m, err := r.e.OpenMedia(strings.TrimPrefix(r.drive(), string(ourDiscs)))
		if err != nil || m.Node.State != fleet.Rescue {
			t.Errorf("OpenMedia = %s, %v", m.Node.State, err)
		}
		if _, err := r.e.EndRescue(t.Context(), "tester", ref, true); err != nil {
			t.Fatal(err)
		}
		if in := r.drive(); in != "" {
			t.Errorf("%q is still in its drive", in)
		}
	})
}

// byHand has a node's BMC show a CD image as people do it, and returns the
// secret of the image and the ticket on it.
func (d *ticketDesk) byHand() (secret, hello string) {
	d.t.Helper()
	if _, err := d.e.Power(d.t.Context(), "tester", string(deskMAC), fleet.PowerOrder{Op: fleet.MediaNext}); err != nil {
		d.t.Fatal(err)
	}
	d.rack.mu.Lock()
	secret = path.Base(d.rack.machines[deskMAC].disc)
	d.rack.mu.Unlock()
	m, err := d.e.OpenMedia(secret)
	if err != nil {
		d.t.Fatal(err)
	}
	return secret, m.Hello
}

func (d *ticketDesk) read(secret string) string {
	_, err := d.e.OpenMedia(secret)
	return string(fleet.CodeOf(err))
}

func TestTheTicketOfACDImageIsGoodOnce(t *testing.T) {
	tests := map[string]func(d *ticketDesk){
		"image and ticket outlive the server": func(d *ticketDesk) {
			secret, hello := d.byHand()
			d.restart()
			d.want("reading", d.read(secret), "")
			d.want("hello", d.hello(hello, "mine"), "")
			d.want("reading after hello", d.read(secret), "E-TICKET")
			d.want("hello again", d.hello(hello, "mine"), "")
			d.restart()
			d.want("reading after a restart", d.read(secret), "E-TICKET")
			d.want("hello after a restart", d.hello(hello, "mine"), "")
			d.want("state", string(d.state()), string(fleet.Ready))
		},
		"the image is taken out after the hello": func(d *ticketDesk) {
			_, hello := d.byHand()
			d.want("hello", d.hello(hello, "mine"), "")
			synctest.Wait()
			if in := d.rack.machines[deskMAC].disc; in != "" {
				d.t.Errorf("in its drive is %q", in)
			}
		},
		"a second one is found out": func(d *ticketDesk) {
			_, hello := d.byHand()
			d.want("hello", d.hello(hello, "mine"), "")
			d.want("thief", d.hello(hello, "thief"), "E-TICKET")
			d.want("state", string(d.state()), string(fleet.Quarantined))
		},
		"an image that was taken out": func(d *ticketDesk) {
			secret, hello := d.byHand()
			if _, err := d.e.Power(d.t.Context(), "tester", string(deskMAC), fleet.PowerOrder{Op: fleet.MediaEject}); err != nil {
				d.t.Fatal(err)
			}
			d.want("reading", d.read(secret), "E-TICKET")
			d.want("hello", d.hello(hello, "mine"), "E-TICKET")
			d.want("state", string(d.state()), string(fleet.Ready))
		},
		"an image before the last": func(d *ticketDesk) {
			old, oldHello := d.byHand()
			secret, hello := d.byHand()
			d.want("reading the old one", d.read(old), "E-TICKET")
			d.want("hello with the old one", d.hello(oldHello, "mine"), "E-TICKET")
			d.want("reading", d.read(secret), "")
			d.want("hello", d.hello(hello, "mine"), "")
		},
		"a boot from the network in place of the image": func(d *ticketDesk) {
			secret, _ := d.byHand()
			d.want("hello", d.hello(d.mint(), "mine"), "")
			d.want("reading", d.read(secret), "E-TICKET")
			synctest.Wait()
			if in := d.rack.machines[deskMAC].disc; in != "" {
				d.t.Errorf("in its drive is %q", in)
			}
		},
		"an image that has expired": func(d *ticketDesk) {
			secret, hello := d.byHand()
			time.Sleep(mediaLife + time.Second) //nolint:forbidigo // fake time: synctest
			d.want("reading", d.read(secret), "E-TICKET")
			d.want("hello", d.hello(hello, "mine"), "E-TICKET")
		},
		"its cable is in another of its cards": func(d *ticketDesk) {
			const other fleet.MAC = "52:54:00:00:00:aa"
			err := d.e.update(d.t.Context(), func(t *tx) error {
				n := d.e.Nodes()[0]
				n.MACs = append(n.MACs, other)
				t.put(n)
				return nil
			})
			if err != nil {
				d.t.Fatal(err)
			}
			_, onDisc := d.byHand()
			fromNet := d.mint()
			say := func(secret string, mac fleet.MAC, key string) string {
				_, err := d.e.Hello(d.t.Context(), fleet.Hello{Ticket: secret, Key: fleet.HashSecret(key), Addr: deskAddr, BootID: "b", MAC: mac, Inventory: fleet.Inventory{NICs: []fleet.NIC{{MAC: other}}}})
				return string(fleet.CodeOf(err))
			}
			d.want("hello of a boot from the network", say(fromNet, other, "mine"), "E-TICKET")
			d.want("hello of a stranger's card", say(onDisc, "52:54:00:00:00:bb", "mine"), "E-TICKET")
			d.want("hello", say(onDisc, other, "mine"), "")
			d.want("thief", say(onDisc, other, "thief"), "E-TICKET")
			d.want("state", string(d.state()), string(fleet.Quarantined))
		},
		"a secret is no ticket": func(d *ticketDesk) {
			secret, hello := d.byHand()
			d.want("hello with the secret", d.hello(secret, "mine"), "E-TICKET")
			d.want("reading with the ticket", d.read(hello), "E-TICKET")
		},
		"a ticket of the network stays bound to its address": func(d *ticketDesk) {
			if _, err := d.e.MintHello(d.t.Context(), deskMAC, deskAddr.Prev()); err != nil {
				d.t.Fatal(err)
			}
			other, _ := d.e.MintHello(d.t.Context(), deskMAC, deskAddr.Prev())
			d.want("hello from another address", d.hello(other, "mine"), "E-TICKET")
			if _, err := d.e.MintHello(d.t.Context(), deskMAC, deskAddr.Next().Next()); err != nil {
				d.t.Fatal(err)
			}
		},
		"an image for each boot from now on": func(d *ticketDesk) {
			_, err := d.e.Power(d.t.Context(), "tester", string(deskMAC), fleet.PowerOrder{Op: fleet.MediaNext, Persist: true})
			d.want("kind", string(fleet.KindOf(err)), string(fleet.Invalid))
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				d := &ticketDesk{t: t, rack: newRack(ctx, t, 1), store: &memoryStore{world: fleet.World{Site: testSite()}}, media: ourDiscs}
				d.e, d.kill = d.rack.serve(d.store)
				d.e.Media = d.media
				d.want("first hello", d.hello(d.mint(), "first"), "")
				d.rack.machines[deskMAC].node = d.e.Nodes()[0].ID
				if err := d.giveBMC(); err != nil {
					t.Fatal(err)
				}
				test(d)
				d.kill()
				stop()
				synctest.Wait()
			})
		})
	}
}

// giveBMC gives the machine's node a BMC.
func (d *ticketDesk) giveBMC() error {
	return d.e.update(d.t.Context(), func(t *tx) error {
		n := d.e.Nodes()[0]
		n.BMC.Address, n.BMC.Driver, n.Inventory.BMC.Address = bmcAddress, fleet.DriverRedfish, bmcAddress
		t.put(n)
		return nil
	})
}

// BMCs repeat the URLs that they were given, each in its way.
func TestTheSecretOfACDImageIsInNoError(t *testing.T) {
	const secret = "Abcdefghijklmnopqrstuvwxyz-0123456789_ABCDE"
	tests := map[string]struct {
		said  string
		known bool
	}{
		"as it is":              {"cannot read http://10.0.0.1/media/" + secret + "/boot.iso", false},
		"escaped":               {"http%3A%2F%2F10.0.0.1%2fmedia%2f" + secret + "%2Fboot.iso", false},
		"escaped twice":         {"http%253A%252F%252F10.0.0.1%252Fmedia%252F" + secret, false},
		"as in JSON":            {`"http:\/\/10.0.0.1\/media\/` + secret + `\/boot.iso"`, false},
		"with its end cut off":  {"cannot read http://10.0.0.1/media/" + secret[:40], false},
		"without its beginning": {"no file " + secret + " there", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var known []string
			if tt.known {
				known = []string{secret}
			}
			err := masked(&fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeBMCRejected, Hint: tt.said, Err: errors.New(tt.said)}, known...)
			if got := err.Error() + fleet.HintOf(err); strings.Contains(got, secret[:20]) || fleet.CodeOf(err) != fleet.CodeBMCRejected || fleet.KindOf(err) != fleet.Conflict {
				t.Errorf("it says %s (%s)", got, fleet.CodeOf(err))
			}
		})
	}
	if plain := errors.New("no answer from /media/"); !errors.Is(masked(plain, secret), plain) {
		t.Errorf("what says nothing secret is %v", masked(plain, secret))
	}
}
