// Package firewall finds out whether the kernel's own firewall would drop a
// packet that machines send to us, or one that we send to them.
//
// It reads the rules as the kernel has them (nftables, which iptables of today
// writes too) and follows a packet through them: [Rules.Drops]. What it does
// not understand, it takes to let the packet pass, so that it accuses no
// firewall wrongly.
package firewall

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Rules are those of this network namespace.
type Rules struct {
	base   []*chain          // that packets to us or of ours run through, in order
	chains map[string]*chain // all, by table and name
}

type chain struct {
	*nftables.Chain
	rules [][]expr.Any
	sets  map[string]*set // of its table
}

// A set is what a rule looks packets up in.
type set struct {
	*nftables.Set
	elements []nftables.SetElement // of an interval, by key
}

// Read reads the rules. It takes CAP_NET_ADMIN.
func Read() (*Rules, error) {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for its firewall: %w", err)
	}
	defer func() { _ = c.CloseLasting() }()
	all, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("read the chains of the firewall: %w", err)
	}
	r := &Rules{chains: make(map[string]*chain)}
	sets := make(map[string]map[string]*set)
	for _, ch := range all {
		in := keyOf(ch.Table, "")
		if sets[in] == nil {
			if sets[in], err = readSets(c, ch.Table); err != nil {
				return nil, err
			}
		}
		one := &chain{Chain: ch, sets: sets[in]}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return nil, fmt.Errorf("read the rules of %s: %w", one, err)
		}
		for _, rule := range rules {
			one.rules = append(one.rules, rule.Exprs)
		}
		r.chains[keyOf(ch.Table, ch.Name)] = one
		if one.isOurs() {
			r.base = append(r.base, one)
		}
	}
	slices.SortStableFunc(r.base, func(a, b *chain) int {
		return cmp.Or(cmp.Compare(*a.Hooknum, *b.Hooknum), cmp.Compare(*a.Priority, *b.Priority))
	})
	return r, nil
}

func readSets(c *nftables.Conn, t *nftables.Table) (map[string]*set, error) {
	all, err := c.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("read the sets of table %s: %w", t.Name, err)
	}
	sets := make(map[string]*set, len(all))
	for _, s := range all {
		elements, err := c.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("read set %s of table %s: %w", s.Name, t.Name, err)
		}
		slices.SortStableFunc(elements, func(a, b nftables.SetElement) int { return slices.Compare(a.Key, b.Key) })
		sets[s.Name] = &set{s, elements}
	}
	return sets, nil
}

func keyOf(t *nftables.Table, chain string) string {
	return fmt.Sprintf("%d %s %s", t.Family, t.Name, chain)
}

// isOurs reports whether packets to or from this machine run through a chain by
// themselves. What translates addresses drops nothing.
func (c *chain) isOurs() bool {
	if c.Hooknum == nil || c.Priority == nil || c.Type == nftables.ChainTypeNAT {
		return false
	}
	return *c.Hooknum == *nftables.ChainHookPrerouting || *c.Hooknum == *nftables.ChainHookInput || c.isForOut()
}

// isForOut reports whether it is for packets that we send.
func (c *chain) isForOut() bool {
	return *c.Hooknum == *nftables.ChainHookOutput || *c.Hooknum == *nftables.ChainHookPostrouting
}

// sees reports whether a chain is for packets of the family.
func (c *chain) sees(six bool) bool {
	switch c.Table.Family {
	case nftables.TableFamilyINet:
		return true
	case nftables.TableFamilyIPv4:
		return !six
	case nftables.TableFamilyIPv6:
		return six
	default:
		return false
	}
}

var families = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
}

// String names it as nft does: "chain inet filter input".
func (c *chain) String() string {
	return fmt.Sprintf("chain %s %s %s", families[c.Table.Family], c.Table.Name, c.Name)
}

// Legacy reports whether there are rules of the old iptables as well, which
// cannot be read so.
func Legacy() bool {
	for _, name := range []string{"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"} {
		tables, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(tables), "filter") {
			return true
		}
	}
	return false
}
