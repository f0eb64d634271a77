package http

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
	"github.com/rackstage/provision/templates"
)

type renderNode struct {
	Ref string `path:"ref" maxLength:"128" doc:"id, name or MAC; a MAC of a machine that is not known yet too"`
	As  string `query:"as" enum:"ipxe,menu,custom,local,grub,seed" default:"ipxe" doc:"ipxe: the script that it would be given now"`
}

// renderNode shows what a machine would be given, to the letter, but for
// tickets: zeros stand in their place, and none is made.
func (s *Server) renderNode(ctx context.Context, in *renderNode) (*reply[api.Rendered], error) {
	n, err := s.nodeOrStranger(in.Ref)
	if err != nil {
		return nil, err
	}
	if in.As == "seed" {
		files, err := s.renderSeed(n)
		return &reply[api.Rendered]{Body: api.Rendered{Files: files}}, err
	}
	server, err := s.shownServer(ctx, n.Addr)
	if err != nil {
		return nil, err
	}
	v := &visit{dry: true}
	s.fill(v, n.Addr, server, n.MAC, bootQuery{UUID: n.UUID, Arch: archOfNode(n)})
	text, what, err := s.renderScript(ctx, v, in.As)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.Conflict, Code: "E-RENDER", Op: "render", On: "node " + v.title, Err: err, Hint: "change the script in site.yaml and apply it"}
	}
	return &reply[api.Rendered]{Body: api.Rendered{Why: v.plan.Reason, Files: []api.RenderedFile{{Name: what, Text: string(text)}}}}, nil
}

func (s *Server) renderScript(ctx context.Context, v *visit, as string) (text []byte, what string, err error) {
	b := boot{s}
	if as == "grub" {
		g := GRUBRequest{Addr: v.ask.Addr, Server: v.ask.Server, By: pxe.ByHTTP, Asking: true}
		ask := v.ask
		ask.Firmware = pxe.GRUB
		text, err = b.grubFor(ctx, g, ask, v.node)
		return text, "grub.cfg", err
	}
	do := choice(as)
	if as == "ipxe" {
		do = b.choose(v)
	}
	what = string(do) + ".ipxe"
	if do != doCustom {
		text, err = b.compose(ctx, nil, v, do)
		return text, what, err
	}
	script, ok := v.site.ScriptFor(v.node, v.ask.MAC)
	if !ok {
		return nil, what, errors.New("no script of site.yaml is for it")
	}
	text, err = b.custom(v, script)
	return text, script.Name + ".ipxe", err
}

// nodeOrStranger returns a node, or a machine of which only the MAC address is
// known.
func (s *Server) nodeOrStranger(ref string) (fleet.Node, error) {
	n, err := s.o.Engine.Node(ref)
	if fleet.KindOf(err) != fleet.NotFound {
		return n, err
	}
	mac, bad := fleet.ParseMAC(ref)
	if bad != nil {
		return n, err
	}
	return fleet.Node{MAC: mac}, nil
}

// shownServer is our address as a machine sees it; of one without an address,
// the one that this request came in on.
func (s *Server) shownServer(ctx context.Context, machine netip.Addr) (netip.Addr, error) {
	if machine.IsValid() && s.o.ServerFor != nil {
		return s.o.ServerFor(machine)
	}
	if local := callerOf(ctx).local; local.IsValid() {
		return s.serverFor(machine, local), nil
	}
	return s.serverFor(machine, netip.IPv4Unspecified()), nil
}

func archOfNode(n fleet.Node) pxe.Arch {
	switch inv := n.Inventory; {
	case inv.Arch == "arm64":
		return pxe.EFIARM64
	case strings.EqualFold(inv.Firmware, "bios"):
		return pxe.BIOS
	default:
		return pxe.EFIX64
	}
}

func (s *Server) renderSeed(n fleet.Node) ([]api.RenderedFile, error) {
	fault := func(err error, hint string) error {
		return &fleet.Error{Kind: fleet.Conflict, Code: "E-RENDER", Op: "render seed", On: "node " + n.Title(), Err: err, Hint: hint}
	}
	pool, ok := s.o.Engine.Site().Pool(n.Pool)
	if !ok || s.o.Seed == nil {
		return nil, fault(errors.New("it is in no pool"), "let it in: provision enrol approve "+n.Title())
	}
	profile, _ := s.o.Engine.Site().Profile(pool.Profile)
	seed, err := s.o.Seed(n, profile)
	if err != nil {
		return nil, fault(err, "nodes get their names from a plan: provision --pool "+string(n.Pool)+" --dry-run")
	}
	files := make([]api.RenderedFile, 0, len(seed))
	for _, f := range seed {
		files = append(files, api.RenderedFile{Name: f.Path, Mode: fmt.Sprintf("%04o", f.Mode), Text: string(f.Data)})
	}
	return files, nil
}

// listTemplates names all that machines are given: ours, and those of the
// site.
func (s *Server) listTemplates(context.Context, *nothing) (*reply[api.TemplateList], error) {
	list := api.TemplateList{Templates: []api.Template{}}
	for _, script := range s.o.Engine.Site().Scripts {
		t := api.Template{Name: script.Name, Kind: "custom", For: append([]string{}, script.Nodes...)}
		for _, p := range script.Pools {
			t.For = append(t.For, "pool "+string(p))
		}
		list.Templates = append(list.Templates, t)
	}
	for _, name := range ipxescripts.Names() {
		list.Templates = append(list.Templates, api.Template{Name: name, Kind: "script"})
	}
	for _, family := range templates.Families() {
		list.Templates = append(list.Templates, api.Template{Name: family, Kind: "seed"})
	}
	return &reply[api.TemplateList]{Body: list}, nil
}
