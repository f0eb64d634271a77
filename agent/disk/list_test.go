package disk

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// machine writes files as the kernel shows them; a name that ends in "@" is
// a link.
func machine(t *testing.T, files map[string]string) System {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		target := filepath.Join(root, strings.TrimSuffix(name, "@"))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(name, "@") {
			err = os.Symlink(text, target)
		} else {
			err = os.WriteFile(target, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return System{Root: root}
}

// rack is a machine with one disk of each kind that we name differently.
var rack = map[string]string{
	"sys/block/vda/size":              "614400\n",
	"sys/block/vda/serial":            "DISK 01",
	"sys/block/vda/queue/rotational":  "1\n",
	"sys/block/vda/vda1/partition":    "1\n",
	"sys/block/vda/vda1/start":        "2048\n",
	"sys/block/vda/vda1/size":         "65536\n",
	"sys/block/sda/size":              "1000\n",
	"sys/block/sda/device/wwid":       "naa.5000c500a1b2c3d4\n",
	"sys/block/sda/device/vendor":     "SEAGATE \n",
	"sys/block/sda/device/model":      "ST4000NM0023    \n",
	"sys/block/sda/device/vpd_pg80":   "\x00\x80\x00\x08Z1Z0ABCDjunk",
	"sys/block/sda/removable":         "0\n",
	"sys/block/sdb/size":              "1000\n",
	"sys/block/sdb/device/wwid":       "t10.ATA     QEMU HARDDISK                           QM00001 \n",
	"sys/block/sdc/size":              "1000\n",
	"sys/block/sdc/removable":         "1\n",
	"sys/block/nvme0n1/size":          "2000\n",
	"sys/block/nvme0n1/wwid":          "eui.0025385b71b00c2d\n",
	"sys/block/nvme0n1/device/serial": "S466NX0M\n",
	"sys/block/nvme0n1/device/model":  "Samsung SSD 970\n",
	"sys/block/nvme0c0n1/size":        "2000\n",
	"sys/block/nvme0c0n1/hidden":      "1\n",
	"sys/block/sr0/size":              "1000\n",
	"sys/block/loop0/size":            "1000\n",
	"sys/block/md127/size":            "1000\n",
	"sys/block/mmcblk0boot0/size":     "1000\n",
	"sys/block/fd0/size":              "8\n",
	"sys/block/vdb/size":              "0\n",
	"sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:1:0/block/sdd/size": "5000\n",
	"sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:1:0/block/sdd/ro":   "1\n",
	"sys/block/sdd@": "../devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:1:0/block/sdd",
	"proc/mounts":    "proc /proc proc rw 0 0\n",
}

func TestDisksHaveStableNames(t *testing.T) {
	found, err := machine(t, rack).List()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range found {
		got = append(got, d.Name+" "+d.ID+" "+d.Serial+" "+d.Model)
	}
	want := []string{
		"nvme0n1 nvme-eui.0025385b71b00c2d S466NX0M Samsung SSD 970",
		"sdd path-pci-0000:00:1f.2-scsi-0:1:0  ",
		"sdc path-sdc  ",
		"sdb scsi-ATA_QEMU_HARDDISK_QM00001  ",
		"vda virtio-DISK_01 DISK 01 ",
		"sda wwn-0x5000c500a1b2c3d4 Z1Z0ABCD ST4000NM0023",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("List =\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	vda := found[slices.IndexFunc(found, func(d Device) bool { return d.Name == "vda" })]
	if vda.Bytes != 614400*512 || !vda.Rotational || len(vda.Parts) != 1 || vda.Parts[0].First != 1<<20 || vda.Parts[0].Size != 32<<20 {
		t.Errorf("vda = %+v", vda)
	}
}

func TestOnlyThePlannedDiskIsTouched(t *testing.T) {
	good := api.DiskOrder{ID: "virtio-DISK_01", Serial: "DISK 01", Bytes: 614400 * 512, MinBytes: 1 << 20}
	tests := map[string]struct {
		order func(*api.DiskOrder)
		add   map[string]string
		want  fault.Code
	}{
		"the planned disk":           {func(*api.DiskOrder) {}, nil, ""},
		"a size that nobody planned": {func(o *api.DiskOrder) { o.Bytes = 0 }, nil, ""},
		"another disk":               {func(o *api.DiskOrder) { o.ID = "virtio-DISK02" }, nil, fault.DiskOther},
		"another serial":             {func(o *api.DiskOrder) { o.Serial = "DISK 02" }, nil, fault.DiskOther},
		"no serial where one was":    {func(o *api.DiskOrder) { o.Serial = "" }, nil, fault.DiskOther},
		"another size":               {func(o *api.DiskOrder) { o.Bytes++ }, nil, fault.DiskOther},
		"too small for the image":    {func(o *api.DiskOrder) { o.MinBytes = 1 << 40 }, nil, fault.DiskSmall},
		"a removable disk":           {func(o *api.DiskOrder) { *o = api.DiskOrder{ID: "path-sdc"} }, nil, fault.DiskOther},
		"a read-only disk":           {func(o *api.DiskOrder) { *o = api.DiskOrder{ID: "path-pci-0000:00:1f.2-scsi-0:1:0"} }, nil, fault.DiskReadOnly},
		"a mounted disk":             {func(*api.DiskOrder) {}, map[string]string{"proc/mounts": "/dev/vda1 /mnt ext4 rw 0 0\n"}, fault.DiskBusy},
		"a disk that is swapped to":  {func(*api.DiskOrder) {}, map[string]string{"proc/swaps": "Filename Type\n/dev/vda1 partition 1 0 -2\n"}, fault.DiskBusy},
		"a part of an array":         {func(*api.DiskOrder) {}, map[string]string{"sys/block/vda/vda1/holders/md0": ""}, fault.DiskBusy},
		"a disk with a holder":       {func(*api.DiskOrder) {}, map[string]string{"sys/block/vda/holders/dm-0": ""}, fault.DiskBusy},
		"two disks of the same name": {func(*api.DiskOrder) {}, map[string]string{"sys/block/vdx/size": "1", "sys/block/vdx/serial": "DISK 01"}, fault.DiskOther},
		"a disk beside the mounted":  {func(*api.DiskOrder) {}, map[string]string{"proc/mounts": "/dev/vdab /mnt ext4 rw 0 0\n"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			files := maps.Clone(rack)
			maps.Copy(files, tt.add)
			order := good
			tt.order(&order)
			_, err := machine(t, files).Check(order)
			if fault.CodeOf(err) != tt.want {
				t.Errorf("Check = %v (%s), want %s", err, fault.CodeOf(err), tt.want)
			}
			if tt.want == "" && err != nil {
				t.Errorf("Check = %v", err)
			}
		})
	}
}

func TestMachineWithoutDisksSaysSo(t *testing.T) {
	_, err := machine(t, map[string]string{"sys/block/loop0/size": "5"}).Check(api.DiskOrder{ID: "x"})
	if fault.CodeOf(err) != fault.DiskNone {
		t.Errorf("Check = %v, want %s", err, fault.DiskNone)
	}
	if !strings.Contains(err.Error(), "no disk") || errors.Unwrap(err) == nil {
		t.Errorf("the text is %q", err)
	}
}
