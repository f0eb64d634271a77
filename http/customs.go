package http

import (
	"errors"
	"sync"

	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
)

// customs keeps the operator's scripts as they were read: each once, as long
// as its text stays the same.
type customs struct {
	mu     sync.Mutex
	byText map[string]*ipxescripts.Custom
}

// maxCustoms is how many texts are kept: those of a site and of the ones
// before it.
const maxCustoms = 8192

func newCustoms() *customs { return &customs{byText: map[string]*ipxescripts.Custom{}} }

func (c *customs) read(script fleet.Script, loader pxe.Firmware) (*ipxescripts.Custom, error) {
	text, compile := textOf(script, loader), ipxescripts.Compile
	if loader == pxe.GRUB {
		compile = ipxescripts.CompileGRUB
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if custom, ok := c.byText[text]; ok {
		return custom, nil
	}
	custom, err := compile(script.Name, text)
	if err != nil {
		return nil, err
	}
	if len(c.byText) >= maxCustoms {
		clear(c.byText)
	}
	c.byText[text] = custom
	return custom, nil
}

// custom fills the operator's script in for a visitor. Links to private files
// are made only when the script is really given out.
func (b boot) custom(v *visit, script fleet.Script) ([]byte, error) {
	custom, err := b.customs.read(script, v.ask.Firmware)
	if err != nil {
		return nil, err
	}
	fact := func(s string) ipxescripts.Fact { return ipxescripts.Fact(s) }
	n, files, own := v.node, v.ask.BaseURL()+pxe.PathFiles, func(do choice) ipxescripts.URL {
		return ipxescripts.URL(pxe.ScriptURL(v.ask.BaseURL(), string(v.ask.MAC), "") + "&do=" + string(do))
	}
	if v.ask.Firmware == pxe.GRUB {
		files, own = v.grub.device+pxe.PathFiles, func(do choice) ipxescripts.URL { return ipxescripts.URL(v.grubFile(do)) }
	}
	return custom.Render(ipxescripts.Facts{
		Name: fact(n.Name), MAC: fact(string(v.ask.MAC)), UUID: fact(v.ask.UUID),
		Stage: fact(string(n.Stage)), Pool: fact(string(n.Pool)), Role: fact(string(n.Role)), State: fact(string(n.State)),
		Vendor: fact(n.Inventory.Vendor), Product: fact(n.Inventory.Product), Serial: fact(n.Inventory.Serial),
		Address: fact(v.ask.Addr.String()), Server: fact(v.ask.Server.String()), Platform: fact(platform(v.ask.Arch)),
		Files: fact(files), Agent: own(doAgent), Local: own(doLocal),
		Private: func(name string) (string, error) { return b.privateURL(v, name) },
	})
}

// privateURL returns a one-use URL for a private file. It is for a machine
// that a person or a rule let in, at an address that we gave to its card.
func (b boot) privateURL(v *visit, name string) (string, error) {
	if err := b.links.check(name); err != nil {
		return "", err
	}
	at := v.ask.BaseURL()
	if v.ask.Firmware == pxe.GRUB {
		at = "(http," + hostPort(v.ask) + ")" // by HTTP also where the rest comes by TFTP
	}
	if v.dry {
		return at + linkPath(noTicket, name), nil
	}
	if !v.node.Approved || !b.leasedTo(v.ask.MAC, v.ask.Addr) {
		return "", errors.New("private files are for approved nodes with a lease of this server")
	}
	path, err := b.links.make(name, v.ask.Addr)
	return at + path, err
}
