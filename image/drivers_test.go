package image

import (
	"slices"
	"testing"
)

const modulesDep = `kernel/drivers/net/ethernet/intel/e1000/e1000.ko:
kernel/drivers/net/ethernet/intel/igb/igb.ko: kernel/drivers/i2c/algos/i2c-algo-bit.ko kernel/drivers/dca/dca.ko
kernel/drivers/i2c/algos/i2c-algo-bit.ko:
kernel/drivers/dca/dca.ko:
kernel/drivers/net/wireless/ath/ath.ko: kernel/net/wireless/cfg80211.ko
kernel/net/wireless/cfg80211.ko:
kernel/drivers/scsi/scsi_debug.ko: kernel/drivers/scsi/scsi_mod.ko
kernel/drivers/scsi/scsi_mod.ko:
`

func TestDriversComeWithWhatTheyDependOn(t *testing.T) {
	tests := map[string]struct {
		list string
		want []string
	}{
		"a folder": {"drivers/net/ethernet # all", []string{
			"kernel/drivers/dca/dca.ko", "kernel/drivers/i2c/algos/i2c-algo-bit.ko",
			"kernel/drivers/net/ethernet/intel/e1000/e1000.ko", "kernel/drivers/net/ethernet/intel/igb/igb.ko",
		}},
		"a folder less one":      {"drivers/scsi\n!drivers/scsi/scsi_debug.ko\n", []string{"kernel/drivers/scsi/scsi_mod.ko"}},
		"left out but needed":    {"drivers/scsi\n!drivers/scsi/scsi_mod.ko\n", []string{"kernel/drivers/scsi/scsi_debug.ko", "kernel/drivers/scsi/scsi_mod.ko"}},
		"half a name is no name": {"drivers/net/eth\n", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := parseModuleSet(tt.list).pick(parseModulesDep(modulesDep))
			if !slices.Equal(got, tt.want) {
				t.Errorf("picked %q, want %q", got, tt.want)
			}
		})
	}
}
