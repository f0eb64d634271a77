// Package efi makes the firmware boot from the disk that was just written.
//
// Machines that boot by BIOS need nothing of it. On UEFI the network entries
// stay where they are, behind ours: a node that lost its disk comes back to
// the server by itself.
package efi

import (
	"encoding/binary"
	"errors"
	"unicode/utf16"
)

// A LoadOption is the value of a Boot#### variable (UEFI 2.10 §3.1.3).
type LoadOption struct {
	Description string
	Partition   Partition
	File        string // `\EFI\BOOT\BOOTX64.EFI`
}

// A Partition is where a loader is: a GPT entry.
type Partition struct {
	Number        uint32
	First, Blocks uint64
	GUID          [16]byte // in the order of the table
}

const (
	active = 1 // LOAD_OPTION_ACTIVE

	mediaPath = 4 // device path types (UEFI 2.10 §10.3)
	hardDrive = 1
	filePath  = 4
	endPath   = 0x7f
)

// Encode returns the variable's value, without the attributes that efivarfs
// wants in front of it.
func (o LoadOption) Encode() []byte {
	path := o.devicePath()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, active)
	b = le.AppendUint16(b, uint16(len(path))) // some hundred bytes
	b = appendText(b, o.Description)
	return append(b, path...)
}

// devicePath is the short form that starts at the partition: the firmware
// finds its disk wherever it is plugged in (UEFI 2.10 §3.1.2).
func (o LoadOption) devicePath() []byte {
	le := binary.LittleEndian
	b := []byte{mediaPath, hardDrive, 42, 0}
	b = le.AppendUint32(b, o.Partition.Number)
	b = le.AppendUint64(b, o.Partition.First)
	b = le.AppendUint64(b, o.Partition.Blocks)
	b = append(b, o.Partition.GUID[:]...)
	b = append(b, 2, 2) // GPT; signed by GUID
	file := appendText(nil, o.File)
	b = append(b, mediaPath, filePath)
	b = le.AppendUint16(b, uint16(4+len(file))) // a path of ours
	b = append(b, file...)
	return append(b, endPath, 0xff, 4, 0)
}

func appendText(b []byte, s string) []byte {
	for _, c := range utf16.Encode([]rune(s + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

var errOption = errors.New("not a load option")

// description reads the description out of a Boot#### value, whoever wrote it.
func description(value []byte) (string, error) {
	if len(value) < 8 {
		return "", errOption
	}
	var text []uint16
	for b := value[6:]; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			return string(utf16.Decode(text)), nil
		}
		text = append(text, c)
	}
	return "", errOption
}
