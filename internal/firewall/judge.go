package firewall

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// A verdict is what becomes of a packet.
type verdict int

const (
	goOn     verdict = iota // with the next rule
	back                    // to the chain that jumped here
	accepted                // by this base chain
	dropped
	unsure // what would decide is something that we do not understand
)

// A fit is whether a rule is for a packet.
type fit int

const (
	fits fit = iota
	misfits
	mayFit
)

// maxDepth is how deep the kernel lets chains jump.
const maxDepth = 16

// Drops reports whether a packet is dropped for certain, and by which chain.
func (r *Rules) Drops(p Packet) (where string, drops bool) {
	for _, c := range r.base {
		if !c.sees(p.six()) || c.isForOut() != p.Out {
			continue
		}
		where = c.String()
		v, by := r.through(c, &p, 0)
		if (v == goOn || v == back) && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
			return where + " (policy drop)", true
		}
		switch v {
		case dropped:
			return by, true
		case unsure:
			return "", false
		case accepted, goOn, back:
		}
	}
	return "", false
}

// through follows a packet through the rules of a chain.
func (r *Rules) through(c *chain, p *Packet, depth int) (v verdict, by string) {
	if depth > maxDepth {
		return unsure, ""
	}
	for _, rule := range c.rules {
		decision, how := c.apply(rule, p)
		if how == misfits || decision == nil {
			continue
		}
		v, by = r.decide(c, decision, p, depth)
		switch {
		case v == goOn:
		case how == fits:
			return v, by
		case v != dropped: // it might be let through here
			return unsure, ""
		}
	}
	return goOn, ""
}

// decide does what a rule says.
func (r *Rules) decide(c *chain, d *expr.Verdict, p *Packet, depth int) (verdict, string) {
	switch d.Kind {
	case expr.VerdictAccept:
		return accepted, ""
	case expr.VerdictDrop:
		return dropped, c.String()
	case expr.VerdictReturn:
		return back, ""
	case expr.VerdictJump, expr.VerdictGoto:
		to := r.chains[keyOf(c.Table, d.Chain)]
		if to == nil {
			return unsure, ""
		}
		v, by := r.through(to, p, depth+1)
		if v == back {
			v = goOn
		}
		if v == goOn && d.Kind == expr.VerdictGoto {
			v = back // it does not come back here
		}
		return v, by
	case expr.VerdictContinue, expr.VerdictBreak:
		return goOn, ""
	default: // a program decides
		return unsure, ""
	}
}

var (
	drop = &expr.Verdict{Kind: expr.VerdictDrop}
	ask  = &expr.Verdict{Kind: expr.VerdictQueue} // somebody else than us
)

// apply runs a rule on a packet. It returns what the rule decides, if
// anything, and whether it is for that packet.
func (c *chain) apply(rule []expr.Any, p *Packet) (*expr.Verdict, fit) {
	var r registers
	how := fits
	for _, e := range rule {
		var now fit
		switch e := e.(type) {
		case *expr.Verdict:
			return e, how
		case *expr.Reject:
			return drop, how
		case *expr.Target:
			if e.Name == "REJECT" {
				return drop, how
			}
			continue // it marks, counts or logs
		case *expr.Lookup:
			var found *expr.Verdict
			found, now = c.lookUp(e, &r)
			switch isVerdict := e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT; {
			case isVerdict && now == mayFit:
				return ask, mayFit
			case found != nil:
				return found, how
			}
		default:
			now = step(e, p, &r)
		}
		if now == misfits {
			return nil, misfits
		}
		how = max(how, now)
	}
	return nil, how
}

// step runs what neither decides nor looks anything up.
func step(e expr.Any, p *Packet, r *registers) fit {
	switch e := e.(type) {
	case *expr.Meta:
		if !e.SourceRegister {
			r.set(e.Register, p.meta(e.Key))
		}
	case *expr.Payload:
		if e.OperationType == expr.PayloadLoad {
			r.set(e.DestRegister, p.payload(e))
		}
	case *expr.Ct:
		if e.SourceRegister {
			return fits
		}
		r.set(e.Register, nil)
		if e.Key == expr.CtKeySTATE {
			r.set(e.Register, native(p.state()))
		}
	case *expr.Immediate:
		r.set(e.Register, e.Data)
	case *expr.Bitwise:
		r.set(e.DestRegister, masked(e, r))
	case *expr.Cmp:
		return compared(e, r)
	case *expr.Range:
		return ranged(e, r)
	case *expr.Limit:
		return when(!e.Over) // of one packet there are not too many
	case *expr.Match:
		return matched(e, p)
	case *expr.Counter, *expr.Log, *expr.Notrack, *expr.Objref:
	case *expr.Fib:
		r.set(e.Register, nil)
	case *expr.Byteorder:
		r.set(e.DestRegister, nil)
	default:
		return mayFit
	}
	return fits
}

func when(is bool) fit {
	if is {
		return fits
	}
	return misfits
}

func masked(e *expr.Bitwise, r *registers) []byte {
	src := r.get(e.SourceRegister, int(e.Len))
	if src == nil || len(e.Mask) < len(src) || len(e.Xor) < len(src) {
		return nil
	}
	out := bytes.Clone(src)
	for i := range out {
		out[i] = out[i]&e.Mask[i] ^ e.Xor[i]
	}
	return out
}

