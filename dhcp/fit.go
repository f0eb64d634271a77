package dhcp

import "slices"

// needed are the options that an answer is nothing without: they are never
// left out, and stand where the oldest client looks.
var needed = []byte{1, codeVendorInfo, 51, codeOverload, 53, 54, codeVendorClass, codeClientID, 66, 67, codeRelayInfo, 97}

// unwanted are the options that a client misses least, in this order, of those
// that it did not ask for.
var unwanted = []byte{codeHostname, codeDomain, codeNTP, 28, codeDNS, 59, 58, codeRouter}

// fit makes an answer short enough. What does not fit among the options stands
// in the fields sname and file (RFC 2131 §4.1, option 52), and what does not
// fit there is left out: first what the client did not ask for, then what it
// asked for last (RFC 2132 §9.8 has option 55 in the order of preference).
func fit(d *draft, sc *scene) bool {
	limit := sc.maxReply()
	if d.size() <= limit {
		return true
	}
	spare := spareOptions(d, sc.msg.option(55))
	d.overload(spare, limit)
	for _, code := range spare {
		if d.size() <= limit {
			break
		}
		d.unset(code)
	}
	if d.size() > limit {
		d.unset(66) // the address is in siaddr too
	}
	return d.size() <= limit
}

// spareOptions returns the options of a draft that can be left out, the least
// wanted first.
func spareOptions(d *draft, asked []byte) (spare []byte) {
	add := func(code byte) {
		if d.has.contains(code) && !slices.Contains(needed, code) && !slices.Contains(spare, code) {
			spare = append(spare, code)
		}
	}
	for _, code := range unwanted {
		if !slices.Contains(asked, code) {
			add(code)
		}
	}
	for code := range d.has.all {
		if !slices.Contains(asked, code) {
			add(code)
		}
	}
	for _, code := range slices.Backward(asked) {
		add(code)
	}
	return spare
}

// overload moves options into the field sname, and into the field file where
// it is empty, until the rest is short enough. A client that was written for
// BOOTP misses only these.
func (d *draft) overload(spare []byte, limit int) {
	fields := byte(0)
	for _, f := range []struct {
		codes *codeSet
		room  int
		bit   byte
		free  bool
	}{
		{&d.inName, atFile - atName - 1, nameOverloaded, true},
		{&d.inFile, atCookie - atFile - 1, fileOverloaded, d.file == ""},
	} {
		for _, code := range spare {
			size := optionSize(len(d.value[code]))
			if !f.free || d.size() <= limit || size > f.room || d.inName.contains(code) {
				continue
			}
			f.codes.add(code)
			f.room -= size
			fields |= f.bit
			d.setByte(codeOverload, fields)
		}
	}
}
