// Command init stands in for the agent in tests of the ramdisk: it loads the
// modules named on the kernel command line, says what it found, and switches
// the machine off.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	for target, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs"} {
		if err := unix.Mount(kind, target, kind, 0, ""); err != nil {
			fmt.Println("INIT mount:", err)
		}
	}
	line, _ := os.ReadFile("/proc/cmdline")
	_, names, _ := strings.Cut(strings.TrimSpace(string(line)), "load=")
	for _, name := range strings.Split(names, ",") {
		fmt.Println("INIT load", name, load(name))
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		fmt.Println("INIT sysinfo:", err)
	}
	fmt.Println("INIT free MiB", info.Freeram*uint64(info.Unit)>>20)
	fmt.Println("INIT done")
	fmt.Println("INIT off:", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

// load loads a module and what it needs, by modules.dep.
func load(name string) string {
	deps, err := filepath.Glob("/lib/modules/*/modules.dep")
	if err != nil || len(deps) != 1 {
		return fmt.Sprint("modules.dep: ", deps, err)
	}
	text, err := os.ReadFile(deps[0])
	if err != nil {
		return err.Error()
	}
	for _, line := range strings.Split(string(text), "\n") {
		file, needs, _ := strings.Cut(line, ":")
		if filepath.Base(file) != name+".ko" {
			continue
		}
		files := append([]string{file}, strings.Fields(needs)...)
		for i := len(files) - 1; i >= 0; i-- {
			if err := insert(filepath.Join(filepath.Dir(deps[0]), files[i])); err != nil {
				return files[i] + ": " + err.Error()
			}
		}
		return "ok"
	}
	return "unknown"
}

func insert(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}
