package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unicode/utf16"
)

// prepareHTTPBoot writes into the firmware's variables that it shall boot from
// a URL next, as a BMC tells its firmware. Without a URL the firmware has
// nothing to be told: it finds one by DHCP.
func (b *bay) prepareHTTPBoot(o override) error {
	if o.Device != bootHTTP || o.URL == "" {
		return nil
	}
	if kits[b.Machine.Firmware].vars == "" {
		return fmt.Errorf("machine %s has no UEFI to boot from a URL", b.Machine.Name)
	}
	store, err := os.ReadFile(b.path(varsFile))
	if err != nil {
		return fmt.Errorf("read firmware variables: %w", err)
	}
	const option = 0x0077
	err = errors.Join(
		setVariable(store, fmt.Sprintf("Boot%04X", option), loadOption("Redfish", o.URL)),
		setVariable(store, "BootNext", binary.LittleEndian.AppendUint16(nil, option)))
	if err != nil {
		return fmt.Errorf("set firmware variables of machine %s: %w", b.Machine.Name, err)
	}
	return writeFile(b.path(varsFile), store)
}

// loadOption is an EFI_LOAD_OPTION (UEFI 2.10, 3.1.3) that boots from a URL by
// whichever card can: its device path is a URI alone.
func loadOption(name, url string) []byte {
	const active = 1
	path := append([]byte{3, 24}, binary.LittleEndian.AppendUint16(nil, uint16(4+len(url)))...) // messaging, URI
	path = append(append(path, url...), 0x7f, 0xff, 4, 0)                                       // the end
	o := binary.LittleEndian.AppendUint32(nil, active)
	o = binary.LittleEndian.AppendUint16(o, uint16(len(path)))
	return append(append(o, ucs2(name)...), path...)
}

// ucs2 encodes a text with the zero at its end.
func ucs2(s string) []byte {
	var b []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// The layout of EDK2's variable store: a firmware volume, in it a header and
// authenticated variables, each at a multiple of four.
const (
	volumeHeaderLength = 48 // where the volume's header says how long it is
	storeHeader        = 28
	variableHeader     = 60
	startOfVariable    = 0x55aa
	variableAdded      = 0x3f
	variableDeleted    = 0xfd // a mask
	variableKept       = 7    // non-volatile, for boot services and at run time
)

var (
	authenticatedStore = []byte{0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92}
	globalVariable     = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
)

// setVariable replaces a global variable in a store.
func setVariable(store []byte, name string, value []byte) error {
	free, end, err := walk(store, func(v []byte, variable string) {
		if variable == name {
			v[2] &= variableDeleted
		}
	})
	if err != nil {
		return err
	}
	id := ucs2(name)
	v := binary.LittleEndian.AppendUint16(nil, startOfVariable)
	v = append(v, variableAdded, 0)
	v = binary.LittleEndian.AppendUint32(v, variableKept)
	v = append(v, make([]byte, 8+16+4)...) // count, time and key: for signed ones
	v = binary.LittleEndian.AppendUint32(v, uint32(len(id)))
	v = binary.LittleEndian.AppendUint32(v, uint32(len(value)))
	v = append(append(append(v, globalVariable...), id...), value...)
	if free+len(v) > end {
		return errors.New("the variable store is full")
	}
	copy(store[free:], v)
	return nil
}

// walk calls visit for each global variable that counts, and returns where
// there is room for more.
func walk(store []byte, visit func(v []byte, name string)) (free, end int, err error) {
	wrong := errors.New("this is no variable store of EDK2")
	if len(store) < volumeHeaderLength+2 {
		return 0, 0, wrong
	}
	at := int(binary.LittleEndian.Uint16(store[volumeHeaderLength:]))
	if len(store) < at+storeHeader || !bytes.Equal(store[at:at+16], authenticatedStore) {
		return 0, 0, wrong
	}
	end = at + int(binary.LittleEndian.Uint32(store[at+16:]))
	if end > len(store) {
		return 0, 0, wrong
	}
	for at += storeHeader; at+variableHeader <= end && binary.LittleEndian.Uint16(store[at:]) == startOfVariable; {
		v := store[at:end]
		nameSize, dataSize := int(binary.LittleEndian.Uint32(v[36:])), int(binary.LittleEndian.Uint32(v[40:]))
		if nameSize < 0 || dataSize < 0 || variableHeader+nameSize+dataSize > len(v) {
			return 0, 0, wrong
		}
		if v[2] == variableAdded && bytes.Equal(v[44:60], globalVariable) {
			visit(v, fromUCS2(v[variableHeader:variableHeader+nameSize]))
		}
		at += (variableHeader + nameSize + dataSize + 3) &^ 3
	}
	return at, end, nil
}

func fromUCS2(b []byte) string {
	var units []uint16
	for ; len(b) >= 2 && (b[0] != 0 || b[1] != 0); b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units))
}
