package inventory

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// dmi returns a text of /sys/class/dmi/id. Firmware is full of texts that
// say nothing; those are dropped, or two machines would seem to be one.
func (m Machine) dmi(name string) string {
	s := m.text("/sys/class/dmi/id/" + name)
	switch strings.ToLower(strings.Trim(s, " .")) {
	case "to be filled by o.e.m", "default string", "not specified", "none", "n/a", "unknown",
		"system serial number", "system product name", "system manufacturer", "no asset tag", "0", "0123456789":
		return ""
	}
	return s
}

// UUID returns the machine's SMBIOS UUID in RFC 9562 form. The raw table is
// asked before the kernel's text of it, because only there it shows whether
// the firmware keeps the order of SMBIOS 2.6 and later.
func (m Machine) UUID() string {
	table, err := os.ReadFile(m.Root + "/sys/firmware/dmi/tables/DMI")
	if err == nil {
		if uuid := uuidFromTable(table); uuid != "" {
			return uuid
		}
	}
	return tidyUUID(m.text("/sys/class/dmi/id/product_uuid"))
}

// uuidFromTable finds the structure of type 1 (System Information) in a raw
// SMBIOS table and returns its UUID.
func uuidFromTable(table []byte) string {
	for len(table) >= 4 {
		kind, length := table[0], int(table[1])
		if length < 4 || length > len(table) || kind == 127 {
			return ""
		}
		if kind == 1 && length >= 24 {
			return formatUUID([16]byte(table[8:24]))
		}
		// Behind the formatted part are texts, ended by two zeros.
		end := bytes.Index(table[length:], []byte{0, 0})
		if end < 0 {
			return ""
		}
		table = table[length+end+2:]
	}
	return ""
}

// formatUUID turns SMBIOS order (first three fields little-endian) around.
// All zeros and all ones mean that there is none.
func formatUUID(raw [16]byte) string {
	le := binary.LittleEndian
	return tidyUUID(fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(raw[0:]), le.Uint16(raw[4:]), le.Uint16(raw[6:]), raw[8:10], raw[10:16]))
}

func tidyUUID(s string) string {
	s = strings.ToLower(s)
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != 16 || bytes.Equal(raw, make([]byte, 16)) || bytes.Equal(raw, bytes.Repeat([]byte{0xff}, 16)) {
		return ""
	}
	return s
}
