package image

import (
	"bufio"
	"bytes"
	"context"
	"debug/pe"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

// The tests in this file build the real things and start machines from them.
// They need root, the packages in toolPackages, qemu-system-x86, ovmf and
// seabios, and Debian's mirror.

// stateEnv names the state folder of `make images`, so that its downloads are
// used again and its image is one of the two that are compared.
const stateEnv = "PROVISION_TEST_STATE"

func testCache(t *testing.T) string {
	t.Helper()
	if state := os.Getenv(stateEnv); state != "" {
		return filepath.Join(state, "cache")
	}
	return t.TempDir()
}

// buildProgram compiles a static program.
func buildProgram(t *testing.T, pkg string) string { return buildProgramFor(t, pkg, AMD64) }

func buildProgramFor(t *testing.T, pkg, arch string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, said)
	}
	return out
}

func testAgent(t *testing.T) string {
	t.Helper()
	if state := os.Getenv(stateEnv); state != "" {
		made := filepath.Join(filepath.Dir(state), "bin/provision-agent")
		if _, err := os.Stat(made); err == nil {
			return made
		}
	}
	return buildProgram(t, "../cmd/agent")
}

func buildTestImage(t *testing.T, agent, cache string, fresh bool) DebianInfo {
	t.Helper()
	info, err := BuildDebian(t.Context(), DebianOptions{
		Agent: agent, Out: filepath.Join(t.TempDir(), "debian-12.raw"), CacheDir: cache, Fresh: fresh, Log: testLog(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// otherBuild is an image of the same packages and agent, built before this one.
func otherBuild(t *testing.T, built DebianInfo, agent, cache string) (digest string) {
	t.Helper()
	state := os.Getenv(stateEnv)
	if state == "" {
		return buildTestImage(t, agent, cache, false).Digest
	}
	s, err := Open(filepath.Join(state, "images"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Get("debian-12")
	if err != nil || !slices.Equal(info.Packages, built.Packages) {
		t.Logf("no image of the same packages in %s (%v): building another", state, err)
		return buildTestImage(t, agent, cache, false).Digest
	}
	return info.Digest
}

func TestTheImageIsTheSameTwiceAndBoots(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a Debian and starts machines")
	}
	agent, cache := testAgent(t), testCache(t)
	built := buildTestImage(t, agent, cache, true)
	if other := otherBuild(t, built, agent, cache); other != built.Digest {
		t.Errorf("two builds of the same packages are %s and %s", built.Digest, other)
	}
	checkNotes(t, built)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := talkative(t, built.Image, disk); err != nil {
		t.Fatal(err)
	}
	common := []string{"GRUB", "Started provision-agent.service", "API listen on /run/docker.sock", "login:"}
	for name, tt := range map[string]struct {
		machine machine
		want    []string
	}{
		"BIOS":                  {machine{disk: disk}, common},
		"UEFI with Secure Boot": {machine{disk: disk, secureBoot: true}, append([]string{"Kernel is locked down from EFI Secure Boot"}, common...)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, line := range tt.machine.boot(t, tt.want...) {
				for _, bad := range []string{": not found", "Unknown command", "Failed to start", "Dependency failed"} {
					if strings.Contains(line, bad) && !strings.Contains(line, "provision-agent") { // it has no server here
						t.Errorf("the console shows: %s", line)
					}
				}
			}
		})
	}
}

// checkNotes compares what is beside an image with what it is.
func checkNotes(t *testing.T, built DebianInfo) {
	t.Helper()
	sum, err := fileDigest(built.Image)
	if err != nil || "sha256:"+sum != built.Digest {
		t.Errorf("the image is %s (%v), BuildDebian said %s", sum, err, built.Digest)
	}
	note, err := os.ReadFile(built.Image + ".sha256")
	if err != nil || string(note) != sum+"  debian-12.raw\n" {
		t.Errorf("note beside the image: %q, %v", note, err)
	}
	list, err := os.ReadFile(built.Image + ".packages")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(built.Packages, strings.Fields(string(list))); diff != "" {
		t.Errorf("package list beside the image differs:\n%s", diff)
	}
	for _, must := range []string{"docker.io", "cloud-init", "openssh-server", "shim-signed", "linux-image-amd64"} {
		if !slices.ContainsFunc(built.Packages, func(p string) bool { return strings.HasPrefix(p, must+"=") }) {
			t.Errorf("package list lacks %s", must)
		}
	}
}

// talkative copies an image to a disk of 6 GiB and makes it send its journal to
// the console.
func talkative(t *testing.T, from, disk string) error {
	t.Helper()
	if err := makeHole(disk, 6<<30); err != nil {
		return err
	}
	if err := copySparse(disk, 0, from); err != nil {
		return err
	}
	dir := t.TempDir()
	root, cfg := filepath.Join(dir, "root.img"), filepath.Join(dir, "custom.cfg")
	size, err := fileSize(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(cfg, []byte("set provision_args='loglevel=6 systemd.journald.forward_to_console=1'\n"), 0o644); err != nil {
		return err
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("cd /boot/grub\nwrite "+cfg+" custom.cfg\n"), 0o644); err != nil {
		return err
	}
	for _, c := range [][]string{
		{"dd", "if=" + from, "of=" + root, "bs=1M", fmt.Sprintf("skip=%d", rootStart/mib), fmt.Sprintf("count=%d", size/mib-rootStart/mib-1), "conv=sparse"},
		{"debugfs", "-w", "-f", script, root},
	} {
		if _, err := run(t.Context(), c[0], c[1:]...); err != nil {
			return err
		}
	}
	return copySparse(disk, rootStart, root)
}

func TestTheRamdiskBootsInHalfAGigabyte(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a ramdisk and starts a machine")
	}
	cache := testCache(t)
	info, err := BuildRamdisk(t.Context(), RamdiskOptions{
		Agent: buildProgram(t, "./testdata/init"), Out: t.TempDir(), CacheDir: cache, Log: testLog(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := BuildRamdisk(t.Context(), RamdiskOptions{
		Agent: buildProgram(t, "./testdata/init"), Out: t.TempDir(), CacheDir: cache, Log: testLog(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{info.Kernel, again.Kernel}, {info.Initrd, again.Initrd}} {
		sameFiles(t, pair[0], pair[1])
	}
	// The agent takes up to 5 MiB of what is left.
	if total := info.KernelBytes + info.InitrdBytes; total > 31*mib {
		t.Errorf("kernel and ramdisk are %d bytes, want at most 31 MiB", total)
	}
	m := machine{kernel: info.Kernel, initrd: info.Initrd, memory: "512", append: "load=virtio_net,virtio_blk,ixgbe,megaraid_sas,mlx5_core,nvme,ext4,ipmi_si"}
	for _, line := range m.boot(t, "INIT done") {
		if strings.Contains(line, "INIT load") && !strings.HasSuffix(strings.TrimSpace(line), " ok") && !strings.Contains(line, "no such device") {
			t.Error(line)
		}
	}
}

func TestARamdiskForARM64IsBuiltHere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a ramdisk")
	}
	amd64 := buildProgram(t, "./testdata/init")
	o := RamdiskOptions{Arch: ARM64, Agent: amd64, Out: t.TempDir(), CacheDir: testCache(t), Log: testLog(t)}
	if _, err := BuildRamdisk(t.Context(), o); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("BuildRamdisk with an agent for another machine = %v, want invalid", err)
	}
	o.Agent = buildProgramFor(t, "./testdata/init", ARM64)
	info, err := BuildRamdisk(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(info.Kernel) != "vmlinuz-arm64" || filepath.Base(info.Initrd) != "initrd-arm64.img" || info.Modules < 300 {
		t.Errorf("BuildRamdisk = %+v", info)
	}
	kernel, err := pe.Open(info.Kernel)
	if err != nil {
		t.Fatalf("the kernel is no UEFI program: %v", err)
	}
	defer kernel.Close()
	if kernel.Machine != pe.IMAGE_FILE_MACHINE_ARM64 {
		t.Errorf("the kernel is for machine %#x", kernel.Machine)
	}
	if header := kernel.OptionalHeader.(*pe.OptionalHeader64); header.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size == 0 {
		t.Error("the kernel is not signed")
	}
}

func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	one, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Errorf("%s differs when made twice", filepath.Base(a))
	}
}

func TestTheLoadersComeFromDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("downloads a package")
	}
	out := t.TempDir()
	info, err := FetchLoaders(t.Context(), LoaderOptions{Out: out, CacheDir: testCache(t)})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{ // and the first bytes: a program of which machine
		"undionly.kpxe": "", "ipxe.pxe": "", "ipxe.efi": "x64", "snponly.efi": "x64", "shimx64.efi": "x64", "grubx64.efi": "x64",
		"memtest86+x64.bin": "", "memtest86+x64.efi": "x64",
		"ipxe-arm64.efi": "arm64", "shimaa64.efi": "arm64", "grubaa64.efi": "arm64",
		"cd-bios.img": "", "cd-x64.img": "", "cd-arm64.img": "",
	}
	machines := map[string]uint16{"x64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}
	for name, arch := range want {
		if size, err := fileSize(filepath.Join(out, name)); err != nil || size < 50_000 {
			t.Errorf("%s of %s: %d bytes, %v", name, info.Packages, size, err)
		}
		if arch == "" {
			continue
		}
		f, err := pe.Open(filepath.Join(out, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f.Machine != machines[arch] {
			t.Errorf("%s is for machine %#x, want %s", name, f.Machine, arch)
		}
		_ = f.Close()
	}
}

// A machine is a QEMU guest without a network.
type machine struct {
	disk                   string // or:
	kernel, initrd, append string
	memory                 string
	secureBoot             bool
}

// bootDeadline is long: without KVM, on a machine that others use too.
const bootDeadline = 5 * time.Minute

// boot starts the machine, waits until its console has shown all that is
// wanted, in any order, switches it off and returns the lines that it wrote.
func (m machine) boot(t *testing.T, want ...string) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootDeadline)
	defer cancel()
	runtime.LockOSThread() // a machine ends with the thread that started it
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", m.args(t)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	console, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start QEMU: %v", err)
	}
	defer cmd.Wait() //nolint:errcheck // it was switched off by us
	defer cancel()
	scan := bufio.NewScanner(console)
	scan.Buffer(nil, 1<<20)
	scan.Split(scanConsole)
	for scan.Scan() && len(want) > 0 {
		line := colours.ReplaceAllString(scan.Text(), "")
		lines = append(lines, line)
		want = slices.DeleteFunc(want, func(w string) bool {
			seen := strings.Contains(line, w)
			if seen {
				t.Logf("%6.1f s  %s", time.Since(began).Seconds(), w)
			}
			return seen
		})
	}
	if len(want) > 0 {
		t.Errorf("the machine never said %q; its last words:\n%s\n%s", want, strings.Join(lines[max(0, len(lines)-25):], "\n"), trouble.String())
	}
	return lines
}

// colours are what consoles are painted with.
var colours = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|\r")

// scanConsole splits at line ends, and after a login prompt, which has none.
func scanConsole(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.Index(data, []byte("login: ")); i >= 0 && bytes.IndexByte(data[:i], '\n') < 0 {
		return i + 7, data[:i+7], nil
	}
	return bufio.ScanLines(data, atEOF)
}

func (m machine) args(t *testing.T) []string {
	t.Helper()
	memory := "1536"
	if m.memory != "" {
		memory = m.memory
	}
	args := []string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", memory, "-display", "none",
		"-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none", "-device", "virtio-rng-pci",
	}
	if m.kernel != "" {
		return append(args, "-M", "q35", "-kernel", m.kernel, "-initrd", m.initrd, "-append", "console=ttyS0 quiet panic=-1 "+m.append)
	}
	args = append(args, "-snapshot", "-drive", "if=none,id=disk,format=raw,file="+m.disk, "-device", "virtio-blk-pci,drive=disk,bootindex=1")
	if !m.secureBoot {
		return append(args, "-M", "q35,graphics=off")
	}
	vars := filepath.Join(t.TempDir(), "vars.fd")
	if err := copyFile("/usr/share/OVMF/OVMF_VARS_4M.ms.fd", vars); err != nil {
		t.Fatal(err)
	}
	return append(args, "-M", "q35,smm=on",
		"-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
		"-drive", "if=pflash,format=raw,unit=1,file="+vars)
}

// testLog sends what a build says to the test's log.
func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
