package http

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
	"github.com/rackstage/provision/templates"
)

type renderNode struct {
	Ref string `path:"ref" maxLength:"128" doc:"id, name or MAC; a MAC of a machine that is not known yet too"`
	As  string `query:"as" enum:"ipxe,menu,custom,local,rescue,grub,grub-menu,seed" default:"ipxe" doc:"ipxe: the script that it would be given now"`
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
	files, why, err := s.renderScripts(ctx, n, server, in.As)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.Conflict, Code: "E-RENDER", Op: "render", On: "node " + string(n.MAC), Err: err, Hint: "change the script in site.yaml and apply it"}
	}
	return &reply[api.Rendered]{Body: api.Rendered{Why: why, Files: files}}, nil
}

// renderScripts shows a script for iPXE, for GRUB, or the operator's own for
// both, as far as there is one.
func (s *Server) renderScripts(ctx context.Context, n fleet.Node, server netip.Addr, as string) (files []api.RenderedFile, why string, err error) {
	b, q := boot{s}, bootQuery{UUID: n.UUID, Arch: archOfNode(n)}
	ipxe := &visit{dry: true}
	b.fill(ipxe, pxe.IPXE, n.Addr, server, n.MAC, q)
	if s.shownByHTTPS(n, q.Arch) {
		b.fillSecure(ipxe)
	}
	grub := b.grubVisitor(GRUBRequest{Addr: n.Addr, Server: server, By: pxe.ByHTTP, Asking: true}, n.MAC, q)
	add := func(name string, text []byte, failed error) {
		files, err = append(files, api.RenderedFile{Name: name, Text: string(text)}), errors.Join(err, failed)
	}
	switch as {
	case "ipxe":
		do := b.choose(ipxe)
		if script, ok := ipxe.script(); ok && do == doCustom {
			text, failed := b.custom(ipxe, script)
			add(script.Name+".ipxe", text, failed)
			break
		}
		text, failed := b.compose(ctx, nil, ipxe, do)
		add(string(do)+".ipxe", text, failed)
	case "grub":
		text, failed := b.grubFor(ctx, grub, pxe.ByHTTP)
		add("grub.cfg", text, failed)
	case "grub-menu":
		grub.do = doMenu
		text, failed := b.composeGRUB(ctx, grub, doMenu)
		add("grub.cfg", text, failed)
	case string(doCustom):
		for ext, v := range map[string]*visit{".ipxe": ipxe, ".cfg": grub} {
			if script, ok := v.script(); ok {
				text, failed := b.custom(v, script)
				add(script.Name+ext, text, failed)
			}
		}
		slices.SortFunc(files, func(a, b api.RenderedFile) int { return strings.Compare(b.Name, a.Name) }) // iPXE's first
		if len(files) == 0 {
			err = errors.New("no script of site.yaml is for it")
		}
	default:
		text, failed := b.compose(ctx, nil, ipxe, choice(as))
		add(as+".ipxe", text, failed)
	}
	why = ipxe.plan.Reason
	if ipxe.ask.Secure && as != "grub" && as != "grub-menu" {
		why = strings.TrimPrefix(why+"; for iPXE as UEFI HTTP boot fetches it, by https", "; ")
	}
	return files, why, err
}

// shownByHTTPS reports whether a machine's script for iPXE is shown as its HTTP boot
// fetches it: its PXE, and GRUB, have no TLS.
func (s *Server) shownByHTTPS(n fleet.Node, arch pxe.Arch) bool {
	return arch != pxe.BIOS && s.byHTTPS(n.Addr) && s.quirk(n).HTTP != fleet.HTTPNever
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