func compared(e *expr.Cmp, r *registers) fit {
	has := r.get(e.Register, len(e.Data))
	if has == nil {
		return mayFit
	}
	diff := bytes.Compare(has, e.Data)
	switch e.Op {
	case expr.CmpOpEq:
		return when(diff == 0)
	case expr.CmpOpNeq:
		return when(diff != 0)
	case expr.CmpOpLt:
		return when(diff < 0)
	case expr.CmpOpLte:
		return when(diff <= 0)
	case expr.CmpOpGt:
		return when(diff > 0)
	case expr.CmpOpGte:
		return when(diff >= 0)
	default:
		return mayFit
	}
}

func ranged(e *expr.Range, r *registers) fit {
	has := r.get(e.Register, len(e.FromData))
	if has == nil {
		return mayFit
	}
	in := bytes.Compare(has, e.FromData) >= 0 && bytes.Compare(has, e.ToData) <= 0
	return when(in == (e.Op == expr.CmpOpEq))
}

// lookUp looks a value up in a set, or in a map of verdicts.
func (c *chain) lookUp(e *expr.Lookup, r *registers) (*expr.Verdict, fit) {
	s := c.sets[e.SetName]
	if s == nil || s.Interval && s.Concatenation {
		return nil, mayFit
	}
	if len(s.elements) == 0 {
		return nil, when(e.Invert)
	}
	has := r.get(e.SourceRegister, len(s.elements[0].Key))
	if has == nil {
		return nil, mayFit
	}
	el, in := s.find(has)
	isMap := e.IsDestRegSet
	switch {
	case !isMap:
		return nil, when(in != e.Invert)
	case !in:
		return nil, misfits
	case e.DestRegister == unix.NFT_REG_VERDICT:
		return verdictOf(el.Val), fits
	default:
		r.set(e.DestRegister, el.Val)
		return nil, fits
	}
}

// verdictOf reads what a map of verdicts has for a value, as the kernel wrote
// it: attributes, each with length and type in front (nf_tables.h,
// nft_verdict_attributes).
func verdictOf(b []byte) *expr.Verdict {
	v := *ask
	for len(b) >= attrHeader {
		n, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if n < attrHeader || n > len(b) {
			return ask
		}
		switch value := b[attrHeader:n]; {
		case kind == unix.NFTA_VERDICT_CODE && len(value) == 4:
			v.Kind = expr.VerdictKind(int32(binary.BigEndian.Uint32(value))) //nolint:gosec // that is how it is written
		case kind == unix.NFTA_VERDICT_CHAIN:
			v.Chain = string(bytes.TrimRight(value, "\x00"))
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return &v
}

const attrHeader = 4

// find returns the element that a value is, or whose interval it is in.
func (s *set) find(value []byte) (el nftables.SetElement, in bool) {
	i, exact := slices.BinarySearchFunc(s.elements, value, func(el nftables.SetElement, v []byte) int { return bytes.Compare(el.Key, v) })
	if !s.Interval {
		if !exact {
			return el, false
		}
		return s.elements[i], true
	}
	for i < len(s.elements) && bytes.Equal(s.elements[i].Key, value) {
		i++ // where one interval ends and the next begins, both have the key
	}
	if i == 0 {
		return el, false
	}
	// Of two with the same key, the one that begins counts.
	last := s.elements[i-1]
	if last.IntervalEnd && i > 1 && bytes.Equal(s.elements[i-2].Key, last.Key) {
		last = s.elements[i-2]
	}
	return last, !last.IntervalEnd
}

// matched runs a match of iptables.
func matched(e *expr.Match, p *Packet) fit {
	switch info := e.Info.(type) {
	case *xt.Udp:
		if p.TCP {
			return misfits
		}
		return when(portIn(p.From.Port(), info.SrcPorts, info.InvFlags&xt.UdpInvSrcPorts != 0) &&
			portIn(p.To.Port(), info.DstPorts, info.InvFlags&xt.UdpInvDestPorts != 0))
	case *xt.Tcp:
		if !p.TCP {
			return misfits
		}
		if info.Option != 0 || info.FlagsMask != 0 {
			return mayFit
		}
		return when(portIn(p.From.Port(), info.SrcPorts, info.InvFlags&xt.TcpInvSrcPorts != 0) &&
			portIn(p.To.Port(), info.DstPorts, info.InvFlags&xt.TcpInvDestPorts != 0))
	case *xt.ConntrackMtinfo3:
		if info.MatchFlags != uint16(xt.ConntrackState) && info.MatchFlags != uint16(xt.ConntrackState|xt.ConntrackStateAlias) {
			return mayFit
		}
		in := uint32(info.StateMask)&p.state() != 0
		return when(in != (info.InvertFlags&uint16(xt.ConntrackState) != 0))
	}
	if e.Name == "comment" {
		return fits
	}
	return mayFit
}

func portIn(port uint16, ports [2]uint16, invert bool) bool {
	return (port >= ports[0] && port <= ports[1]) != invert
}
