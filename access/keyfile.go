package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rackstage/provision/fleet"
)

func keyFault(file, hint string, err error) error {
	return &fleet.Error{Kind: fleet.Internal, Code: "E-KEY", Op: "read keys", On: file, Hint: hint, Err: err}
}

// readPrivate reads a file that only we may read. One that others can read
// is no secret any more, and using it in silence would hide that.
func readPrivate(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, keyFault(name, "", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, keyFault(name, "find out who read it, then: chmod 600 "+name, fmt.Errorf("others may read it: mode %04o", info.Mode().Perm()))
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, keyFault(name, "", err)
	}
	return raw, nil
}

// readGiven reads a file of keys that somebody else looks after. systemd lets
// a service's user read its credentials by an ACL, which shows as the group's
// right to read.
func readGiven(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && info.Mode().Perm()&0o037 != 0 {
		err = fmt.Errorf("others may read it: mode %04o", info.Mode().Perm())
	}
	if err != nil {
		return nil, keyFault(name, "give the file that the server was told to take its keys from, readable by its user only", err)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, keyFault(name, "", err)
	}
	return raw, nil
}

// writePrivate writes a file that only we may read, whole or not at all,
// and it is on the disk when it returns.
func writePrivate(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return keyFault(name, "let the user that runs provision write to this directory", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return keyFault(name, "look at the disk: df, dmesg", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
