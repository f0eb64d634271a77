package efi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// globalVariable is the vendor GUID of Boot#### and BootOrder.
const globalVariable = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

// attributes: non-volatile, boot service access, run-time access.
const attributes = 7

// Vars is a folder with the firmware's variables, as efivarfs shows them.
type Vars struct {
	Dir string
}

// BootFirst makes o the first thing that the firmware boots. An entry of the
// same description is used again, the others keep their order behind it. It
// returns the name of the entry.
func (v Vars) BootFirst(o LoadOption) (string, error) {
	taken, err := v.entries()
	if err != nil {
		return "", err
	}
	number, err := choose(taken, o.Description)
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("Boot%04X", number)
	if err := v.write(name, o.Encode()); err != nil {
		return "", err
	}
	order, err := v.order()
	if err != nil {
		return "", err
	}
	order = slices.DeleteFunc(order, func(n uint16) bool { return n == number })
	order = append([]uint16{number}, order...)
	var value []byte
	for _, n := range order {
		value = binary.LittleEndian.AppendUint16(value, n)
	}
	return name, v.write("BootOrder", value)
}

func (v Vars) order() ([]uint16, error) {
	value, err := v.read("BootOrder")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var order []uint16
	for ; len(value) >= 2; value = value[2:] {
		order = append(order, binary.LittleEndian.Uint16(value))
	}
	return order, nil
}

var bootName = regexp.MustCompile(`^Boot([0-9A-F]{4})-` + globalVariable + `$`)

// entries returns the descriptions of the boot entries by their numbers.
func (v Vars) entries() (map[uint16]string, error) {
	files, err := os.ReadDir(v.Dir)
	if err != nil {
		return nil, fmt.Errorf("list firmware variables: %w", err)
	}
	found := map[uint16]string{}
	for _, f := range files {
		m := bootName.FindStringSubmatch(f.Name())
		if m == nil {
			continue
		}
		number, err := strconv.ParseUint(m[1], 16, 16)
		if err != nil {
			continue
		}
		found[uint16(number)] = ""
		if value, err := v.read("Boot" + m[1]); err == nil {
			found[uint16(number)], _ = description(value) // "" is nobody's
		}
	}
	return found, nil
}

// choose returns our entry's number, or the first that is free.
func choose(taken map[uint16]string, ours string) (uint16, error) {
	free, found := uint16(0), false
	for n := range 0x10000 {
		number := uint16(n) // counted to 0xffff
		text, used := taken[number]
		if used && text == ours {
			return number, nil
		}
		if !used && !found {
			free, found = number, true
		}
	}
	if !found {
		return 0, errors.New("no boot entry is free")
	}
	return free, nil
}

func (v Vars) file(name string) string { return filepath.Join(v.Dir, name+"-"+globalVariable) }

func (v Vars) read(name string) ([]byte, error) {
	b, err := os.ReadFile(v.file(name))
	if err != nil {
		return nil, fmt.Errorf("read firmware variable: %w", err)
	}
	if len(b) < 4 {
		return nil, fmt.Errorf("read firmware variable %s: %d bytes", name, len(b))
	}
	return b[4:], nil
}

// write sets a variable in one write, as efivarfs wants it. The kernel
// protects variables by the immutable flag, which goes first.
func (v Vars) write(name string, value []byte) error {
	if err := mutable(v.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write firmware variable %s: %w", name, err)
	}
	b := append(binary.LittleEndian.AppendUint32(nil, attributes), value...)
	f, err := os.OpenFile(v.file(name), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write firmware variable: %w", err)
	}
	if _, err := f.Write(b); err != nil {
		_ = f.Close()
		return fmt.Errorf("write firmware variable: %w", err)
	}
	return f.Close()
}

// immutable is FS_IMMUTABLE_FL of linux/fs.h.
const immutable = 0x10

func mutable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		return nil // no such flags here, so nothing protects it
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^immutable))
}
